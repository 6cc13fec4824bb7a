//! The Temporal engine passes the contract of durable workflows, on a real server with real worker processes.
//!
//! `scripts/engines` starts the server, unless it is up; workers are this very executable, so that a kill is SIGKILL.
#![expect(clippy::expect_used, reason = "a test that can't set up its engine fails")]

use std::{
    process::{Child, Command, Stdio},
    sync::{Arc, LazyLock},
    time::Duration,
};

use contracts::{
    AgentId, RunId, TenantId,
    engine::{EngineError, Start, WorkflowEngine},
};
use platform::{config::TemporalServer, durable::StepError};
use temporal::{Config, Fate, Part, ReplayError, TemporalEngine};
use testing::contract::{
    Choose, Clash, Deaf, Final, Flaky, Harness, Hold, Keyed, Mark, Model, Once, Pay, Scenario, Slow, Tool,
    World, change_code, until, workflow,
};
use testing::{TestDatabase, engines};
use tokio_util::sync::CancellationToken;

const NAME: &str = "contract";
/// Steps at once in a worker.
const CONCURRENCY: usize = 50;
/// Steps after which a worker process replaces its inner worker; few enough that the longer tests see it.
const LIFE_STEPS: u64 = 30;
/// Bytes that the history may grow by for a call of a model and a tool.
const ROUND_BYTES_MAX: i64 = 2048;

temporal::host! {
    Contract = "contract", version 1, worker World, run |context| workflow(&context),
    steps [Choose, Clash, Mark, Hold, Deaf, Flaky, Slow, Final, Model], apart [Once, Keyed, Pay, Tool]
}

temporal::host! {
    /// The same workflow after a change.
    Later = "contract", version 2, worker World, run |context| workflow(&context),
    steps [Choose, Clash, Mark, Hold, Deaf, Flaky, Slow, Final, Model], apart [Once, Keyed, Pay, Tool]
}

/// The code of [`Later`], which asks for other steps.
const CHANGED: u8 = 2;

/// The server that the tests share. It is left up, for the next run of them.
static SERVER: LazyLock<String> = LazyLock::new(|| up(&["up", "temporal"]));

fn up(arguments: &[&str]) -> String {
    engines(arguments).setting("SA01_TEMPORAL_HOST").to_owned()
}

fn config(task_queue: &str) -> Config {
    config_at(SERVER.clone(), task_queue)
}

fn config_at(address: String, task_queue: &str) -> Config {
    let apart_queue = format!("{task_queue}-t");
    Config {
        server: TemporalServer::new(address),
        namespace: "default".to_owned(),
        task_queue: task_queue.to_owned(),
        apart_queue,
        deployment: None,
    }
}

/// Of nobody in particular.
fn start(run: RunId) -> Start {
    Start { run, tenant: TenantId::new(), agent: AgentId::new() }
}

/// A worker process.
struct Process(Child);

impl Process {
    fn start(config: &Config, world: &str, code: u8) -> Self {
        let child = Command::new(std::env::current_exe().expect("this executable"))
            .args(["--exact", "worker_process", "--ignored", "--nocapture", "--test-threads=1"])
            .env("CONTRACT_SERVER", &config.server.address)
            .env("CONTRACT_QUEUE", &config.task_queue)
            .env("CONTRACT_WORLD", world)
            .env("CONTRACT_CODE", code.to_string())
            .env("CONTRACT_LIFE", LIFE_STEPS.to_string())
            .envs(config.deployment.iter().map(|name| ("CONTRACT_DEPLOYMENT", name)))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("a worker process"))
    }

    /// Whether it has ended by itself.
    fn ended(&self) -> bool {
        std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).is_ok_and(|stat| stat.contains(") Z "))
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.0.id().to_string()]).status().expect("kill runs");
        assert!(sent.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().expect("a process of ours");
        self.0.wait().expect("a process of ours");
    }
}

/// What a worker process runs; ends when its standard input does, so that it never outlives the tests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the tests start it"]
#[expect(clippy::disallowed_methods, reason = "how a test talks to its own process")]
async fn worker_process() {
    let variable = |name: &str| std::env::var(name).expect("the tests start it");
    let code = variable("CONTRACT_CODE").parse().expect("a number");
    change_code(code);
    let world = World::open(&variable("CONTRACT_WORLD")).await;
    let deployment = std::env::var("CONTRACT_DEPLOYMENT").ok();
    let later = deployment.is_some() && code == CHANGED;
    let config = config_at(variable("CONTRACT_SERVER"), &variable("CONTRACT_QUEUE"));
    let config = Config { deployment, ..config };
    let stop = CancellationToken::new();
    let parent_gone = stop.clone();
    std::thread::spawn(move || {
        drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        parent_gone.cancel();
    });
    let ledger = world.ledger();
    let life = variable("CONTRACT_LIFE").parse().expect("a number");
    let worked = if later {
        temporal::run_worker_for::<Later>(config, world, ledger, stop, CONCURRENCY, Part::All, life).await
    } else {
        temporal::run_worker_for::<Contract>(config, world, ledger, stop, CONCURRENCY, Part::All, life).await
    };
    worked.expect("it runs");
}

