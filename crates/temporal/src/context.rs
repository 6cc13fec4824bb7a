//! A workflow's context on Temporal.

use std::{cell::Cell, fmt, future::Future, rc::Rc, time::Duration};

use contracts::RunId;
use platform::durable::{Durable, Step, StepError, unix_ms_of};
use temporalio_sdk::{
    ActivityCancellationType, ActivityOptions, TimerOptions, TimerResult, WaitConditionOptions,
    WorkflowCancellationToken, WorkflowContext,
};

use crate::{
    activity::{self, Answer, StepActivity},
    attributes, failure,
    host::{Host, Hosted},
};

/// Follows the server's history. Made by the worker, for [`Host::run`].
pub struct OnTemporal<H: Host> {
    context: WorkflowContext<Hosted<H>>,
    run: RunId,
    next: Rc<Cell<u32>>,
    shielded: bool,
}

impl<H: Host> fmt::Debug for OnTemporal<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnTemporal").field("run", &self.run).finish_non_exhaustive()
    }
}

impl<H: Host> OnTemporal<H> {
    pub(crate) fn new(context: WorkflowContext<Hosted<H>>, run: RunId) -> Self {
        Self { context, run, next: Rc::default(), shielded: false }
    }

    fn ordinal(&self) -> u32 {
        self.next.replace(self.next.get() + 1)
    }

    fn token(&self) -> WorkflowCancellationToken {
        if self.shielded { WorkflowCancellationToken::new() } else { self.context.cancellation_token() }
    }

    async fn run_step<S: Step>(&self, ordinal: u32, step: S) -> Result<S::Output, StepError> {
        let token = self.token();
        if token.is_cancelled() {
            return Err(StepError::Cancelled);
        }
        match self.ask(activity::id(ordinal), step.clone(), token.clone()).await {
            Err(Unanswered::Unheard(_)) if token.is_cancelled() => self.close(ordinal, step).await,
            Err(unanswered) => Err(unanswered.into_error()),
            Ok(answer) => answer.to(ordinal, &step),
        }
    }

    /// The run was cancelled and no worker told what became of its step: it is closed, or its result is found.
    async fn close<S: Step>(&self, ordinal: u32, step: S) -> Result<S::Output, StepError> {
        let answer =
            self.ask(activity::closing_id(ordinal), step.clone(), WorkflowCancellationToken::new()).await;
        answer.map_err(Unanswered::into_error)?.to(ordinal, &step)
    }

    async fn ask<S: Step>(
        &self,
        activity_id: String,
        step: S,
        token: WorkflowCancellationToken,
    ) -> Result<Answer<S::Output>, Unanswered> {
        let options = ActivityOptions::with_start_to_close_timeout(activity::time_for::<S>())
            .activity_id(activity_id)
            .maybe_task_queue(self.context.state(|hosted| hosted.queue_of(S::NAME)))
            .heartbeat_timeout(activity::HEARTBEAT_TIMEOUT)
            .retry_policy(activity::retry_policy())
            .cancellation_type(ActivityCancellationType::WaitCancellationCompleted)
            .cancellation_token(token)
            .build();
        self.context.execute_activity(StepActivity::<S>::default(), step, options).await.map_err(|error| {
            match failure::of_step(&error) {
                Some(outcome) => Unanswered::Failed(outcome),
                None => Unanswered::Unheard(error.to_string()),
            }
        })
    }

    async fn sleep_for(&self, time: Duration) -> Result<(), StepError> {
        let token = self.token();
        if token.is_cancelled() {
            return Err(StepError::Cancelled);
        }
        let timer = TimerOptions::builder(time).cancellation_token(token).build();
        match self.context.timer(timer).await {
            TimerResult::Fired => Ok(()),
            TimerResult::Cancelled => Err(StepError::Cancelled),
        }
    }
}

impl<H: Host> OnTemporal<H> {
    async fn wait_until_signalled(&self, name: &str) -> Result<(), StepError> {
        let token = self.token();
        if token.is_cancelled() {
            return Err(StepError::Cancelled);
        }
        if self.context.state(|hosted| hosted.has_signal(name)) {
            return Ok(());
        }
        self.context.upsert_search_attributes([attributes::waiting(true)]);
        let options = WaitConditionOptions::builder().cancellation_token(token).build();
        let signalled = self.context.wait_condition_with_options(|hosted| hosted.has_signal(name), options);
        signalled.await.map_err(|_| StepError::Cancelled)?;
        self.context.upsert_search_attributes([attributes::waiting(false)]);
        Ok(())
    }
}

enum Unanswered {
    /// The step's own outcome.
    Failed(StepError),
    /// The activity was cancelled, or its worker lost while it was being cancelled.
    Unheard(String),
}

impl Unanswered {
    fn into_error(self) -> StepError {
        match self {
            Self::Failed(error) => error,
            Self::Unheard(message) => StepError::failed("temporal", message),
        }
    }
}

impl<H: Host> Durable for OnTemporal<H> {
    type Worker = H::Worker;

    fn run_id(&self) -> RunId {
        self.run
    }

    fn step<S: Step<Worker = H::Worker>>(
        &self,
        step: S,
    ) -> impl Future<Output = Result<S::Output, StepError>> {
        self.run_step(self.ordinal(), step)
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = Result<(), StepError>> {
        self.ordinal();
        self.sleep_for(time)
    }

    fn now(&self) -> impl Future<Output = Result<i64, StepError>> {
        self.ordinal();
        let time = self.context.workflow_time().map(unix_ms_of);
        std::future::ready(time.ok_or_else(|| StepError::failed("temporal", "the workflow has no time")))
    }

    fn random(&self) -> impl Future<Output = Result<u64, StepError>> {
        self.ordinal();
        std::future::ready(Ok(self.context.random()))
    }

    fn wait_signal(&self, name: &str) -> impl Future<Output = Result<(), StepError>> {
        self.ordinal();
        self.wait_until_signalled(name)
    }

    fn shielded(&self) -> Self {
        Self { context: self.context.clone(), run: self.run, next: Rc::clone(&self.next), shielded: true }
    }
}
