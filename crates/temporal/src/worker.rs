//! The worker's side: polls the queue and does what it gets.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use platform::durable::Ledger;
use temporalio_client::Client;
use temporalio_sdk::{
    Runtime, Worker, WorkerOptions,
    runtime::{
        RuntimeOptions, WorkflowErrorType,
        worker_tuner::{FixedSizeSlotSupplier, TunerHolder},
    },
};
use tokio::{runtime::Handle, sync::oneshot, task::JoinSet, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    activity::{Ended, HEARTBEAT, Implementer},
    connection::Config,
    deployment,
    host::{Apart, Host, Hosted, Queue, Steps},
};

/// Steps under way when the worker is told to stop may take this long; then they are left to another worker.
const DRAIN: Duration = Duration::from_secs(20);
/// Waits before the server is tried again.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A workflow's next turn waits this long for the worker that has it in memory, and then goes to any other.
const STICKY_WAIT: Duration = Duration::from_secs(2);
/// Workflows kept in memory.
const WORKFLOWS_KEPT: usize = 500;
/// Steps after which an inner worker is replaced: SDK 1.1 keeps a few hundred bytes of each for as long as it lives
/// (`task_tokens_to_cancels` only grows), so this bounds the loss to some tens of megabytes.
const LIFE_STEPS: u64 = 100_000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the workflow worker can't be set up: {0}")]
    Setup(String),
}

/// What of a workflow a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    All,
    /// The workflow, and the steps that are its own.
    Workflows,
    /// The steps that are done apart.
    Apart,
}

/// Works on the queues of `part` until `stop` fires, then lets steps under way end. A server that is away is waited for.
///
/// `concurrency` bounds the steps at once, on each queue. Ends early only if `H` can't be hosted at all.
pub async fn run_worker<H: Host>(
    config: Config,
    worker: Arc<H::Worker>,
    ledger: Ledger,
    stop: CancellationToken,
    concurrency: usize,
    part: Part,
) -> Result<(), Error> {
    run_worker_for::<H>(config, worker, ledger, stop, concurrency, part, LIFE_STEPS).await
}

/// [`run_worker`] whose inner workers are replaced after `life` steps, for tests.
#[doc(hidden)]
pub async fn run_worker_for<H: Host>(
    config: Config,
    worker: Arc<H::Worker>,
    ledger: Ledger,
    stop: CancellationToken,
    concurrency: usize,
    part: Part,
    life: u64,
) -> Result<(), Error> {
    let on = |queue| {
        let (config, worker, ledger) = (config.clone(), Arc::clone(&worker), ledger.clone());
        work::<H>(Hosting { config, worker, ledger, stop: stop.clone(), concurrency, queue, life })
    };
    match part {
        Part::Workflows => on(Queue::Own).await,
        Part::Apart => on(Queue::Apart).await,
        Part::All => tokio::try_join!(on(Queue::Own), on(Queue::Apart)).map(|_| ()),
    }
}

