//! Durable workflows on a Temporal server: the same workflow code, steps and ledger as on the embedded engine.
//!
//! [`host!`] says what a worker hosts, [`run_worker`] hosts it, [`TemporalEngine`] starts and cancels runs.
//!
//! A step is one activity. The run's id is the workflow's id and the step's ordinal is the activity's id, so that a
//! history holds nothing but the ids that steps are asked with and answer. Attempts, their bounds and their waits are
//! `platform::durable`'s and happen within the activity; the server repeats an activity only when its worker is lost.
//! The ledger has the last word on what has been done: the server never decides that an effect is repeated.

mod activity;
mod connection;
mod context;
mod engine;
mod failure;
mod host;
mod worker;

pub use connection::Config;
pub use context::OnTemporal;
pub use engine::{Fate, TemporalEngine};
pub use host::{Host, Steps};
pub use worker::{Error, run_worker, run_worker_for};

#[doc(hidden)]
pub mod private {
    pub use platform::durable::StepError;
}

/// Declares a workflow for workers to host.
///
/// ```ignore
/// temporal::host! {
///     /// A turn of an agent.
///     pub Turn = "turn", worker App, run |context| agents::turn(&context, context.run_id()),
///     steps [LoadContext, CallModel, RunTool, Finish]
/// }
/// ```
/// `run` gives a future of `Result<(), StepError>`. A step that is not in `steps` waits for a worker that has it: name
/// all.
#[macro_export]
macro_rules! host {
    (
        $(#[$meta:meta])* $visibility:vis $name:ident = $workflow:literal, worker $worker:ty,
        run |$context:ident| $run:expr, steps [$($step:ty),+ $(,)?] $(,)?
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy)]
        $visibility struct $name;

        impl $crate::Host for $name {
            type Worker = $worker;
            const NAME: &'static str = $workflow;

            async fn run($context: $crate::OnTemporal<Self>) -> ::std::result::Result<(), $crate::private::StepError> {
                $run.await
            }

            fn steps(steps: &mut $crate::Steps<'_, Self::Worker>) {
                $(steps.add::<$step>();)+
            }
        }
    };
}
