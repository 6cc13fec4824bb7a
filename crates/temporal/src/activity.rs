//! Steps as activities.

use std::{
    fmt,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use contracts::RunId;
use futures::future::BoxFuture;
use platform::durable::{self, BACKOFF_MAX, CANCEL_GRACE, Ledger, Step, StepError};
use serde::{Deserialize, Serialize};
use temporalio_client::{ActivityIdentifier, errors::AsyncActivityError};
use temporalio_common::{ActivityDefinition, RetryPolicy};
use temporalio_sdk::activities::{
    ActivityContext, ActivityDefinitions, ActivityError, ActivityImplementer, ExecutableActivity,
};
use tokio::time::{MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::{connection::call_options, failure};

/// A worker that says nothing for this long is lost, and its step goes to another.
pub(crate) const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(7);
/// How often a step says that it is alive, and hears whether it is cancelled.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(1500);
/// Above all of a step's attempts, what an activity may take.
const ACTIVITY_MARGIN: Duration = Duration::from_secs(60);
/// How often a silent server is asked why it ended an activity, and the wait in between.
const WHY_ATTEMPTS_MAX: u32 = 3;
const WHY_BACKOFF: Duration = Duration::from_secs(1);
/// When an activity whose worker was lost is given to another. Each further loss doubles the wait.
pub(crate) fn retry_policy() -> RetryPolicy {
    RetryPolicy::builder().initial_interval(Duration::from_secs(1)).maximum_interval(BACKOFF_MAX).build()
}

/// Marks the activity that closes a step of a cancelled run.
const CLOSING: char = 'c';

pub(crate) fn id(ordinal: u32) -> String {
    ordinal.to_string()
}

pub(crate) fn closing_id(ordinal: u32) -> String {
    format!("{ordinal}{CLOSING}")
}

/// Longest life of an activity. Lost workers are noticed by their silence, not by this.
pub(crate) fn time_for<S: Step>() -> Duration {
    let attempts = S::OPTIONS.timeout.saturating_add(BACKOFF_MAX).saturating_mul(S::OPTIONS.attempts_max);
    attempts.saturating_add(CANCEL_GRACE).saturating_add(ACTIVITY_MARGIN)
}

/// What activities of one worker share.
pub(crate) struct Implementer<W> {
    pub worker: Arc<W>,
    pub ledger: Ledger,
    /// Fires when the worker waits for its steps no longer.
    pub halt: CancellationToken,
    /// Steps until the worker is to be replaced.
    pub left: AtomicU64,
    /// Fires when it is.
    pub retire: CancellationToken,
}

impl<W> fmt::Debug for Implementer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Implementer")
    }
}

impl<W> ActivityImplementer for Implementer<W> {
    fn register_all(self: Arc<Self>, _: &mut ActivityDefinitions) {}
}

/// A step's result, and which input it is the result of.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer<T> {
    #[serde(rename = "h")]
    input_hash: String,
    #[serde(rename = "v")]
    value: T,
}

/// Digits of an input's hash in a history.
const HASH_DIGITS: usize = 8;

fn short_hash<S: Step>(step: &S) -> Result<String, StepError> {
    let mut hash = durable::input_hash(step)?;
    hash.truncate(HASH_DIGITS);
    Ok(hash)
}

impl<T> Answer<T> {
    /// The result, if it is the result of `step`.
    pub(crate) fn to<S: Step<Output = T>>(self, ordinal: u32, step: &S) -> Result<T, StepError> {
        let asked = short_hash(step)?;
        if self.input_hash == asked {
            return Ok(self.value);
        }
        Err(StepError::Diverged {
            ordinal,
            recorded: format!("{} ({})", S::NAME, self.input_hash),
            asked: format!("{} ({asked})", S::NAME),
        })
    }
}

/// One activity for each type of step.
pub(crate) struct StepActivity<S>(PhantomData<fn() -> S>);

impl<S> Default for StepActivity<S> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<S: Step> ActivityDefinition for StepActivity<S> {
    type Input = S;
    type Output = Answer<S::Output>;

    fn name(&self) -> &str {
        S::NAME
    }
}

impl<S: Step> ExecutableActivity for StepActivity<S> {
    type Implementer = Implementer<S::Worker>;
    const REQUIRES_INSTANCE: bool = true;

    fn definition() -> Self {
        Self::default()
    }

    fn execute(
        implementer: Option<Arc<Self::Implementer>>,
        context: ActivityContext,
        step: S,
    ) -> BoxFuture<'static, Result<Self::Output, ActivityError>> {
        Box::pin(async move {
            let implementer =
                implementer.ok_or_else(|| std::io::Error::other("registered without its worker"))?;
            implementer.step(&context, step).await
        })
    }
}

