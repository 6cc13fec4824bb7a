//! The thread that owns the model. It starts and loads at the first question, answers one after the other, and is
//! waited for at the end.
//!
//! Nothing here may still compute when the process exits: llama.cpp's C++ statics are destroyed by then, and the
//! process would end in a segmentation fault (seen in one of six runs). So the last one to let go of the worker stops
//! it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use contracts::model::{ChatEvent, ChatRequest, ModelError};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::load::{self, Loaded};
use crate::session::Session;
use crate::{Options, QUEUE_MAX};

pub(crate) type Events = mpsc::Sender<Result<ChatEvent, ModelError>>;

/// One question. Whoever drops the other end of `events` no longer wants an answer.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) request: ChatRequest,
    pub(crate) events: Events,
}

/// The worker as others see it.
#[derive(Debug)]
pub(crate) struct Worker {
    shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    /// Outside the thread, so that tokens are counted without waiting for it.
    loaded: OnceLock<Loaded>,
    stopping: AtomicBool,
}

#[derive(Debug)]
struct Running {
    queue: mpsc::Sender<Job>,
    thread: JoinHandle<()>,
}

impl Worker {
    pub(crate) fn new(options: Options) -> Self {
        let shared = Shared { options, loaded: OnceLock::new(), stopping: AtomicBool::new(false) };
        Self { shared: Arc::new(shared), running: Mutex::default() }
    }

    pub(crate) fn loaded(&self) -> Option<&Loaded> {
        self.shared.loaded.get()
    }

    /// Queues a question. The first one starts the thread, and so does the first after the thread died.
    ///
    /// # Errors
    /// `Unavailable`: the queue is full, or the worker was stopped, or its thread can't start.
    pub(crate) fn send(&self, job: Job) -> Result<(), ModelError> {
        let mut running = self.running();
        if self.shared.stopping.load(Ordering::Relaxed) {
            return Err(ModelError::Unavailable("it was stopped".to_owned()));
        }
        let living = match running.take().filter(|running| !running.queue.is_closed()) {
            Some(living) => living,
            None => start(Arc::clone(&self.shared))
                .map_err(|error| ModelError::Unavailable(format!("its thread can't start: {error}")))?,
        };
        let sent = living.queue.try_send(job);
        *running = Some(living);
        sent.map_err(|error| match error {
            TrySendError::Full(_) => ModelError::Unavailable(format!("{QUEUE_MAX} questions already wait")),
            TrySendError::Closed(_) => ModelError::Unavailable("its thread has ended".to_owned()),
        })
    }

    /// Ends what is being answered and waits for the thread: at most one evaluation, a second or less.
    pub(crate) fn stop(&self) {
        let stopped = {
            let mut running = self.running();
            self.shared.stopping.store(true, Ordering::Relaxed);
            running.take()
        };
        if let Some(Running { queue, thread }) = stopped {
            drop(queue);
            if thread.join().is_err() {
                tracing::error!("the embedded model's thread had panicked");
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

fn start(shared: Arc<Shared>) -> io::Result<Running> {
    let (queue, jobs) = mpsc::channel(QUEUE_MAX);
    let thread = thread::Builder::new().name("llama".to_owned()).spawn(move || work(&shared, jobs))?;
    Ok(Running { queue, thread })
}

fn work(shared: &Shared, mut jobs: mpsc::Receiver<Job>) {
    let mut kept = None;
    while let Some(job) = jobs.blocking_recv() {
        if job.events.is_closed() {
            continue;
        }
        if let Err(error) = answer(&mut kept, shared, &job) {
            tracing::warn!(%error, "a question to the embedded model got no answer");
            // Nobody is told when nobody listens any more.
            let _ = job.events.try_send(Err(error));
        }
    }
}

fn answer<'shared>(
    kept: &mut Option<Session<'shared>>,
    shared: &'shared Shared,
    job: &Job,
) -> Result<(), ModelError> {
    if shared.stopping.load(Ordering::Relaxed) {
        return Err(stopped());
    }
    let mut session = match kept.take() {
        Some(session) => session,
        None => open(shared).map_err(|error| ModelError::Unavailable(error.to_string()))?,
    };
    let outcome = session.answer(&job.request, &job.events);
    // What a context holds after a failed evaluation is unknown, so the next question gets a new one.
    if !matches!(outcome, Err(ModelError::Interrupted(_))) {
        *kept = Some(session);
    }
    outcome
}

/// A failed load is not remembered: the file may be mended, and the next question tries again.
fn open(shared: &Shared) -> Result<Session<'_>, load::Error> {
    let loaded = match shared.loaded.get() {
        Some(loaded) => loaded,
        None => {
            let loaded = load::model(&shared.options)?;
            shared.loaded.get_or_init(|| loaded)
        }
    };
    let context = load::context(&shared.options, loaded)?;
    Ok(Session::new(loaded, context, &shared.options, &shared.stopping))
}

pub(crate) fn stopped() -> ModelError {
    ModelError::Interrupted("the model was stopped".to_owned())
}