/// Works on one queue.
async fn work<H: Host>(host: Hosting<H::Worker>) -> Result<(), Error> {
    let stop = host.stop.clone();
    let mut retired = JoinSet::new();
    let mut backoff = BACKOFF_MIN;
    while !stop.is_cancelled() {
        let started = Instant::now();
        match host.config.connect().await {
            Ok(client) => {
                let promoted = host.promoted::<H>(client.clone());
                let mut thread = host.start::<H>(client)?;
                tokio::select! {
                    ran = &mut thread.done => failed(ran)?,
                    () = thread.retire.cancelled() => {
                        retired.spawn(thread.ended());
                        continue;
                    }
                    () = promoted => {}
                }
            }
            Err(error) => {
                tracing::error!(%error, address = host.config.server.address, "the workflow server can't be reached");
            }
        }
        if started.elapsed() > BACKOFF_MAX {
            backoff = BACKOFF_MIN;
        }
        tokio::select! {
            () = tokio::time::sleep(backoff) => {}
            () = stop.cancelled() => {}
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
    retired.join_all().await.into_iter().collect()
}

/// Logs what a thread failed with; an `Err` is a failure that a new one would have too.
fn failed(ran: Result<Result<(), Ran>, oneshot::error::RecvError>) -> Result<(), Error> {
    match ran {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(Ran::Setup(error))) => return Err(Error::Setup(error)),
        Ok(Err(Ran::Failed(error))) => {
            tracing::error!(error, "the workflow worker failed and is started anew")
        }
        Err(_) => tracing::error!("the workflow worker's thread panicked and is started anew"),
    }
    Ok(())
}

enum Ran {
    Setup(String),
    Failed(String),
}

/// What each inner worker is made of.
struct Hosting<W> {
    config: Config,
    worker: Arc<W>,
    ledger: Ledger,
    stop: CancellationToken,
    concurrency: usize,
    queue: Queue,
    life: u64,
}

/// Workflows are not `Send`, so they have a thread; steps run on the caller's runtime.
struct Thread {
    done: oneshot::Receiver<Result<(), Ran>>,
    /// Fires when the thread takes nothing more, and another is to be started.
    retire: CancellationToken,
    /// Ends the thread if nobody waits for it any more.
    _stop: DropGuard,
}

impl Thread {
    async fn ended(mut self) -> Result<(), Error> {
        failed((&mut self.done).await)
    }
}

impl<W: Send + Sync + 'static> Hosting<W> {
    /// Has new runs begin on this worker's version, where there are versions; and does not end.
    async fn promoted<H: Host<Worker = W>>(&self, client: Client) {
        if let Some(deployment) = &self.config.deployment {
            deployment::promote(client, deployment, H::VERSION).await;
        }
        std::future::pending().await
    }

    fn start<H: Host<Worker = W>>(&self, client: Client) -> Result<Thread, Error> {
        let stop = self.stop.child_token();
        let implementer = Arc::new(Implementer {
            worker: Arc::clone(&self.worker),
            ledger: self.ledger.clone(),
            halt: CancellationToken::new(),
            left: AtomicU64::new(self.life),
            retire: CancellationToken::new(),
        });
        let (halt, retire) = (implementer.halt.clone(), implementer.retire.clone());
        let options =
            options::<H>(&self.config, implementer, self.concurrency, self.queue).map_err(Error::Setup)?;
        let (tell, done) = oneshot::channel();
        let handle = Handle::current();
        let thread = Thread { done, retire: retire.clone(), _stop: stop.clone().drop_guard() };
        std::thread::Builder::new()
            .name(format!("workflow-{}", H::NAME))
            .spawn(move || drop(tell.send(handle.block_on(poll(client, options, stop, retire, halt)))))
            .map_err(|error| Error::Setup(error.to_string()))?;
        Ok(thread)
    }
}

fn options<H: Host>(
    config: &Config,
    implementer: Arc<Implementer<H::Worker>>,
    concurrency: usize,
    queue: Queue,
) -> Result<WorkerOptions, String> {
    let slots = || FixedSizeSlotSupplier::new(concurrency.max(1));
    let tuner = TunerHolder::builder()
        .workflow_task_slot_supplier(slots())
        .activity_task_slot_supplier(slots())
        .local_activity_task_slot_supplier(slots())
        .nexus_task_slot_supplier(FixedSizeSlotSupplier::new(1))
        .build();
    let name = match queue {
        Queue::Own => &config.task_queue,
        Queue::Apart => &config.apart_queue,
    };
    let mut options = WorkerOptions::new(name.clone())
        .tuner(tuner)
        .max_cached_workflows(WORKFLOWS_KEPT)
        .sticky_queue_schedule_to_start_timeout(STICKY_WAIT)
        .max_heartbeat_throttle_interval(HEARTBEAT / 2)
        .deployment_options(deployment::options(config.deployment.as_deref(), H::VERSION))
        // A workflow whose code has changed fails; it would be tried for ever else, and its run never end.
        .workflow_failure_errors(HashSet::from([WorkflowErrorType::Nondeterminism]))
        .build();
    if queue == Queue::Own {
        options.register_activity::<Ended<H::Worker>>(Arc::clone(&implementer));
    }
    let mut steps = Steps { implementer, options: &mut options, queue, apart: BTreeSet::new() };
    H::steps(&mut steps);
    if queue == Queue::Own {
        let apart = Arc::new(Apart { steps: steps.apart, queue: config.apart_queue.clone() });
        let hosted = move || Hosted::<H>::new(Arc::clone(&apart));
        options.register_workflow_with_factory(hosted).map_err(|error| error.to_string())?;
    }
    Ok(options)
}

async fn poll(
    client: Client,
    options: WorkerOptions,
    stop: CancellationToken,
    retire: CancellationToken,
    halt: CancellationToken,
) -> Result<(), Ran> {
    let setup = |error: String| Ran::Setup(error);
    let runtime = RuntimeOptions::builder().heartbeat_interval(None).build().map_err(setup)?;
    let runtime = Runtime::from_current_tokio(runtime).map_err(|error| Ran::Setup(error.to_string()))?;
    let mut worker = Worker::new(&runtime, client, options).map_err(|error| Ran::Setup(error.to_string()))?;
    let shutdown = worker.shutdown_handle();
    let draining = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = retire.cancelled() => {}
        }
        shutdown();
        // One that retires lets its steps take their time.
        stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
        halt.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ran = worker.run() => ran.map_err(|error| Ran::Failed(error.to_string())),
        () = draining => Ok(()),
    }
}
