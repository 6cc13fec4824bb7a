//! Runs code that a model wrote, and reads and writes the files it works on.
//!
//! `probe` finds bubblewrap, the interpreters and the cgroups; `run` drives one job: `arguments` says what the job
//! sees, `syscalls` what it may ask of the kernel, `cgroup` and `kernel::limit` how much it may use. `workspace`
//! is the same directory seen from outside, for tools that read and write files.
//!
//! What holds while a job runs: no network, no environment, no capabilities, no host process in sight; the only
//! writable places are its workspace and a small private `/tmp`. When `run` has returned, its processes are gone.
//! Never here: policy, queues, retries. No file is left on the host outside the workspace.

mod arguments;
mod cgroup;
mod job;
mod kernel;
mod language;
mod output;
mod probe;
mod run;
mod syscalls;
mod workspace;

pub use job::{Error, Job, Limits, Outcome, Report};
pub use language::{Language, UnknownLanguage};
pub use probe::Unavailable;
pub use workspace::{Entry, EntryKind, FileError, PATH_BYTES_MAX, Workspace, Writing};

use std::sync::Arc;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

/// More jobs than this wait for one to end.
pub const RUNS_AT_ONCE_MAX: usize = 64;
/// Longer code is refused before anything starts.
pub const CODE_BYTES_MAX: usize = 1024 * 1024;

/// A place to run jobs in. Cheap to clone; made once, by [`Sandbox::probe`].
#[derive(Clone, Debug)]
pub struct Sandbox {
    host: Arc<probe::Host>,
    slots: Arc<Semaphore>,
}

impl Sandbox {
    /// Looks for what is needed, makes one trial run per language, and clears what killed processes left behind.
    ///
    /// # Errors
    /// Everything that is missing, one line each, with what to do about it.
    pub async fn probe() -> Result<Sandbox, Unavailable> {
        let probed = tokio::task::spawn_blocking(probe::probe).await;
        let host = probed
            .unwrap_or_else(|failure| Err(Unavailable::because(format!("the probe broke: {failure}"))))?;
        Ok(Sandbox { host: Arc::new(host), slots: Arc::new(Semaphore::new(RUNS_AT_ONCE_MAX)) })
    }

    /// The languages whose trial run succeeded.
    pub fn languages(&self) -> &[Language] {
        &self.host.languages
    }

    /// Whether memory and processes are limited for the whole tree (cgroups), or only per process (rlimits).
    pub fn cgroups(&self) -> bool {
        self.host.cgroups.limits_trees()
    }

    /// Runs one job. When this returns, or its future is dropped and a moment has passed, no process of it is left.
    ///
    /// # Errors
    /// Only when the job could not be run; code that fails is a [`Report`].
    pub async fn run(&self, job: Job, cancel: CancellationToken) -> Result<Report, Error> {
        if !self.host.languages.contains(&job.language) {
            return Err(Error::NoSuchLanguage(job.language));
        }
        if job.code.len() > CODE_BYTES_MAX {
            return Err(Error::CodeTooLong { bytes: job.code.len() });
        }
        let slot = tokio::select! {
            biased;
            () = cancel.cancelled() => return Ok(Report::cancelled_before_it_started()),
            slot = Arc::clone(&self.slots).acquire_owned() => slot.map_err(|_| Error::Lost)?,
        };
        let stop = Arc::new(kernel::Event::new().map_err(|source| Error::start("an event", source))?);
        // Dropping this future must end the job as surely as the token does.
        let _stop_on_drop = StopOnDrop(Arc::clone(&stop));
        let host = Arc::clone(&self.host);
        let heard = Arc::clone(&stop);
        let (answer, mut answered) = oneshot::channel();
        // A thread of its own: bubblewrap dies with the thread that started it, and the runtime's threads come and go.
        std::thread::Builder::new()
            .name("sandbox-run".to_owned())
            .spawn(move || {
                let result = run::run(&host, &job, &heard);
                drop(slot);
                // Nobody listens when the future was dropped; the job is over all the same.
                let _ = answer.send(result);
            })
            .map_err(|source| Error::start("a thread", source))?;
        let result = tokio::select! {
            result = &mut answered => result,
            () = cancel.cancelled() => {
                stop.set();
                answered.await
            }
        };
        result.unwrap_or(Err(Error::Lost))
    }
}

struct StopOnDrop(Arc<kernel::Event>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}