struct OnServer {
    world: Arc<World>,
    place: TestDatabase,
    config: Config,
    engine: TemporalEngine,
    process: Option<Process>,
}

impl OnServer {
    async fn new() -> Self {
        Self::at(SERVER.clone()).await
    }

    async fn at(address: String) -> Self {
        let (place, world) = World::create().await;
        // As short as a real queue's name, and this test's own.
        let id = RunId::new().to_string();
        let config = config_at(address, &id[id.len() - 6..]);
        let engine = TemporalEngine::new(config.clone(), NAME);
        let process = Some(Process::start(&config, place.dsn(), 0));
        Self { world, place, config, engine, process }
    }

    async fn history_bytes(&mut self, scenario: Scenario) -> i64 {
        let run = self.world.run(scenario).await;
        self.start(run).await;
        assert_eq!(self.outcome(run).await, Ok(()));
        self.closed(run).await;
        self.engine.history_size(run).await.expect("the server answers").0
    }

    /// A run that waits at its gate, and whether the earlier code began it.
    async fn begin_changed(&self) -> (RunId, bool) {
        let run = self.world.run(Scenario::Changed).await;
        self.engine.start_turn(&start(run)).await.expect("the server starts it");
        self.world.seen(run, "gate begun", 1).await;
        (run, !self.world.effects(run, "before").await.is_empty())
    }

    async fn closed(&self, run: RunId) {
        until("the workflow's end", || async {
            (self.engine.fate(run).await.expect("the server answers") == Fate::Closed).then_some(())
        })
        .await;
    }
}

impl Harness for OnServer {
    /// A step's worker is missed after 7 seconds and replaced after one more, a workflow's after 2; timers are late by
    /// up to one.
    const LATE: Duration = Duration::from_secs(8);

    fn world(&self) -> &Arc<World> {
        &self.world
    }

    async fn start(&mut self, run: RunId) {
        self.engine.start_turn(&start(run)).await.expect("the server starts it");
    }

    async fn cancel(&mut self, run: RunId) {
        self.engine.cancel_turn(run).await.expect("the server cancels it");
    }

    async fn signal(&mut self, run: RunId, name: &str) {
        self.world.signal(run, name).await;
        self.engine.signal_turn(run, name).await.expect("the server takes it");
    }

    async fn kill(&mut self) {
        drop(self.process.take());
    }

    async fn stop(&mut self) {
        let process = self.process.as_mut().expect("a worker");
        drop(process.0.stdin.take());
    }

    async fn resume(&mut self, code: u8) {
        if let Some(process) = self.process.take() {
            until("the worker's end", || async { process.ended().then_some(()) }).await;
        }
        self.process = Some(Process::start(&self.config, self.place.dsn(), code));
    }

    async fn outcome(&mut self, run: RunId) -> Result<(), StepError> {
        until("the run's end", || async {
            if let Some(outcome) = self.world.ends(run).await.pop() {
                return Some(outcome);
            }
            // Code that doesn't fit the history ends the workflow without a word: `fate` is how one learns of it.
            let closed = self.engine.fate(run).await.expect("the server answers") == Fate::Closed;
            let changed = StepError::Diverged { ordinal: 0, recorded: String::new(), asked: String::new() };
            (closed && self.world.ends(run).await.is_empty()).then_some(Err(changed))
        })
        .await
    }
}

testing::contract_suite!(OnServer::new());

#[tokio::test]
async fn histories_hold_ids_and_stay_small() {
    let mut harness = OnServer::new().await;
    let few = harness.history_bytes(Scenario::Rounds(2)).await;
    let many = harness.history_bytes(Scenario::Rounds(22)).await;
    let round = (many - few) / 20;
    println!(
        "history: {few} bytes with 2 rounds, {round} bytes for each further round of a model and a tool"
    );
    assert!(round <= ROUND_BYTES_MAX, "{round} bytes for a model and a tool");
}

