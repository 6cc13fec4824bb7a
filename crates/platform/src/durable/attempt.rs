//! One attempt at one step: how a step's body talks to the ledger.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use contracts::RunId;
use futures::future::BoxFuture;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    Begun, Effect, Ledger, Step, StepError,
    attempts::insist,
    ledger::{Claim, Claimant},
    simulator::Crashes,
    store::Key,
};
use crate::database::Tx;

/// A result that is in the ledger. Only [`Attempt::complete`] makes one.
#[derive(Debug)]
pub struct Completed<T>(T);

/// Between two looks at a step that another process is at.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How far an attempt is, for whoever made it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The ledger was asked to let it begin, and its answer is not known: it may have begun, and has done nothing.
    pub beginning: AtomicBool,
    /// The ledger has given an answer.
    pub answered: AtomicBool,
    /// The ledger has said that it began.
    pub begun: AtomicBool,
    /// Others look whether it is alive.
    pub leased: AtomicBool,
    /// The step is done and its result is being recorded: from then on it is neither late nor cut off.
    pub recording: AtomicBool,
}

#[derive(Debug)]
pub struct Attempt {
    pub(super) key: Key,
    /// The ledger's attempt that this one goes on from, and its own once it began. Shared with whoever made it,
    /// so that a failure is recorded as this attempt's and not as a later one's.
    pub(super) number: Arc<AtomicI64>,
    pub(super) ledger: Ledger,
    pub(super) cancel: CancellationToken,
    pub(super) crashes: Option<Arc<Crashes>>,
    pub(super) claimant: Claimant,
    pub(super) progress: Arc<Progress>,
}

impl Attempt {
    #[must_use]
    pub fn run_id(&self) -> RunId {
        self.key.run
    }

    #[must_use]
    pub fn ordinal(&self) -> u32 {
        self.key.ordinal
    }

    /// The same at every attempt: what an idempotent effect's other side is given.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        format!("{}-{}", self.key.run, self.key.ordinal)
    }

    /// Fires when the run is cancelled. A body that notices ends early, by completing with what it has.
    #[must_use]
    pub fn cancelled(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Records that the step starts, together with `change`. What is not repeatable begins before it does anything. What
    /// may be done once only, and is being done by another process that is alive, is waited for.
    pub async fn begin<F>(&mut self, effect: Effect, change: F) -> Result<Begun, StepError>
    where
        F: for<'a> FnOnce(&'a Tx, Begun) -> BoxFuture<'a, Result<(), StepError>> + Clone + Send + 'static,
    {
        let (begun, number) = loop {
            let claimant = self.claimant.clone();
            self.progress.beginning.store(true, Ordering::SeqCst);
            let asked = self.ledger.begin(self.key.clone(), effect, claimant, change.clone()).await;
            // Where the database went away meanwhile the answer is still to be had.
            if !matches!(asked, Err(StepError::Store { .. })) {
                self.progress.beginning.store(false, Ordering::SeqCst);
                self.progress.answered.store(true, Ordering::SeqCst);
            }
            match asked? {
                Claim::Begun(begun, number) => break (begun, number),
                Claim::Elsewhere => tokio::time::sleep(LOOK_AGAIN).await,
            }
        };
        self.number.store(number, Ordering::SeqCst);
        self.progress.begun.store(true, Ordering::SeqCst);
        let leased = self.claimant.leased && effect == Effect::AtMostOnce;
        self.progress.leased.store(leased, Ordering::SeqCst);
        self.crash_point(super::Crash::Begun).await;
        Ok(begun)
    }

    /// Commits a change of a step under way, such as a piece of a streamed answer; refused once overtaken.
    pub async fn write<T, F>(&self, change: F) -> Result<T, StepError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a Tx) -> BoxFuture<'a, Result<T, StepError>> + Send + 'static,
    {
        self.ledger.write_as(self.key.clone(), self.number(), change).await
    }

    /// Records the result together with `change`: both are there, or neither. A database that is away is waited for, past
    /// the step's time if need be: what the step came to is known here and nowhere else.
    pub async fn complete<T, F>(self, output: T, change: F) -> Result<Completed<T>, StepError>
    where
        T: Serialize + Send + 'static,
        F: for<'a> FnOnce(&'a Tx) -> BoxFuture<'a, Result<(), StepError>> + Clone + Send + 'static,
    {
        let result =
            serde_json::to_string(&output).map_err(|error| StepError::failed("step_output", error))?;
        self.crash_point(super::Crash::Done).await;
        self.progress.recording.store(true, Ordering::SeqCst);
        insist(|| self.ledger.complete(self.key.clone(), self.number(), result.clone(), change.clone()))
            .await?;
        self.crash_point(super::Crash::Recorded).await;
        Ok(Completed(output))
    }

    /// Records the result of a step that changes nothing itself.
    pub async fn finish<T: Serialize + Send + 'static>(self, output: T) -> Result<Completed<T>, StepError> {
        self.complete(output, |_| Box::pin(async { Ok(()) })).await
    }

    fn number(&self) -> i64 {
        self.number.load(Ordering::SeqCst)
    }

    async fn crash_point(&self, crash: super::Crash) {
        if let Some(crashes) = &self.crashes {
            crashes.pass(self.key.ordinal, crash).await;
        }
    }
}

/// One attempt at a step, on any engine. A failure that no attempt can mend is recorded.
pub(super) async fn once<S: Step>(
    step: S,
    worker: Arc<S::Worker>,
    attempt: Attempt,
) -> Result<S::Output, StepError> {
    let (key, number, ledger) = (attempt.key.clone(), Arc::clone(&attempt.number), attempt.ledger.clone());
    match step.run(worker, attempt).await {
        Ok(Completed(output)) => Ok(output),
        Err(StepError::Superseded) => outcome_of_other::<S>(&ledger, &key).await,
        Err(error @ StepError::Failed { .. }) => {
            match insist(|| ledger.fail(key.clone(), number.load(Ordering::SeqCst), &error)).await {
                Ok(()) => Err(error),
                Err(StepError::Superseded) => outcome_of_other::<S>(&ledger, &key).await,
                Err(other) => Err(other),
            }
        }
        Err(error) => Err(error),
    }
}

/// For an attempt that was overtaken: the step's outcome is what the other attempt recorded, if it has ended.
pub(super) async fn outcome_of_other<S: Step>(ledger: &Ledger, key: &Key) -> Result<S::Output, StepError> {
    match insist(|| ledger.lookup(key.run, key.ordinal)).await? {
        Some(recorded) => recorded.outcome::<S>(key)?.ok_or(StepError::Superseded),
        None => Err(StepError::Superseded),
    }
}
