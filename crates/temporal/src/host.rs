//! What a worker hosts: one workflow and its steps.

use std::{
    any::Any, collections::BTreeSet, fmt, future::Future, marker::PhantomData, panic::AssertUnwindSafe,
    sync::Arc,
};

use futures::{FutureExt, future::LocalBoxFuture};
use platform::durable::{Step, StepError, Worker};
use temporalio_common::{
    HasWorkflowDefinition, WorkflowDefinition,
    data_converters::{PayloadConverter, RawValue},
    protos::temporal::api::common::v1::Payloads,
};
use temporalio_sdk::{
    ActivityOptions, WorkerOptions, WorkflowCancellationToken, WorkflowContext, WorkflowContextView,
    WorkflowTermination,
};
use temporalio_workflow::{
    workflow_interceptors::WorkflowOutputValue,
    workflows::{WorkflowDefinitionDescriptor, WorkflowError, WorkflowImplementation},
};

use crate::{
    activity::{self, Ended, Implementer, StepActivity},
    context::OnTemporal,
    failure,
};

/// A workflow and its steps. [`crate::host!`] writes it.
pub trait Host: Sized + Send + Sync + 'static {
    /// What its steps work with.
    type Worker: Worker;
    /// What the server calls it.
    const NAME: &'static str;
    /// Of its code, see [`crate::host!`].
    const VERSION: u32;

    fn run(context: OnTemporal<Self>) -> impl Future<Output = Result<(), StepError>>;

    /// Names each type of step.
    fn steps(steps: &mut Steps<'_, Self::Worker>);
}

/// The steps that a worker can do.
pub struct Steps<'a, W> {
    pub(crate) implementer: Arc<Implementer<W>>,
    pub(crate) options: &'a mut WorkerOptions,
    pub(crate) queue: Queue,
    pub(crate) apart: BTreeSet<&'static str>,
}

/// One of the two queues of a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queue {
    /// Workflows, and the steps that are their own.
    Own,
    /// Steps that are done apart.
    Apart,
}

impl<W> fmt::Debug for Steps<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Steps")
    }
}

impl<W: Send + Sync + 'static> Steps<'_, W> {
    /// A step that whoever works on the workflow does.
    pub fn add<S: Step<Worker = W>>(&mut self) {
        self.register::<S>(Queue::Own);
    }

    /// A step with a queue of its own, so that others may do it, elsewhere.
    pub fn add_apart<S: Step<Worker = W>>(&mut self) {
        self.apart.insert(S::NAME);
        self.register::<S>(Queue::Apart);
    }

    fn register<S: Step<Worker = W>>(&mut self, queue: Queue) {
        if self.queue == queue {
            self.options.register_activity::<StepActivity<S>>(Arc::clone(&self.implementer));
        }
    }
}

/// Which steps are asked for on another queue than the workflow's, and on which.
#[derive(Debug)]
pub(crate) struct Apart {
    pub steps: BTreeSet<&'static str>,
    pub queue: String,
}

impl Apart {
    pub(crate) fn none() -> Arc<Self> {
        Arc::new(Self { steps: BTreeSet::new(), queue: String::new() })
    }
}

/// Signals that a run remembers. One is sent for each wait, and waits are few.
const SIGNALS_MAX: usize = 1000;

/// The workflow that the SDK sees.
pub(crate) struct Hosted<H> {
    /// Names of the signals that came so far, waited for or not.
    signals: BTreeSet<String>,
    apart: Arc<Apart>,
    host: PhantomData<fn() -> H>,
}

impl<H> Hosted<H> {
    pub(crate) fn new(apart: Arc<Apart>) -> Self {
        Self { signals: BTreeSet::new(), apart, host: PhantomData }
    }

    /// The queue of a step, where it is not the workflow's.
    pub(crate) fn queue_of(&self, step: &str) -> Option<String> {
        self.apart.steps.contains(step).then(|| self.apart.queue.clone())
    }

    pub(crate) fn has_signal(&self, name: &str) -> bool {
        self.signals.contains(name)
    }
}

impl<H: Host> WorkflowDefinition for Hosted<H> {
    /// Nothing: the workflow's id says it all.
    type Input = RawValue;
    type Output = ();

    fn name(&self) -> &str {
        H::NAME
    }
}

impl<H: Host> HasWorkflowDefinition for Hosted<H> {
    type Run = Self;
}