#[tokio::test]
async fn a_step_outlives_the_inner_worker_that_has_it() {
    let mut harness = OnServer::new().await;
    let long = harness.world.run(Scenario::Gated).await;
    harness.start(long).await;
    harness.world.seen(long, "gate begun", 1).await;
    let busy = harness.world.run(Scenario::Rounds(u32::try_from(LIFE_STEPS).expect("small"))).await;
    harness.start(busy).await;
    assert_eq!(harness.outcome(busy).await, Ok(()));
    harness.world.open_gate(long, "gate").await;
    assert_eq!(harness.outcome(long).await, Ok(()));
    assert_eq!(harness.world.effects(long, "gate begun").await.len(), 1);
}

#[tokio::test]
async fn a_stalled_worker_cannot_complete_a_step_that_was_given_away() {
    let mut harness = OnServer::new().await;
    let run = harness.world.run(Scenario::Pay).await;
    harness.start(run).await;
    harness.world.seen(run, "pay begun", 1).await;
    let stalled = harness.process.take().expect("a worker");
    stalled.signal("-STOP");
    harness.resume(0).await;
    harness.world.seen(run, "pay begun", 2).await;
    // Both may go on now; the first to do so is the one whose attempt is over.
    harness.kill().await;
    stalled.signal("-CONT");
    harness.world.open_gate(run, "pay").await;
    assert_eq!(harness.outcome(run).await, Ok(()));
    assert_eq!(harness.world.changes(run, "pay").await, 1);
}

/// Runs that are at work while the version changes; without versions each would get to a worker by chance.
const RUNS_OVER_A_CHANGE: usize = 5;

#[tokio::test]
async fn a_run_ends_on_the_version_that_it_began_on() {
    let mut harness = OnServer::new().await;
    harness.kill().await;
    harness.config.deployment = Some(harness.config.task_queue.clone());
    harness.resume(0).await;
    let mut begun = Vec::new();
    for _ in 0..RUNS_OVER_A_CHANGE {
        let (run, earlier) = harness.begin_changed().await;
        assert!(earlier);
        begun.push(run);
    }

    let later = Process::start(&harness.config, harness.place.dsn(), CHANGED);
    while harness.begin_changed().await.1 {}
    // No worker has the earlier runs in memory any more, and the earlier version is started last.
    harness.kill().await;
    harness.resume(0).await;

    for run in begun {
        harness.world.open_gate(run, "gate").await;
        assert_eq!(harness.outcome(run).await, Ok(()));
    }
    assert!(!harness.begin_changed().await.1, "the earlier version is not current again");
    drop(later);
}

