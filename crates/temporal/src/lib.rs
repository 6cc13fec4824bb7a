//! Durable workflows on a Temporal server: the same workflow code, steps and ledger as on the embedded engine.
//!
//! [`host!`] says what a worker hosts, [`run_worker`] hosts it, [`TemporalEngine`] starts and cancels runs.
//!
//! A step is one activity. The run's id is the workflow's id and the step's ordinal is the activity's id, so that a
//! history holds nothing but the ids that steps are asked with and answer. Attempts, their bounds and their waits are
//! `platform::durable`'s and happen within the activity; the server repeats an activity only when its worker is lost.
//! The ledger has the last word on what has been done: the server never decides that an effect is repeated.

mod activity;
mod attributes;
mod connection;
mod context;
mod deployment;
mod engine;
mod failure;
mod host;
mod replay;
mod worker;

pub use connection::Config;
pub use context::OnTemporal;
pub use engine::{Fate, TemporalEngine};
pub use host::{Host, Steps};
pub use replay::{ReplayError, replay};
pub use worker::{Error, Part, run_worker, run_worker_for};

#[doc(hidden)]
pub mod private {
    pub use platform::durable::StepError;
}

/// Declares a workflow for workers to host.
///
/// ```ignore
/// temporal::host! {
///     /// A turn of an agent.
///     pub Turn = "turn", version 1, worker App, run |context| agents::turn(&context, context.run_id()),
///     steps [LoadContext, CallModel, Finish], apart [RunTool]
/// }
/// ```
/// `run` gives a future of `Result<(), StepError>`. Steps that are `apart` have a queue of their own, for workers of
/// their own. A step that is in neither list waits for a worker that has it: name all.
///
/// `version` is the workflow's: one more whenever its code asks for other steps than before, so that runs under way end
/// on the code that they began on.
#[macro_export]
macro_rules! host {
    (
        $(#[$meta:meta])* $visibility:vis $name:ident = $workflow:literal, version $version:literal, worker $worker:ty,
        run |$context:ident| $run:expr, steps [$($step:ty),+ $(,)?] $(, apart [$($apart:ty),+ $(,)?])? $(,)?
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy)]
        $visibility struct $name;

        impl $crate::Host for $name {
            type Worker = $worker;
            const NAME: &'static str = $workflow;
            const VERSION: u32 = $version;

            async fn run($context: $crate::OnTemporal<Self>) -> ::std::result::Result<(), $crate::private::StepError> {
                $run.await
            }

            fn steps(steps: &mut $crate::Steps<'_, Self::Worker>) {
                $(steps.add::<$step>();)+
                $($(steps.add_apart::<$apart>();)+)?
            }
        }
    };
}
