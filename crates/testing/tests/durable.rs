//! The embedded engine and the simulator pass the contract of durable workflows.
#![expect(clippy::expect_used, reason = "a test that can't set up its engine fails")]

use std::{collections::HashSet, sync::Arc, time::Duration};

use contracts::RunId;
use platform::durable::{Engine, Step, StepError, execute};
use testing::TestDatabase;
use testing::contract::{
    Doomed, Harness, Once, Pay, Scenario, WAIT_MAX, World, change_code, simulated, until, workflow,
};
use tokio_util::sync::CancellationToken;

/// Runs at once in a test's engine.
const AT_ONCE: usize = 16;

/// The embedded engine in a runtime of its own, whose end is a kill: tasks are dropped where they are.
struct Embedded {
    world: Arc<World>,
    place: TestDatabase,
    process: Option<(tokio::runtime::Runtime, Arc<Engine<World>>)>,
    stopping: Option<tokio::task::JoinHandle<()>>,
    started: HashSet<RunId>,
    cancelled: HashSet<RunId>,
}

impl Embedded {
    async fn new() -> Self {
        let (place, world) = World::create().await;
        let (started, cancelled) = (HashSet::new(), HashSet::new());
        let mut new = Self { world, place, process: None, stopping: None, started, cancelled };
        new.resume(0).await;
        new
    }

    fn engine(&self) -> Option<&Arc<Engine<World>>> {
        self.process.as_ref().map(|(_, engine)| engine)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Some((runtime, _)) = self.process.take() {
            runtime.shutdown_background();
        }
    }
}

impl Harness for Embedded {
    const LATE: Duration = Duration::from_secs(1);

    fn world(&self) -> &Arc<World> {
        &self.world
    }

    async fn start(&mut self, run: RunId) {
        self.started.insert(run);
        if let Some((runtime, engine)) = &self.process {
            let engine = Arc::clone(engine);
            runtime.spawn(async move { engine.start(run) }).await.expect("started");
        }
    }

    async fn cancel(&mut self, run: RunId) {
        self.cancelled.insert(run);
        if let Some(engine) = self.engine() {
            engine.cancel(run);
        }
    }

    async fn signal(&mut self, run: RunId, name: &str) {
        self.world.signal(run, name).await;
        if let Some(engine) = self.engine() {
            engine.signalled(run);
        }
    }

    async fn kill(&mut self) {
        let (runtime, _) = self.process.take().expect("the engine is up");
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(5)))
            .await
            .expect("killed");
    }

    async fn stop(&mut self) {
        let (runtime, engine) = self.process.take().expect("the engine is up");
        self.stopping = Some(tokio::task::spawn_blocking(move || {
            runtime.block_on(engine.drain(WAIT_MAX));
            runtime.shutdown_background();
        }));
    }

    async fn resume(&mut self, code: u8) {
        if let Some(stopping) = self.stopping.take() {
            stopping.await.expect("stopped");
        }
        change_code(code);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let dsn = self.place.dsn().to_owned();
        let (started, cancelled) = (self.started.clone(), self.cancelled.clone());
        let engine = runtime.spawn(async move {
            let world = World::open(&dsn).await;
            let ledger = world.ledger();
            let engine = Engine::new(world, ledger, AT_ONCE, async |context| workflow(&context).await);
            for run in started {
                engine.start(run);
            }
            for run in cancelled {
                engine.cancel(run);
            }
            engine
        });
        self.process = Some((runtime, engine.await.expect("the engine starts")));
    }

    async fn outcome(&mut self, run: RunId) -> Result<(), StepError> {
        let outcome = until("the run's end", || async { self.world.ends(run).await.pop() }).await;
        self.started.remove(&run);
        outcome
    }
}

testing::contract_suite!(Embedded::new());

/// A worker's try at a run's first step.
fn attempt<S: Step<Worker = World>>(
    world: &Arc<World>,
    run: RunId,
    step: &S,
) -> tokio::task::JoinHandle<Result<S::Output, StepError>> {
    let (step, world, ledger) = (step.clone(), Arc::clone(world), world.ledger());
    tokio::spawn(async move { execute(step, world, &ledger, run, 0, CancellationToken::new()).await })
}

/// Two workers with one step each, as when the first was thought lost; waits until both have begun.
async fn two_attempts<S: Step<Worker = World>>(
    world: &Arc<World>,
    step: S,
    begun: &str,
) -> (RunId, [tokio::task::JoinHandle<Result<S::Output, StepError>>; 2]) {
    let run = world.run(Scenario::Pay).await;
    let first = attempt(world, run, &step);
    world.seen(run, begun, 1).await;
    let second = attempt(world, run, &step);
    world.seen(run, begun, 2).await;
    (run, [first, second])
}