#[tokio::test]
async fn runs_are_found_by_tenant_agent_and_state() {
    let mut harness = OnServer::new().await;
    let run = harness.world.run(Scenario::Signalled).await;
    let labelled = start(run);
    harness.engine.start_turn(&labelled).await.expect("the server starts it");
    let of = format!("SomaTenant = '{}' AND SomaAgent = '{}'", labelled.tenant, labelled.agent);
    let found = async |state: &str| {
        let query = format!("{of} AND {state}");
        let engine = &harness.engine;
        until(&query, || async { (engine.matching(&query).await.ok() == Some(1)).then_some(()) }).await;
    };

    harness.world.seen(run, "before one", 1).await;
    found("SomaState = 'waiting'").await;
    assert_eq!(harness.engine.under_way().await.expect("the server answers"), [run]);
    for name in ["one", "two"] {
        harness.world.signal(run, name).await;
        harness.engine.signal_turn(run, name).await.expect("the server takes it");
    }
    found("SomaState = 'running' AND ExecutionStatus = 'Completed'").await;
    assert_eq!(harness.outcome(run).await, Ok(()));
    until("nothing is under way", || async {
        harness.engine.under_way().await.expect("the server answers").is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_history_is_replayed_by_code_that_fits_it() {
    let mut harness = OnServer::new().await;
    assert_eq!(harness.engine.history(RunId::new()).await.expect("the server answers"), None);
    let run = harness.world.run(Scenario::Changed).await;
    harness.start(run).await;
    harness.world.seen(run, "gate begun", 1).await;
    let half = harness.engine.history(run).await.expect("the server answers").expect("it is known");
    harness.world.open_gate(run, "gate").await;
    assert_eq!(harness.outcome(run).await, Ok(()));
    harness.closed(run).await;
    let whole = harness.engine.history(run).await.expect("the server answers").expect("it is known");
    assert!(whole.len() > half.len());

    for history in [&half, &whole] {
        temporal::replay::<Contract>(history).await.expect("it fits");
    }
    let garbage = temporal::replay::<Contract>(b"{}").await;
    assert!(matches!(garbage, Err(ReplayError::NoHistory(_))), "{garbage:?}");
    // The code is this process's, and each test has a process.
    change_code(CHANGED);
    for history in [&half, &whole] {
        let replayed = temporal::replay::<Later>(history).await;
        assert!(matches!(replayed, Err(ReplayError::DoesNotFit(_))), "{replayed:?}");
    }
}

/// A server of its own, which is stopped with the test.
struct OwnServer {
    name: String,
    file: String,
}

impl OwnServer {
    fn up(&self) -> String {
        up(&["up", "temporal", "--name", &self.name, "--file", &self.file])
    }

    fn down(&self) {
        self.told("down");
    }

    fn told(&self, action: &str) {
        engines(&[action, "temporal", "--name", &self.name]);
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        engines(&["down", "temporal", "--name", &self.name, "--forget"]);
    }
}

#[tokio::test]
async fn runs_go_on_after_the_server_was_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("temporal.db").to_str().expect("text").to_owned();
    let server = OwnServer { name: format!("test-{}", std::process::id()), file };
    let mut harness = OnServer::at(server.up()).await;
    let run = harness.world.run(Scenario::Gated).await;
    harness.start(run).await;
    harness.world.seen(run, "gate begun", 1).await;

    server.down();
    let answer = harness.engine.ready().await;
    assert!(matches!(answer, Err(EngineError::Unavailable(_))), "{answer:?}");
    // The step ends while there is no server to tell.
    harness.world.open_gate(run, "gate").await;
    until("the step's end", || async {
        (harness.world.state(run, 2).await.as_deref() == Some("completed")).then_some(())
    })
    .await;
    assert_eq!(server.up(), harness.config.server.address);

    assert_eq!(harness.outcome(run).await, Ok(()));
    assert_eq!(harness.world.effects(run, "gate begun").await.len(), 1, "its result was in the ledger");
    assert_eq!(harness.world.effects(run, "after").await.len(), 1);
    harness.engine.ready().await.expect("the same engine finds the server again");
}

/// Longer than the silence after which the server takes a worker for lost.
const HANG: Duration = Duration::from_secs(9);
/// The server gives a lost worker's step to another one within this time, and it would have told the step's end by then.
const GIVEN_AWAY: Duration = Duration::from_secs(5);

#[tokio::test]
async fn what_is_done_at_most_once_is_not_given_up_while_its_worker_lives() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("temporal.db").to_str().expect("text").to_owned();
    let server = OwnServer { name: format!("hangs-{}", std::process::id()), file };
    let mut harness = OnServer::at(server.up()).await;
    let other = Process::start(&harness.config, harness.place.dsn(), 0);
    let run = harness.world.run(Scenario::Once).await;
    harness.start(run).await;
    harness.world.seen(run, "once", 1).await;

    // All that the server has not heard meanwhile counts as silence.
    server.told("pause");
    tokio::time::sleep(HANG).await;
    server.told("continue");
    tokio::time::sleep(GIVEN_AWAY).await;
    harness.world.open_gate(run, "once").await;

    assert_eq!(harness.outcome(run).await, Ok(()));
    let effects = harness.world.all_effects(run).await;
    let of = |name: &str| effects.iter().filter(|effect| effect.name == name).collect::<Vec<_>>();
    assert_eq!((of("once").len(), of("lost").len()), (1, 0), "{effects:?}");
    assert_eq!(of("told")[0].detail, "done", "{effects:?}");
    drop(other);
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error_and_no_hang() {
    let nobody = Config { server: TemporalServer::new("127.0.0.1:1"), ..config("none") };
    let engine = TemporalEngine::new(nobody, NAME);
    for answer in [
        engine.ready().await,
        engine.start_turn(&start(RunId::new())).await,
        engine.cancel_turn(RunId::new()).await,
    ] {
        assert!(matches!(answer, Err(EngineError::Unavailable(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn what_the_server_does_not_know_is_not_cancelled_and_has_no_fate() {
    let engine = TemporalEngine::new(config("none"), NAME);
    engine.ready().await.expect("the server is ready");
    let run = RunId::new();
    engine.cancel_turn(run).await.expect("there is nothing to cancel");
    assert_eq!(engine.fate(run).await.expect("the server answers"), Fate::Unknown);
}

#[tokio::test]
async fn a_namespace_that_is_not_there_is_made_and_one_of_no_possible_name_is_not_ready() {
    let named = |namespace: String| TemporalEngine::new(Config { namespace, ..config("none") }, NAME);
    let new = named(format!("made-{}", RunId::new()));
    until("it is ready", async || new.ready().await.ok()).await;
    let refused = named("not a name: ".repeat(200)).ready().await;
    assert!(matches!(refused, Err(EngineError::Unavailable(_))), "{refused:?}");
}
