//! The embedded engine: the ledger and a loop that resumes. It keeps no state of its own on disk.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use contracts::RunId;
use futures::{FutureExt, future::BoxFuture};
use tokio::sync::{OwnedRwLockReadGuard, RwLock, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    BACKOFF_MAX, Durable, Ledger, Step, StepError,
    attempts::{Attempts, Gate, insist},
    lanes::{Pass, Turnstile},
    ledger::Recorded,
    simulator::Crashes,
    store::Key,
    unix_ms,
};

/// What steps work with, and who is told when a workflow has ended.
pub trait Worker: Send + Sync + 'static {
    /// Called once the workflow's future is done, also when it failed or panicked, so that its run never hangs.
    fn ended(self: Arc<Self>, run: RunId, outcome: Result<(), StepError>) -> impl Future<Output = ()> + Send;

    /// Whose work a run is. Where not all can work at once, the owners take turns.
    fn lane(&self, _run: RunId) -> impl Future<Output = String> + Send {
        std::future::ready(String::new())
    }
}

/// How often a run that waits for a signal looks for one that nobody told it of.
const SIGNAL_LOOK_AGAIN: Duration = Duration::from_secs(30);
/// The same in the simulator, where nobody tells.
const SIGNAL_LOOK_AGAIN_SIMULATED: Duration = Duration::from_millis(5);

type Workflow<W> = Arc<dyn Fn(Context<W>) -> BoxFuture<'static, Result<(), StepError>> + Send + Sync>;

pub struct Engine<W: Worker> {
    worker: Arc<W>,
    ledger: Ledger,
    workflow: Workflow<W>,
    running: Mutex<HashMap<RunId, Handle>>,
    at_once: Arc<Turnstile>,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

/// How a run at work is reached.
#[derive(Clone)]
struct Handle {
    cancel: CancellationToken,
    signals: watch::Sender<()>,
}

impl<W: Worker> fmt::Debug for Engine<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("embedded::Engine").field("running", &self.lock().len()).finish_non_exhaustive()
    }
}