#[tokio::test]
async fn a_late_attempt_cannot_complete() {
    let (_place, world) = World::create().await;
    let (run, [late, current]) = two_attempts(&world, Pay { name: "pay".to_owned() }, "pay begun").await;
    world.open_gate(run, "pay").await;
    assert_eq!(current.await.expect("ran"), Ok(()));
    let late = late.await.expect("ran");
    assert!(matches!(late, Ok(()) | Err(StepError::Superseded)), "{late:?}");
    assert_eq!(world.changes(run, "pay").await, 1);
}

#[tokio::test]
async fn a_late_attempt_cannot_fail_the_step() {
    let (_place, world) = World::create().await;
    let (run, [late, current]) =
        two_attempts(&world, Doomed { name: "doomed".to_owned() }, "doomed begun").await;
    world.open_gate(run, "fail").await;
    assert_eq!(late.await.expect("ran"), Err(StepError::Superseded));
    world.open_gate(run, "complete").await;
    assert_eq!(current.await.expect("ran"), Ok("completed".to_owned()));
}

/// Longer than somebody counts as alive who says nothing.
const PAST_A_LEASE: Duration = Duration::from_secs(8);

#[tokio::test]
async fn who_is_given_a_step_that_may_be_done_once_waits_for_who_is_at_it() {
    let (_place, world) = World::create().await;
    let once = Once { name: "once".to_owned() };
    let run = world.run(Scenario::Once).await;
    let first = attempt(&world, run, &once);
    world.seen(run, "once", 1).await;
    let second = attempt(&world, run, &once);
    // It goes on saying that it is alive.
    tokio::time::sleep(PAST_A_LEASE).await;
    assert!(!first.is_finished() && !second.is_finished());
    world.open_gate(run, "once").await;
    for attempt in [first, second] {
        assert_eq!(attempt.await.expect("ran"), Ok("done".to_owned()));
    }
    assert_eq!(world.effects(run, "once").await.len(), 1);
}

#[tokio::test]
async fn who_is_given_the_step_of_somebody_who_is_gone_tells_that_its_outcome_is_unknown() {
    let (_place, world) = World::create().await;
    let once = Once { name: "once".to_owned() };
    let run = world.run(Scenario::Once).await;
    let first = attempt(&world, run, &once);
    world.seen(run, "once", 1).await;
    first.abort();
    assert_eq!(attempt(&world, run, &once).await.expect("ran"), Ok("unknown".to_owned()));
    assert_eq!(world.effects(run, "once").await.len(), 1);
}

#[tokio::test]
async fn a_sleeping_run_does_not_hold_up_a_stop() {
    let mut harness = Embedded::new().await;
    let run = harness.world.run(Scenario::CancelledSleep).await;
    harness.start(run).await;
    harness.world.seen(run, "asleep", 1).await;
    harness.stop().await;
    let asked = std::time::Instant::now();
    harness.resume(0).await;
    assert!(asked.elapsed() < Duration::from_secs(5), "the stop took {:?}", asked.elapsed());
    harness.cancel(run).await;
    assert_eq!(harness.outcome(run).await, Err(StepError::Cancelled));
}

#[tokio::test]
async fn runs_that_wait_for_signals_leave_the_engine_to_others() {
    let mut harness = Embedded::new().await;
    let mut waiting = Vec::new();
    for _ in 0..=AT_ONCE {
        let run = harness.world.run(Scenario::CancelledWait).await;
        harness.start(run).await;
        waiting.push(run);
    }
    let run = harness.world.run(Scenario::Chain).await;
    harness.start(run).await;
    assert_eq!(harness.outcome(run).await, Ok(()));
    for run in waiting {
        harness.world.seen(run, "waits", 1).await;
        assert_eq!(harness.world.ends(run).await, []);
    }
}

#[tokio::test]
async fn a_run_that_waits_for_its_turn_hears_that_it_is_cancelled() {
    let mut harness = Embedded::new().await;
    let mut at_work = Vec::new();
    for _ in 0..AT_ONCE {
        let run = harness.world.run(Scenario::Gated).await;
        harness.start(run).await;
        harness.world.seen(run, "before", 1).await;
        at_work.push(run);
    }
    let run = harness.world.run(Scenario::Chain).await;
    harness.start(run).await;
    harness.cancel(run).await;
    assert_eq!(harness.outcome(run).await, Err(StepError::Cancelled));
    assert_eq!(harness.world.all_effects(run).await, []);
    for run in at_work {
        assert_eq!(harness.world.ends(run).await, [], "none had to make room for it");
    }
}

#[tokio::test]
async fn every_single_crash_is_survived() {
    let (_place, world) = World::create().await;
    simulated::every_single_crash_is_survived(&world).await;
}

#[tokio::test]
async fn crashes_in_a_row_are_survived() {
    let (_place, world) = World::create().await;
    simulated::crashes_in_a_row_are_survived(&world, 60).await;
}
