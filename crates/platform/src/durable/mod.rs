//! Durable workflows: ordinary async functions whose every step is recorded, so that they go on after a crash.
//!
//! A workflow is generic over [`Durable`] and awaits only futures of its context. It is written once and runs on the
//! embedded engine, on Temporal (crate `temporal`) and in the simulator that crashes it at every step.
//!
//! The [`Ledger`] has one row a step. An engine that finds a completed row hands out its result and runs nothing; a
//! step that was begun and not completed is run again only if its [`Effect`] allows that. Only ids travel between
//! steps: texts stay in the stores.

mod attempt;
mod attempts;
mod embedded;
mod lanes;
mod ledger;
mod simulator;
mod store;
#[cfg(test)]
mod tests;

use std::{future::Future, sync::Arc, time::Duration};

use contracts::RunId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use attempt::{Attempt, Completed};
pub use attempts::{BACKOFF_MAX, CANCEL_GRACE, execute};
pub use embedded::{Context, Engine, Worker};
pub use ledger::{Begun, Ledger, StepRecord};
pub use simulator::{Crash, Plan, Report as SimulatorReport, simulate};
pub use store::{MIGRATIONS, close_open, signal};

use crate::database;

/// What a step does to the world outside this program's database, and so whether it may be done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Changes nothing outside: reads, model calls. Done again freely.
    Repeatable,
    /// Its change commits together with its row. Done again only if neither is there.
    Transactional,
    /// The other side honours a key, the same at every attempt. Done again freely.
    Idempotent,
    /// Done again only if it never started; else its outcome is unknown and recorded as that.
    AtMostOnce,
}

impl Effect {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Repeatable => "repeatable",
            Self::Transactional => "transactional",
            Self::Idempotent => "idempotent",
            Self::AtMostOnce => "at_most_once",
        }
    }
}

/// Bounds of a step's attempts.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// One attempt may take this long.
    pub timeout: Duration,
    /// Attempts in all, where failures are of the kind that another attempt can mend.
    pub attempts_max: u32,
    /// Wait before the second attempt; doubled for each further one.
    pub backoff: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StepError {
    #[error("cancelled")]
    Cancelled,
    /// Another attempt gets the same: it is not made.
    #[error("{message}")]
    Failed { code: String, message: String },
    /// Another attempt may succeed.
    #[error("{message}")]
    Retry { code: String, message: String },
    /// The database can't be reached, or is full. Tried again until it does what it is asked.
    #[error("{message}")]
    Store { message: String },
    /// A later attempt owns the step: this one's result doesn't count.
    #[error("a later attempt owns this step")]
    Superseded,
    /// The workflow's code asks for another step than the one recorded here.
    #[error(
        "step {ordinal} was recorded as {recorded} and is now {asked}: the workflow's code has changed under a running turn"
    )]
    Diverged { ordinal: u32, recorded: String, asked: String },
}

impl StepError {
    pub fn failed(code: &str, message: impl ToString) -> Self {
        Self::Failed { code: code.to_owned(), message: message.to_string() }
    }

    pub fn retry(code: &str, message: impl ToString) -> Self {
        Self::Retry { code: code.to_owned(), message: message.to_string() }
    }

    /// A short name for records: `cancelled`, `diverged`, or the code that the step gave.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Failed { code, .. } | Self::Retry { code, .. } => code,
            Self::Store { .. } => "database",
            Self::Superseded => "superseded",
            Self::Diverged { .. } => "diverged",
        }
    }
}

impl From<database::Error> for StepError {
    fn from(error: database::Error) -> Self {
        match &error {
            database::Error::Corrupt(_) => Self::failed("database_corrupt", error),
            // The same code panics again, and a broken constraint is broken again by the same change: trying it for ever
            // would hang the run.
            database::Error::Panicked => Self::failed("change_panicked", error),
            refused if refused.is_final() => Self::failed("database_constraint", error),
            _ => Self::Store { message: error.to_string() },
        }
    }
}

/// One step of a workflow. Its fields are its input: ids, never texts.
pub trait Step: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// What steps of this workflow work with.
    type Worker: Send + Sync + 'static;
    type Output: Serialize + DeserializeOwned + Send + Sync + 'static;
    const NAME: &'static str;
    const OPTIONS: Options;

    /// Does the step. It ends by [`Attempt::complete`], which records the result in the same commit as the step's
    /// own changes.
    fn run(
        self,
        worker: Arc<Self::Worker>,
        attempt: Attempt,
    ) -> impl Future<Output = Result<Completed<Self::Output>, StepError>> + Send;
}

/// What a workflow may await.
pub trait Durable {
    type Worker: Send + Sync + 'static;

    fn run_id(&self) -> RunId;

    /// Runs a step, or hands out its recorded result. Ordinals are given when this is called, not when it is
    /// awaited: joined steps keep theirs whatever finishes first.
    fn step<S: Step<Worker = Self::Worker>>(
        &self,
        step: S,
    ) -> impl Future<Output = Result<S::Output, StepError>>;

    /// Waits; the time already waited before a crash counts.
    fn sleep(&self, time: Duration) -> impl Future<Output = Result<(), StepError>>;

    /// Waits, for days if need be, until this run is signalled by this name; a signal that came before counts. The
    /// name is this wait's alone: an id.
    fn wait_signal(&self, name: &str) -> impl Future<Output = Result<(), StepError>>;

    /// Milliseconds since 1970, the same at every replay.
    fn now(&self) -> impl Future<Output = Result<i64, StepError>>;

    /// A random number, the same at every replay.
    fn random(&self) -> impl Future<Output = Result<u64, StepError>>;

    /// The same context, but its steps run although the run is cancelled: to settle and to clean up.
    fn shielded(&self) -> Self;
}

/// A hash of a step's input: the same for the same input, in any process.
pub fn input_hash<S: Step>(step: &S) -> Result<String, StepError> {
    Ok(Ledger::key(RunId::new(), 0, step)?.input_hash)
}

/// Milliseconds since 1970.
#[must_use]
pub fn unix_ms() -> i64 {
    unix_ms_of(std::time::SystemTime::now())
}

#[must_use]
pub fn unix_ms_of(time: std::time::SystemTime) -> i64 {
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