impl<H: Host> Hosted<H> {
    async fn drive(context: WorkflowContext<Self>) -> Result<(), WorkflowTermination> {
        let run = match context.workflow_id().parse() {
            Ok(run) => run,
            Err(_) => {
                return Err(failure::as_failure(StepError::failed(
                    "run_id",
                    "the workflow's id is no run's",
                ))
                .into());
            }
        };
        let workflow = AssertUnwindSafe(H::run(OnTemporal::new(context.clone(), run))).catch_unwind();
        // The SDK's own `join_all` lets what is within it wake itself, as `futures::join_all` does; a waker from
        // elsewhere still fails the workflow.
        let outcome = temporalio_workflow::join_all([workflow]).await.pop().unwrap_or(Ok(Ok(())));
        let outcome =
            outcome.unwrap_or_else(|_| Err(StepError::failed("panicked", "the workflow's code panicked")));
        // A run that nobody is told of would hang for ever: this goes on until it is done, though the run is cancelled.
        let options = ActivityOptions::with_start_to_close_timeout(activity::ENDED_TIMEOUT)
            .heartbeat_timeout(activity::HEARTBEAT_TIMEOUT)
            .retry_policy(activity::retry_policy())
            .cancellation_token(WorkflowCancellationToken::new())
            .build();
        context.execute_activity(Ended::<H::Worker>::default(), outcome.clone().err(), options).await?;
        match outcome {
            Ok(()) => Ok(()),
            Err(StepError::Cancelled) => Err(WorkflowTermination::cancelled()),
            Err(error) => Err(failure::as_failure(error).into()),
        }
    }
}

impl<H: Host> WorkflowImplementation for Hosted<H> {
    type Run = Self;
    const HAS_INIT: bool = false;
    const INIT_TAKES_INPUT: bool = false;

    fn name() -> &'static str {
        H::NAME
    }

    fn definition() -> WorkflowDefinitionDescriptor {
        WorkflowDefinitionDescriptor {
            workflow_type: H::NAME.to_owned(),
            has_init: false,
            init_takes_input: false,
            signals: Vec::new(),
            queries: Vec::new(),
            updates: Vec::new(),
        }
    }

    /// Not called: workers make it, by [`Hosted::new`].
    fn init(_: WorkflowContextView, _: Option<RawValue>) -> Self {
        Self::new(Apart::none())
    }

    fn run(
        context: WorkflowContext<Self>,
        _: Option<RawValue>,
    ) -> LocalBoxFuture<'static, Result<Box<dyn WorkflowOutputValue>, WorkflowTermination>> {
        Box::pin(async move {
            Self::drive(context).await?;
            Ok(Box::new(()) as Box<dyn WorkflowOutputValue>)
        })
    }

    /// A signal is its name; it carries nothing.
    fn decode_signal_input(
        _: &str,
        _: Payloads,
        _: &PayloadConverter,
    ) -> Result<Option<Box<dyn Any>>, WorkflowError> {
        Ok(Some(Box::new(())))
    }

    fn dispatch_signal(
        context: WorkflowContext<Self>,
        name: &str,
        _: Box<dyn Any>,
    ) -> LocalBoxFuture<'static, Result<(), WorkflowError>> {
        let name = name.to_owned();
        Box::pin(async move {
            context.state_mut(|hosted| {
                if hosted.signals.len() < SIGNALS_MAX {
                    hosted.signals.insert(name);
                }
            });
            Ok(())
        })
    }

    fn dispatch_query(
        &self,
        _: WorkflowContextView,
        name: &str,
        _: Box<dyn Any>,
    ) -> Result<Box<dyn WorkflowOutputValue>, WorkflowError> {
        Err(unknown(name))
    }

    fn dispatch_update(
        _: WorkflowContext<Self>,
        name: &str,
        _: Box<dyn Any>,
    ) -> LocalBoxFuture<'static, Result<Box<dyn WorkflowOutputValue>, WorkflowError>> {
        let error = unknown(name);
        Box::pin(async { Err(error) })
    }

    fn validate_update(
        &self,
        _: WorkflowContextView,
        name: &str,
        _: Box<dyn Any>,
    ) -> Result<(), WorkflowError> {
        Err(unknown(name))
    }
}

fn unknown(name: &str) -> WorkflowError {
    WorkflowError::Execution(format!("nothing here is called {name}").into())
}
