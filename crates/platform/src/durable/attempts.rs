//! All attempts at one step: which failures another attempt mends, how many are made and how long each may take, and
//! what a step of a cancelled run gets. The same on every engine.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use contracts::RunId;
use tokio_util::sync::CancellationToken;

use super::{
    Attempt, Ledger, Step, StepError,
    attempt::{self, Progress},
    ledger::{Claimant, RENEWAL},
    simulator::Crashes,
    store::Key,
};

/// How long a step may take to end by itself after its run was cancelled.
pub const CANCEL_GRACE: Duration = Duration::from_secs(5);
/// Longest wait between attempts.
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// For how long, after its run was cancelled, it is found out whether a step has begun. Past that it counts as begun.
const DOUBT_MAX: Duration = Duration::from_secs(60);
/// Between two looks at how far a step is.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Wait before the database is asked once more, doubled up to [`BACKOFF_MAX`].
const STORE_BACKOFF: Duration = Duration::from_millis(100);

/// A step on an engine that remembers by itself what is done (Temporal): hands out an outcome that the ledger has,
/// else makes the attempts.
///
/// `cancel` fires when the run is cancelled. The future may be dropped at any await, as a killed process would; the
/// next call goes on from the ledger. `Err(StepError::Superseded)`: a later call owns the step, this one has no say.
pub async fn execute<S: Step>(
    step: S,
    worker: Arc<S::Worker>,
    ledger: &Ledger,
    run: RunId,
    ordinal: u32,
    cancel: CancellationToken,
) -> Result<S::Output, StepError> {
    let key = Ledger::key(run, ordinal, &step)?;
    let mut number = 0;
    if let Some(recorded) = insist(|| ledger.lookup(run, ordinal)).await? {
        if let Some(output) = recorded.outcome::<S>(&key)? {
            return Ok(output);
        }
        number = recorded.attempt;
    }
    Attempts { worker, ledger, key, number, cancel, crashes: None, gate: &(), leased: true }.make(step).await
}

/// Where an attempt waits before it is made, and what it holds while it is under way.
pub(super) trait Gate: Sync {
    type Pass: Send;

    fn pass(&self) -> impl Future<Output = Self::Pass> + Send;
}

impl Gate for () {
    type Pass = ();

    async fn pass(&self) {}
}

pub(super) struct Attempts<'a, W, G> {
    pub worker: Arc<W>,
    pub ledger: &'a Ledger,
    pub key: Key,
    /// The attempt that the ledger's row is at, 0 if there is no row.
    pub number: i64,
    pub cancel: CancellationToken,
    pub crashes: Option<Arc<Crashes>>,
    pub gate: &'a G,
    /// Whether other processes may be at the step.
    pub leased: bool,
}