impl<W: Worker> Engine<W> {
    pub fn new<F, Fut>(worker: Arc<W>, ledger: Ledger, at_once: usize, workflow: F) -> Arc<Self>
    where
        F: Fn(Context<W>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), StepError>> + Send + 'static,
    {
        Arc::new(Self {
            worker,
            ledger,
            workflow: Arc::new(move |context| Box::pin(workflow(context))),
            running: Mutex::default(),
            at_once: Turnstile::new(at_once),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// Starts or resumes a run. A run that is at work already is left alone.
    pub fn start(self: &Arc<Self>, run: RunId) {
        let handle = Handle { cancel: CancellationToken::new(), signals: watch::Sender::default() };
        match self.lock().entry(run) {
            std::collections::hash_map::Entry::Occupied(_) => return,
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(handle.clone()),
        };
        let engine = Arc::clone(self);
        self.tasks.spawn(async move { engine.drive(run, handle).await });
    }

    /// Wakes a run that waits for a signal, after [`super::signal`] was committed. A run that is not at work here looks
    /// for its signals when it is started.
    pub fn signalled(&self, run: RunId) {
        if let Some(handle) = self.lock().get(&run) {
            handle.signals.send_replace(());
        }
    }

    /// Cancels a run that is at work here. Its unfinished step ends, and its next ones fail as cancelled.
    pub fn cancel(&self, run: RunId) {
        if let Some(handle) = self.lock().get(&run) {
            handle.cancel.cancel();
        }
    }

    /// Lets steps under way end, within `bound`, and starts no more; runs go on in the next process.
    pub async fn drain(&self, bound: Duration) {
        self.stopping.cancel();
        self.tasks.close();
        if tokio::time::timeout(bound, self.tasks.wait()).await.is_err() {
            tracing::warn!("some steps did not end in time; they are resumed at the next start");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, Handle>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn drive(self: Arc<Self>, run: RunId, handle: Handle) {
        let lane = self.worker.lane(run).await;
        let turn = Turn { at_once: Arc::clone(&self.at_once), lane, pass: Mutex::default() };
        tokio::select! {
            () = turn.take() => {}
            // It needs no place among those at work to end.
            () = handle.cancel.cancelled() => {}
            () = self.stopping.cancelled() => return,
        }
        let frozen = CancellationToken::new();
        let work = async {
            let recorded = load(&self.ledger, run).await;
            let context = Context::new(
                &self.worker,
                &self.ledger,
                run,
                recorded,
                handle.cancel,
                &self.stopping,
                &frozen,
                Waits { turn: Some(turn), signals: handle.signals },
                None,
            );
            let workflow = Arc::clone(&self.workflow);
            std::panic::AssertUnwindSafe(workflow(context)).catch_unwind().await
        };
        // A run that froze at a step's edge because the process stops is not over.
        let outcome = tokio::select! {
            biased;
            outcome = work => outcome,
            () = frozen.cancelled() => return,
        };
        self.lock().remove(&run);
        let outcome =
            outcome.unwrap_or_else(|_| Err(StepError::failed("panicked", "the workflow's code panicked")));
        Arc::clone(&self.worker).ended(run, outcome).await;
    }
}

/// The ledger's rows of a run; asked for until the database answers.
async fn load(ledger: &Ledger, run: RunId) -> HashMap<u32, Recorded> {
    loop {
        match ledger.load(run).await {
            Ok(recorded) => return recorded,
            Err(error) => {
                tracing::error!(%run, %error, "the run's steps can't be read");
                tokio::time::sleep(BACKOFF_MAX).await;
            }
        }
    }
}

/// A run's place among those that may work at the same time.
pub(super) struct Turn {
    at_once: Arc<Turnstile>,
    lane: String,
    pass: Mutex<Option<Pass>>,
}

impl Turn {
    async fn take(&self) {
        let pass = self.at_once.pass(&self.lane).await;
        *self.pass.lock().unwrap_or_else(PoisonError::into_inner) = Some(pass);
    }

    /// While a run waits, others work in its place.
    fn give_up(&self) {
        drop(self.pass.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// What a run needs to wait for a signal.
#[derive(Default)]
pub(super) struct Waits {
    turn: Option<Turn>,
    signals: watch::Sender<()>,
}

struct Inner<W> {
    run: RunId,
    worker: Arc<W>,
    ledger: Ledger,
    recorded: HashMap<u32, Recorded>,
    next: AtomicU32,
    cancel: CancellationToken,
    stopping: CancellationToken,
    frozen: CancellationToken,
    waits: Waits,
    crashes: Option<Arc<Crashes>>,
    /// Read by each step under way, so that nothing freezes before they have ended.
    under_way: Arc<RwLock<()>>,
}

/// A workflow's context on the embedded engine.
pub struct Context<W> {
    inner: Arc<Inner<W>>,
    shielded: bool,
}

impl<W> fmt::Debug for Context<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("embedded::Context").field("run", &self.inner.run).finish_non_exhaustive()
    }
}

impl<W: Send + Sync + 'static> Context<W> {
    #[expect(clippy::too_many_arguments, reason = "called in two places, each of which has all of them")]
    pub(super) fn new(
        worker: &Arc<W>,
        ledger: &Ledger,
        run: RunId,
        recorded: HashMap<u32, Recorded>,
        cancel: CancellationToken,
        stopping: &CancellationToken,
        frozen: &CancellationToken,
        waits: Waits,
        crashes: Option<Arc<Crashes>>,
    ) -> Self {
        let inner = Inner {
            run,
            worker: Arc::clone(worker),
            ledger: ledger.clone(),
            recorded,
            next: AtomicU32::new(0),
            cancel,
            stopping: stopping.clone(),
            frozen: frozen.clone(),
            waits,
            crashes,
            under_way: Arc::default(),
        };
        Self { inner: Arc::new(inner), shielded: false }
    }

    fn ordinal(&self) -> u32 {
        self.inner.next.fetch_add(1, Ordering::SeqCst)
    }

    fn cancel_token(&self) -> CancellationToken {
        if self.shielded { CancellationToken::new() } else { self.inner.cancel.clone() }
    }

    async fn run_step<S: Step<Worker = W>>(&self, key: Key, step: S) -> Result<S::Output, StepError> {
        let inner = &self.inner;
        let mut recorded = inner.recorded.get(&key.ordinal).cloned();
        loop {
            let number = recorded.as_ref().map_or(0, |row| row.attempt);
            if let Some(recorded) = recorded
                && let Some(output) = recorded.outcome::<S>(&key)?
            {
                return Ok(output);
            }
            let attempts = Attempts {
                worker: Arc::clone(&inner.worker),
                ledger: &inner.ledger,
                key: key.clone(),
                number,
                cancel: self.cancel_token(),
                crashes: inner.crashes.clone(),
                gate: inner.as_ref(),
                // One process has all the runs: who was at a step before is gone.
                leased: false,
            };
            match attempts.make(step.clone()).await {
                // A write of an attempt that was dropped for being late came in between: look again.
                Err(StepError::Superseded) => tokio::time::sleep(S::OPTIONS.backoff).await,
                ended => return ended,
            }
            recorded = insist(|| inner.ledger.lookup(key.run, key.ordinal)).await?;
        }
    }

    /// Records a value that must be the same at every replay.
    async fn record<T>(&self, key: Key, value: impl FnOnce() -> T + Send) -> Result<T, StepError>
    where
        T: serde::Serialize + serde::de::DeserializeOwned + Clone + Send + 'static,
    {
        let inner = &self.inner;
        if let Some(recorded) = inner.recorded.get(&key.ordinal) {
            return recorded.value(&key);
        }
        inner.freeze_if_stopping().await;
        let value = value();
        let text = serde_json::to_string(&value).map_err(|error| StepError::failed("step_output", error))?;
        match insist(|| inner.ledger.complete(key.clone(), 0, text.clone(), |_| Box::pin(async { Ok(()) })))
            .await
        {
            Ok(()) => Ok(value),
            // A write whose answer was lost came first: what it recorded holds.
            Err(StepError::Superseded) => match insist(|| inner.ledger.lookup(key.run, key.ordinal)).await? {
                Some(recorded) => recorded.value(&key),
                None => Err(StepError::Superseded),
            },
            Err(error) => Err(error),
        }
    }
}

impl<W> Inner<W> {
    fn now(&self) -> i64 {
        self.crashes.as_ref().map_or_else(unix_ms, |crashes| crashes.now())
    }

    /// While the process stops, a run halts here, between two steps; once none of its steps is under way any more,
    /// its task ends.
    async fn freeze_if_stopping(&self) {
        if self.stopping.is_cancelled() {
            self.freeze::<()>().await;
        }
    }

    async fn freeze<T>(&self) -> T {
        let _none_under_way = self.under_way.write().await;
        self.frozen.cancel();
        std::future::pending().await
    }
}

impl<W: Send + Sync> Gate for Inner<W> {
    type Pass = OwnedRwLockReadGuard<()>;

    async fn pass(&self) -> Self::Pass {
        self.freeze_if_stopping().await;
        Arc::clone(&self.under_way).read_owned().await
    }
}

impl<W: Send + Sync + 'static> Durable for Context<W> {
    type Worker = W;

    fn run_id(&self) -> RunId {
        self.inner.run
    }

    fn step<S: Step<Worker = W>>(&self, step: S) -> impl Future<Output = Result<S::Output, StepError>> {
        let key = Ledger::key(self.inner.run, self.ordinal(), &step);
        async move { self.run_step(key?, step).await }
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = Result<(), StepError>> {
        let key = Ledger::plain_key(self.inner.run, self.ordinal(), "sleep", &time.as_millis().to_le_bytes());
        self.sleep_until_due(key, time)
    }

    fn wait_signal(&self, name: &str) -> impl Future<Output = Result<(), StepError>> {
        let key = Ledger::plain_key(self.inner.run, self.ordinal(), "wait_signal", name.as_bytes());
        self.wait_until_signalled(key, name.to_owned())
    }

    fn now(&self) -> impl Future<Output = Result<i64, StepError>> {
        let key = Ledger::plain_key(self.inner.run, self.ordinal(), "now", &[]);
        self.record(key, || self.inner.now())
    }

    fn random(&self) -> impl Future<Output = Result<u64, StepError>> {
        let key = Ledger::plain_key(self.inner.run, self.ordinal(), "random", &[]);
        self.record(key, rand::random::<u64>)
    }

    fn shielded(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), shielded: true }
    }
}

impl<W: Send + Sync + 'static> Context<W> {
    /// The row of a sleep is open until it is over, so that a replay knows whether it was cut short.
    async fn sleep_until_due(&self, key: Key, time: Duration) -> Result<(), StepError> {
        let inner = &self.inner;
        let wait_ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let recorded = match inner.recorded.get(&key.ordinal) {
            Some(recorded) => recorded.clone(),
            None => {
                inner.freeze_if_stopping().await;
                let due = inner.now().saturating_add(wait_ms);
                insist(|| inner.ledger.sleep(key.clone(), due)).await?
            }
        };
        let Some(due) = recorded.sleep(&key)? else { return Ok(()) };
        let cancel = self.cancel_token();
        if let Some(crashes) = &inner.crashes {
            crashes.pass(key.ordinal, super::Crash::Begun).await;
            crashes.advance_to(due);
        }
        let left = Duration::from_millis(u64::try_from(due - inner.now()).unwrap_or(0));
        tokio::select! {
            biased;
            () = cancel.cancelled() => {
                insist(|| inner.ledger.cancel(key.clone())).await?;
                Err(StepError::Cancelled)
            }
            () = tokio::time::sleep(left) => {
                match insist(|| inner.ledger.wake(key.clone(), due)).await {
                    // A write whose answer was lost has closed the row before.
                    Err(StepError::Superseded) => Ok(()),
                    woken => woken,
                }
            }
            () = inner.stopping.cancelled() => inner.freeze().await,
        }
    }
}

impl<W: Send + Sync + 'static> Context<W> {
    /// The row of the wait is open until it is over. The run gives up its place among those at work meanwhile.
    async fn wait_until_signalled(&self, key: Key, name: String) -> Result<(), StepError> {
        let inner = &self.inner;
        if let Some(recorded) = inner.recorded.get(&key.ordinal)
            && recorded.received(&key)?
        {
            return Ok(());
        }
        let cancel = self.cancel_token();
        // Before the first look, so that no signal falls between a look and the wait for the next.
        let mut signals = inner.waits.signals.subscribe();
        let mut waited = false;
        loop {
            inner.freeze_if_stopping().await;
            if cancel.is_cancelled() {
                let closed = insist(|| inner.ledger.cancel(key.clone())).await?;
                return match closed {
                    Some(recorded) if recorded.received(&key)? => Ok(()),
                    _ => Err(StepError::Cancelled),
                };
            }
            if let Some(crashes) = &inner.crashes {
                crashes.pass(key.ordinal, super::Crash::Before).await;
            }
            if insist(|| inner.ledger.receive(key.clone(), name.clone())).await? {
                break;
            }
            if let Some(turn) = &inner.waits.turn
                && !waited
            {
                turn.give_up();
            }
            waited = true;
            let look_again =
                if inner.crashes.is_some() { SIGNAL_LOOK_AGAIN_SIMULATED } else { SIGNAL_LOOK_AGAIN };
            tokio::select! {
                _ = signals.changed() => {}
                () = cancel.cancelled() => {}
                () = inner.stopping.cancelled() => {}
                () = tokio::time::sleep(look_again) => {}
            }
        }
        if let Some(crashes) = &inner.crashes {
            crashes.pass(key.ordinal, super::Crash::Recorded).await;
        }
        if let Some(turn) = inner.waits.turn.as_ref().filter(|_| waited) {
            tokio::select! {
                () = turn.take() => {}
                () = cancel.cancelled() => {}
                () = inner.stopping.cancelled() => inner.freeze().await,
            }
        }
        Ok(())
    }
}