impl<W: Send + Sync + 'static> Implementer<W> {
    async fn step<S: Step<Worker = W>>(
        &self,
        context: &ActivityContext,
        step: S,
    ) -> Result<Answer<S::Output>, ActivityError> {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.retire.cancel();
        }
        let run = run_of(context)?;
        let id = context.info().activity_id.as_str();
        let closing = id.ends_with(CLOSING);
        let ordinal: u32 = id.trim_end_matches(CLOSING).parse()?;
        let input_hash = short_hash(&step).map_err(failure::outcome)?;

        let cancel = CancellationToken::new();
        if closing {
            cancel.cancel();
        }
        let body =
            durable::execute(step, Arc::clone(&self.worker), &self.ledger, run, ordinal, cancel.clone());
        let outcome = tokio::select! {
            biased;
            outcome = body => outcome,
            gone = self.watch(context, &cancel, Some((run, ordinal))) => return Err(failure::again(&gone)),
        };
        match outcome {
            Ok(value) => Ok(Answer { input_hash, value }),
            Err(error @ (StepError::Retry { .. } | StepError::Store { .. } | StepError::Superseded)) => {
                Err(failure::again(&error))
            }
            Err(error) => Err(failure::outcome(error)),
        }
    }

    /// Says that the step is alive. Fires `cancel` when its run is cancelled, and ends when the step is no longer
    /// this worker's. One that may be done once only goes on as long as the ledger has it here, whatever the server says:
    /// who was given it meanwhile waits for what comes of it.
    async fn watch(
        &self,
        context: &ActivityContext,
        cancel: &CancellationToken,
        step: Option<(RunId, u32)>,
    ) -> StepError {
        let mut beat = interval_at(tokio::time::Instant::now() + HEARTBEAT, HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = false;
        loop {
            tokio::select! {
                _ = beat.tick() => {
                    if let Err(error) = context.record_heartbeat(()).await {
                        tracing::warn!(%error, "a heartbeat was not sent");
                    }
                }
                () = context.cancelled(), if !told => {
                    told = true;
                    if is_cancelled(context).await {
                        cancel.cancel();
                        continue;
                    }
                    self.overtaken(step).await;
                    return StepError::Superseded;
                }
                () = self.halt.cancelled() => return StepError::retry("stopping", "the worker stops"),
            }
        }
    }

    /// Ends once another attempt may be at a step: at once, unless it may be done once only and is being done here.
    async fn overtaken(&self, step: Option<(RunId, u32)>) {
        let Some((run, ordinal)) = step else { return };
        // A database that does not answer has nothing that overtakes.
        while !matches!(self.ledger.is_at(run, ordinal).await, Ok(false)) {
            tokio::select! {
                () = tokio::time::sleep(HEARTBEAT) => {}
                () = self.halt.cancelled() => return,
            }
        }
    }
}

/// Why the server ended an activity: true when its run is cancelled, false when it was given to another worker, or
/// its workflow is over. The two must not be mixed up: a step that another worker does must not be closed here.
async fn is_cancelled(context: &ActivityContext) -> bool {
    let token = ActivityIdentifier::from_task_token(context.info().task_token.clone().into());
    let activity = context.client().get_async_activity_handle(token);
    for _ in 0..WHY_ATTEMPTS_MAX {
        match activity.heartbeat(None::<()>, call_options()).await {
            Ok(answer) => return answer.cancel_requested,
            Err(AsyncActivityError::NotFound(_)) => return false,
            Err(error) => tracing::warn!(%error, "the server does not say why it ended a step"),
        }
        tokio::time::sleep(WHY_BACKOFF).await;
    }
    false
}

fn run_of(context: &ActivityContext) -> Result<RunId, ActivityError> {
    Ok(context.info().workflow_id.as_deref().unwrap_or_default().parse()?)
}

/// How a workflow ended, for [`durable::Worker::ended`].
pub(crate) struct Ended<W>(PhantomData<fn() -> W>);

impl<W> Default for Ended<W> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// Longest life of one attempt at telling how a workflow ended.
pub(crate) const ENDED_TIMEOUT: Duration = Duration::from_secs(60);

impl<W: durable::Worker> ActivityDefinition for Ended<W> {
    /// What it failed with.
    type Input = Option<StepError>;
    type Output = ();

    fn name(&self) -> &str {
        "ended"
    }
}

impl<W: durable::Worker> ExecutableActivity for Ended<W> {
    type Implementer = Implementer<W>;
    const REQUIRES_INSTANCE: bool = true;

    fn definition() -> Self {
        Self::default()
    }

    fn execute(
        implementer: Option<Arc<Self::Implementer>>,
        context: ActivityContext,
        error: Option<StepError>,
    ) -> BoxFuture<'static, Result<(), ActivityError>> {
        Box::pin(async move {
            let implementer =
                implementer.ok_or_else(|| std::io::Error::other("registered without its worker"))?;
            let run = run_of(&context)?;
            let ended = Arc::clone(&implementer.worker).ended(run, error.map_or(Ok(()), Err));
            let never = CancellationToken::new();
            tokio::select! {
                biased;
                () = ended => Ok(()),
                gone = implementer.watch(&context, &never, None) => Err(failure::again(&gone)),
            }
        })
    }
}
