//! The embedded engine and the simulator pass the contract of durable workflows.
#![expect(clippy::expect_used, reason = "a test that can't set up its engine fails")]

use std::{collections::HashSet, path::PathBuf, sync::Arc, time::Duration};

use contracts::RunId;
use platform::durable::{Engine, StepError};
use testing::contract::{Harness, World, change_code, simulated, until, workflow};

/// Runs at once in a test's engine.
const AT_ONCE: usize = 16;

/// The embedded engine in a runtime of its own, whose end is a kill: tasks are dropped where they are.
struct Embedded {
    world: Arc<World>,
    path: PathBuf,
    process: Option<(tokio::runtime::Runtime, Arc<Engine<World>>)>,
    started: HashSet<RunId>,
    cancelled: HashSet<RunId>,
    _folder: tempfile::TempDir,
}

impl Embedded {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("world.db");
        let world = World::open(&path).await;
        let (started, cancelled) = (HashSet::new(), HashSet::new());
        let mut new = Self { world, path, process: None, started, cancelled, _folder: folder };
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
        let (runtime, engine) = self.process.as_ref().expect("the engine is up");
        let engine = Arc::clone(engine);
        runtime.spawn(async move { engine.start(run) }).await.expect("started");
    }

    async fn cancel(&mut self, run: RunId) {
        self.cancelled.insert(run);
        if let Some(engine) = self.engine() {
            engine.cancel(run);
        }
    }

    async fn kill(&mut self) {
        let (runtime, _) = self.process.take().expect("the engine is up");
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(5)))
            .await
            .expect("killed");
    }

    async fn resume(&mut self, code: u8) {
        change_code(code);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let path = self.path.clone();
        let (started, cancelled) = (self.started.clone(), self.cancelled.clone());
        let engine = runtime.spawn(async move {
            let world = World::open(&path).await;
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

#[tokio::test]
async fn every_single_crash_is_survived() {
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::open(&folder.path().join("world.db")).await;
    simulated::every_single_crash_is_survived(&world).await;
}

#[tokio::test]
async fn crashes_in_a_row_are_survived() {
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::open(&folder.path().join("world.db")).await;
    simulated::crashes_in_a_row_are_survived(&world, 60).await;
}