impl<W: Send + Sync + 'static, G: Gate> Attempts<'_, W, G> {
    pub(super) async fn make<S: Step<Worker = W>>(self, step: S) -> Result<S::Output, StepError> {
        let number = Arc::new(AtomicI64::new(self.number));
        let mut claimant = Claimant { owner: self.ledger.claim(), leased: self.leased };
        let mut backoff = S::OPTIONS.backoff;
        let mut failures = 0;
        // Whether it may have begun, and has done nothing: closed now it would be taken for one that was under way.
        let mut unsure = false;
        let mut cancelled_at = None;
        loop {
            let pass = self.gate.pass().await;
            if self.cancel.is_cancelled() {
                let cancelled_for = cancelled_at.get_or_insert_with(Instant::now).elapsed();
                if !unsure || cancelled_for > DOUBT_MAX {
                    return self.close::<S>().await;
                }
            }
            if let Some(crashes) = &self.crashes {
                crashes.pass(self.key.ordinal, super::Crash::Before).await;
            }
            let progress = Arc::new(Progress::default());
            let attempt = Attempt {
                key: self.key.clone(),
                number: Arc::clone(&number),
                ledger: self.ledger.clone(),
                cancel: self.cancel.clone(),
                crashes: self.crashes.clone(),
                claimant: claimant.clone(),
                progress: Arc::clone(&progress),
            };
            let body = attempt::once(step.clone(), Arc::clone(&self.worker), attempt);
            let body = self.alive(body, &claimant.owner, &progress);
            let ended = bounded(body, S::OPTIONS.timeout, &self.cancel, &progress).await;
            let begun = progress.begun.load(Ordering::SeqCst);
            // One that did not come to asking has learned nothing.
            let asked = progress.answered.load(Ordering::SeqCst) || progress.beginning.load(Ordering::SeqCst);
            unsure = !begun && if asked { progress.beginning.load(Ordering::SeqCst) } else { unsure };
            let error = match ended {
                Ok(Err(error @ (StepError::Retry { .. } | StepError::Store { .. }))) => error,
                Ok(ended) => return ended,
                Err(TimedOut::Cancelled) if unsure => {
                    StepError::Store { message: "whether it has begun is not known".to_owned() }
                }
                Err(TimedOut::Cancelled) => return self.close::<S>().await,
                Err(TimedOut::Late) => StepError::retry("timeout", format!("{} took too long", S::NAME)),
            };
            drop(pass);
            // One that has not begun as far as it knows, and so has done nothing, may find that it had.
            if begun {
                claimant.owner = self.ledger.claim();
            }
            // The database being away is no fault of the step.
            if !matches!(error, StepError::Store { .. }) {
                failures += 1;
            }
            if failures >= S::OPTIONS.attempts_max {
                return self.give_up::<S>(&number, &error).await;
            }
            tracing::warn!(run = %self.key.run, step = S::NAME, %error, failures, "a step failed and is tried again");
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                () = self.cancel.cancelled(), if !unsure => {}
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Runs a step's body, and says meanwhile that it is alive where others look at that.
    async fn alive<T>(&self, body: impl Future<Output = T>, owner: &str, progress: &Progress) -> T {
        let renewals = async {
            loop {
                tokio::time::sleep(RENEWAL).await;
                if progress.leased.load(Ordering::SeqCst)
                    && let Err(error) = self.ledger.renew(self.key.clone(), owner.to_owned()).await
                {
                    tracing::debug!(%error, "a step's lease was not renewed");
                }
            }
        };
        tokio::select! {
            biased;
            ended = body => ended,
            never = renewals => never,
        }
    }

    async fn give_up<S: Step<Worker = W>>(
        &self,
        number: &AtomicI64,
        error: &StepError,
    ) -> Result<S::Output, StepError> {
        let error = StepError::failed(error.code(), error);
        let number = number.load(Ordering::SeqCst);
        match insist(|| self.ledger.fail(self.key.clone(), number, &error)).await {
            Ok(()) => Err(error),
            // An attempt that was dropped for being late has completed all the same: its result is the step's.
            Err(StepError::Superseded) => attempt::outcome_of_other::<S>(self.ledger, &self.key).await,
            Err(other) => Err(other),
        }
    }

    /// Ends a step of a cancelled run, so that no later attempt can finish it behind the workflow's back.
    async fn close<S: Step<Worker = W>>(&self) -> Result<S::Output, StepError> {
        match insist(|| self.ledger.cancel(self.key.clone())).await? {
            Some(recorded) => recorded.outcome::<S>(&self.key)?.ok_or(StepError::Cancelled),
            None => Err(StepError::Cancelled),
        }
    }
}

/// Asks the database until it answers.
pub(super) async fn insist<T, Fut>(mut ask: impl FnMut() -> Fut) -> Result<T, StepError>
where
    Fut: Future<Output = Result<T, StepError>>,
{
    let mut backoff = STORE_BACKOFF;
    loop {
        match ask().await {
            Err(StepError::Store { message }) => tracing::error!(message, "the ledger can't be reached"),
            answer => return answer,
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

enum TimedOut {
    Late,
    Cancelled,
}

/// Runs a step's body within its time; once the run is cancelled, within the grace. One that has done its work and is
/// recording it is let do so, and one of which it is being found out whether it has begun has its grace from then on.
async fn bounded<T>(
    body: impl Future<Output = T>,
    timeout: Duration,
    cancel: &CancellationToken,
    progress: &Progress,
) -> Result<T, TimedOut> {
    let mut body = std::pin::pin!(body);
    let cancelled = async {
        cancel.cancelled().await;
        tokio::time::sleep(CANCEL_GRACE).await;
    };
    let over = tokio::select! {
        biased;
        result = &mut body => return Ok(result),
        () = tokio::time::sleep(timeout) => TimedOut::Late,
        () = cancelled => TimedOut::Cancelled,
    };
    if matches!(over, TimedOut::Cancelled) && progress.beginning.load(Ordering::SeqCst) {
        let found_out = async {
            while progress.beginning.load(Ordering::SeqCst) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            tokio::time::sleep(CANCEL_GRACE).await;
        };
        tokio::select! {
            biased;
            result = &mut body => return Ok(result),
            _ = tokio::time::timeout(DOUBT_MAX, found_out) => {}
        }
    }
    if progress.recording.load(Ordering::SeqCst) { Ok(body.await) } else { Err(over) }
}
