//! What every engine of durable workflows promises, as one suite that each of them passes.
//!
//! [`promises`] are the tests, written against [`Harness`]; [`crate::contract_suite!`] makes one test of each. They
//! host [`workflow`], which does whatever the run's scenario says; its steps work with a [`World`], which counts
//! what really happened and outlives whatever a test kills.

pub mod promises;
pub mod simulated;
mod steps;
mod workflow;
mod world;

use std::{sync::Arc, time::Duration};

use contracts::RunId;
use platform::durable::StepError;

pub use steps::{Choose, Clash, Deaf, Doomed, Final, Flaky, Hold, Keyed, Mark, Model, Once, Pay, Slow, Tool};
pub use workflow::{Scenario, change_code, workflow};
pub use world::{Effect, World};

/// An engine under test, with the processes that run it.
#[expect(async_fn_in_trait, reason = "tests need no Send")]
pub trait Harness {
    /// How late a run may go on after its engine was killed and came back.
    const LATE: Duration;

    /// The test's own view of the world, which no kill touches.
    fn world(&self) -> &Arc<World>;

    async fn start(&mut self, run: RunId);

    /// A cancellation that is asked for while the engine is away holds once it is back.
    async fn cancel(&mut self, run: RunId);

    /// Signals a run; a signal that is sent while the engine is away holds once it is back.
    async fn signal(&mut self, run: RunId, name: &str);

    /// Ends whatever runs workflows at once, as SIGKILL does.
    async fn kill(&mut self);

    /// Asks it to stop: no further step is begun, those under way may end.
    async fn stop(&mut self);

    /// Starts it again once it has stopped or was killed, with the given version of the workflow's code.
    async fn resume(&mut self, code: u8);

    /// How the run ended, once it has.
    async fn outcome(&mut self, run: RunId) -> Result<(), StepError>;
}

/// The longest that any condition of a test may take to come true.
pub const WAIT_MAX: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);

/// Waits until `check` gives something.
pub async fn until<T, Fut>(what: &str, mut check: impl FnMut() -> Fut) -> T
where
    Fut: Future<Output = Option<T>>,
{
    let deadline = tokio::time::Instant::now() + WAIT_MAX;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// One test for each promise; `$harness` is an expression that makes a fresh harness, and is awaited.
#[macro_export]
macro_rules! contract_suite {
    ($harness:expr) => {
        $crate::contract_suite!(@each $harness;
            steps_run_in_order,
            many_steps_run_at_once,
            a_completed_step_is_not_run_again,
            joined_steps_keep_their_ordinals,
            a_failure_that_may_pass_is_tried_again,
            attempts_have_a_bound,
            the_database_being_away_is_waited_for,
            a_step_that_takes_too_long_is_tried_again,
            a_final_failure_is_not_tried_again,
            a_refused_change_is_not_tried_again,
            a_sleep_goes_on_while_nobody_works,
            time_and_chance_are_the_same_at_a_replay,
            a_cancelled_step_may_end_by_itself,
            a_step_that_does_not_listen_is_closed,
            a_step_of_a_lost_worker_is_closed_when_cancelled,
            a_cancelled_sleep_ends,
            a_signal_wakes_the_run_that_waits_for_it,
            a_signal_that_came_before_counts,
            a_signal_while_nobody_works_is_not_lost,
            a_cancelled_wait_for_a_signal_ends,
            a_run_that_is_cancelled_before_it_began_ends,
            steps_under_way_end_before_a_stop,
            what_is_done_at_most_once_is_never_repeated,
            a_key_is_the_same_at_every_attempt,
            a_change_is_there_exactly_once,
            starting_twice_is_one_run,
            changed_code_is_noticed,
            a_panic_ends_the_run,
        );
    };
    (@each $harness:expr; $($promise:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $promise() {
                $crate::contract::promises::$promise(&mut $harness.await).await;
            }
        )+
    };
}
