//! Turns on a Temporal server: a gateway and a worker, two processes on one database.
//!
//! `scripts/engines` starts the server, unless it is up, and leaves it up for the next run. A test that can't have it
//! fails.

use std::{
    process::Stdio,
    sync::LazyLock,
    time::{Duration, Instant},
};

use contracts::RunId;
use platform::config::TemporalServer;
use serde_json::json;
use temporal::{Fate, TemporalEngine};
use testing::{EffectLedger, OwnEngine, engines};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
};

use crate::harness::{Api, PATIENCE, Server, command, good_settings, run_in, text, until};

/// Bytes that the history may grow by for a call of a model and a tool.
const ROUND_BYTES_MAX: i64 = 2048;
/// A killed worker's step is with another one by then.
const REPLACED_WITHIN: Duration = Duration::from_secs(25);
const WORKFLOW: &str = "turn";

/// The address of the server that the tests share.
static SERVER: LazyLock<String> =
    LazyLock::new(|| engines(&["up", "temporal"]).setting("SA01_TEMPORAL_HOST").to_owned());

/// A `soma worker all`: its process ends with it.
pub struct Worker {
    child: Child,
    /// What it printed first.
    first: String,
    /// Kept, so that a line printed later finds a reader.
    _output: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    pub async fn start(server: &Server) -> Self {
        Self::start_by(server, &["worker", "all"], 1).await
    }

    async fn of_kind(server: &Server, kind: &str) -> Self {
        Self::start_by(server, &["worker", kind], 1).await
    }

    /// By a command that prints so many lines when it works.
    async fn start_by(server: &Server, arguments: &[&str], lines: usize) -> Self {
        let path = server.folder().join("worker.log");
        let log = std::fs::File::options().create(true).append(true).open(&path).expect("a log");
        let mut worker = command(server.folder(), &server.settings, arguments);
        worker.stdout(Stdio::piped()).stderr(log);
        let spawned = tokio::process::Command::from(worker).kill_on_drop(true).spawn();
        let mut child = spawned.expect("the program starts");
        let mut output = BufReader::new(child.stdout.take().expect("a piped output")).lines();
        let mut printed = Vec::new();
        for _ in 0..lines {
            let line = tokio::time::timeout(PATIENCE, output.next_line()).await;
            printed.extend(line.expect("it works in time").expect("readable output"));
        }
        let (queue, tools) = (queue_of(server), tools_queue_of(server));
        let expected = match arguments[1] {
            "conversation" => format!("working on queue {queue}"),
            "tools" => format!("working on queue {tools}"),
            _ => format!("working on queue {queue} and queue {tools}"),
        };
        let log = || std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(printed.last(), Some(&expected), "{}", log());
        Self { child, first: printed.swap_remove(0), _output: output }
    }

    /// SIGKILL, and the end of it.
    async fn kill(mut self) {
        self.child.kill().await.expect("a process can be killed");
    }
}

/// A gateway on a queue of its own, whose name is as long as the usual one's: histories hold it.
pub async fn gateway(settings: &[(&str, &str)]) -> Server {
    let id = RunId::new().to_string();
    let queue = &id[id.len() - "conversation".len()..];
    let tools = &id[id.len() - "tool-executor".len()..];
    let own = [
        ("SA01_TEMPORAL_HOST", SERVER.as_str()),
        ("SA01_TEMPORAL_CONVERSATION_QUEUE", queue),
        ("SA01_TEMPORAL_TOOLS_QUEUE", tools),
    ];
    Server::start_with(&[&own[..], settings].concat()).await
}

fn queue_of(server: &Server) -> &str {
    &server.settings["SA01_TEMPORAL_CONVERSATION_QUEUE"]
}

fn tools_queue_of(server: &Server) -> &str {
    &server.settings["SA01_TEMPORAL_TOOLS_QUEUE"]
}

/// What the Temporal server itself knows of this install's runs.
pub fn engine(server: &Server) -> TemporalEngine {
    let config = temporal::Config {
        server: TemporalServer::new(SERVER.as_str()),
        namespace: "default".into(),
        task_queue: queue_of(server).to_owned(),
        apart_queue: tools_queue_of(server).to_owned(),
        deployment: None,
    };
    TemporalEngine::new(config, WORKFLOW)
}

/// Waits until the server has that of a run.
pub async fn has_fate(engine: &TemporalEngine, run: &str, fate: Fate) {
    let run: RunId = run.parse().unwrap();
    let what = format!("the workflow is {fate:?}");
    until(&what, || async { (engine.fate(run).await.unwrap() == fate).then_some(()) }).await;
}

async fn nothing_is_reserved(api: &Api) {
    for budget in api.get("/api/v2/budgets").await.expect(200).as_array().unwrap() {
        assert_eq!(budget["reserved_micros"], 0, "{budget}");
    }
}

/// A message whose answer holds what only a program that was really run can know.
pub const COMPUTES: &str = r#"[[tool code_execute {"language": "python", "code": "print(123456789 * 987654321)"}]]
    [[say It is {result}]]"#;
const COMPUTED: &str = "It is 121932631112635269\n";

/// With an agent whose calls of `code_execute` a person must approve.
pub async fn careful_conversation(api: &Api) -> String {
    let agent = json!({
        "slug": "careful", "name": "Careful", "tools": ["code_execute"], "tools_ask": ["code_execute"],
    });
    api.post("/api/v2/agents", agent).await.expect(201);
    api.conversation_with("careful").await
}

/// Approves the one call that waits.
pub async fn approve(api: &Api) {
    let pending = api.get("/api/v2/approvals?state=pending").await.expect(200);
    let approval = &pending["items"][0];
    let decision = json!({ "decision": "approve", "arguments_hash": approval["arguments_hash"] });
    let path = format!("/api/v2/approvals/{}/decide", approval["id"].as_str().unwrap());
    api.post(&path, decision).await.expect(200);
}

/// An install with a run that waits for a person, and whose worker was killed.
async fn waiting_without_a_worker() -> (Server, String) {
    let server = gateway(&[]).await;
    let worker = Worker::start(&server).await;
    let api = server.api();
    let conversation = careful_conversation(&api).await;
    let run = api.say(&conversation, COMPUTES).await;
    api.stream(&run, 0).await.read_to("approval.requested").await;
    worker.kill().await;
    (server, run)
}

#[tokio::test]
async fn a_run_waits_for_a_person_on_temporal_though_its_worker_is_killed() {
    let (server, run) = waiting_without_a_worker().await;
    let api = server.api();

    approve(&api).await;
    let _worker = Worker::start(&server).await;

    assert_eq!(api.end_of(&run).await.answer(), COMPUTED);
}

#[tokio::test]
async fn a_turn_with_code_execute_answers_with_the_tools_output_on_temporal() {
    let server = gateway(&[]).await;
    let _worker = Worker::start(&server).await;
    let api = server.api();
    let conversation = api.conversation().await;

    let began = Instant::now();
    let turn = api.turn(&conversation, COMPUTES).await;
    println!("a turn with a tool: {:?}", began.elapsed());

    assert_eq!(turn.answer(), COMPUTED);
    assert_eq!(turn.run["state"], "completed");
    let result = turn.one("tool.result");
    assert_eq!((&result["status"], &result["output"]), (&json!("success"), &json!("121932631112635269\n")));
    has_fate(&engine(&server), turn.run["id"].as_str().unwrap(), Fate::Closed).await;

    let mut settings = server.settings.clone();
    settings.insert("SA01_URL".into(), server.base().into());
    settings.insert("SA01_API_KEY".into(), server.api_key().into());
    let folder = server.folder().to_owned();
    let chat = tokio::task::spawn_blocking(move || run_in(&folder, &settings, &["chat", "--once", COMPUTES]));
    let chat = chat.await.unwrap();
    assert_eq!((chat.status.code(), text(&chat.stdout)), (Some(0), format!("{COMPUTED}\n")));
    assert!(text(&chat.stderr).contains("go on with: soma chat"), "{}", text(&chat.stderr));
}

/// Start, two tasks of the workflow with a step of their own in between, and the tool call that is asked for.
const EVENTS_BEFORE_A_TOOL: i64 = 11;

/// Input tokens of the scripted model's count, for each of the turn's model calls.
const CONTEXT_TOKENS: u64 = 50_000;
const FEW: usize = 2;
const MANY: usize = 22;

/// Asks for so many rounds of a model and a tool; the size of the run's history.
async fn history_bytes(server: &Server, conversation: &str, rounds: usize) -> i64 {
    let text = format!("{} [[say done]]", "[[tool timestamp]] ".repeat(rounds));
    let turn = server.api().turn(conversation, &text).await;
    assert_eq!(turn.answer(), "done");
    assert_eq!(turn.all("tool.result").len(), rounds);
    let calls = u64::try_from(rounds).unwrap() + 1;
    let input = turn.run["usage"]["input_tokens"].as_u64().unwrap();
    assert!(input >= calls * CONTEXT_TOKENS, "{input} tokens in {calls} calls");
    assert_eq!(turn.run["context_cut"], false);
    let run = turn.run["id"].as_str().unwrap();
    let engine = engine(server);
    has_fate(&engine, run, Fate::Closed).await;
    engine.history_size(run.parse().unwrap()).await.unwrap().0
}

#[tokio::test]
async fn a_history_grows_by_at_most_two_kilobytes_a_round_though_contexts_are_large() {
    let server = gateway(&[("SA01_MODEL_CONTEXT", "128000")]).await;
    let _worker = Worker::start(&server).await;
    let api = server.api();
    let limits = json!({ "limits": { "tokens_max": 100_000_000, "steps_max": 100 } });
    api.patch("/api/v2/agents/default", limits).await.expect(200);
    let conversation = api.conversation().await;
    for _ in 0..4 {
        api.turn(&conversation, &format!("[[say read]] {}", "lorem ipsum ".repeat(4_200))).await;
    }

    let few = history_bytes(&server, &conversation, FEW).await;
    let many = history_bytes(&server, &conversation, MANY).await;

    let round = (many - few) / i64::try_from(MANY - FEW).unwrap();
    println!("history: {few} bytes with {FEW} rounds, {many} with {MANY}: {round} bytes for a further round");
    assert!(few > 0 && round > 0, "{few} {many}");
    assert!(round <= ROUND_BYTES_MAX, "{round} bytes for a model and a tool");
}

#[tokio::test]
async fn a_namespace_that_is_not_there_is_made_on_temporal() {
    let namespace = format!("made-{}", RunId::new());
    let server = gateway(&[("SA01_TEMPORAL_NAMESPACE", &namespace)]).await;
    let _worker = Worker::start(&server).await;
    let api = server.api();
    until("workflows are ready", async || (api.get("/health/ready").await.status == 200).then_some(())).await;
    let conversation = api.conversation().await;
    let run = api.say(&conversation, "[[say in a new namespace]]").await;
    assert_eq!(api.end_of(&run).await.answer(), "in a new namespace");
}

#[tokio::test]
async fn turns_that_temporal_no_longer_knows_go_on_from_what_the_database_has_of_them() {
    let (mut server, run) = waiting_without_a_worker().await;
    server.kill().await;
    let asked = server.model.counts().requests;
    // An empty namespace is what is left when its store is lost.
    server.settings.insert("SA01_TEMPORAL_NAMESPACE".into(), format!("empty-{}", RunId::new()));
    server.restart().await;
    let _worker = Worker::start(&server).await;

    let api = server.api();
    approve(&api).await;

    assert_eq!(api.end_of(&run).await.answer(), COMPUTED);
    assert_eq!(
        server.model.counts().requests,
        asked + 1,
        "the first answer of the model was not asked for again"
    );
}

#[tokio::test]
async fn a_worker_tells_whoever_watches_over_it_how_it_is_on_temporal() {
    let server = gateway(&[]).await;
    let arguments = ["worker", "all", "--concurrency", "2", "--listen", "127.0.0.1:0"];
    let worker = Worker::start_by(&server, &arguments, 2).await;
    let watched = Api::new(worker.first.strip_prefix("listening on ").unwrap(), Some(server.api_key()));
    let ready = watched.get("/health/ready").await.expect(200);
    assert_eq!((&ready["engines"]["database"], &ready["engines"]["workflows"]), (&json!("ok"), &json!("ok")));
    assert_eq!(watched.get("/health/live").await.status, 200);
    assert_eq!(watched.get("/metrics").await.status, 200);
    assert_eq!(watched.without_key().get("/metrics").await.status, 401);
    // It takes no requests.
    assert_eq!(watched.get("/api/v2/agents").await.status, 404);
    worker.kill().await;
}

#[tokio::test]
async fn a_temporal_server_that_asks_for_a_certificate_lets_in_who_shows_one() {
    let own = OwnEngine::new("temporal", "secure");
    let printed = own.up_with(&["--secure"]);
    let settings: Vec<(&str, &str)> = printed.settings().collect();
    let server = gateway(&settings).await;
    let _worker = Worker::start(&server).await;
    let api = server.api();
    let conversation = api.conversation().await;
    assert_eq!(api.turn(&conversation, "[[tool timestamp {}]] [[say let in]]").await.answer(), "let in");

    let shown = |name: &str| matches!(name, "SA01_TEMPORAL_TLS_CERT" | "SA01_TEMPORAL_TLS_KEY");
    let settings: Vec<(&str, &str)> = settings.into_iter().filter(|(name, _)| !shown(name)).collect();
    let stranger = gateway(&settings).await;
    let ready = stranger.api().get("/health/ready").await;
    assert_eq!(ready.status, 503);
    assert_ne!(ready.body["engines"]["workflows"], "ok", "{}", ready.body);
    // A worker tries again until it is let in, and says why it is not.
    let log = stranger.folder().join("refused.log");
    let mut refused = command(stranger.folder(), &stranger.settings, &["worker", "all"]);
    refused.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
    let _refused = tokio::process::Command::from(refused).kill_on_drop(true).spawn().unwrap();
    until("it says why", async || {
        std::fs::read_to_string(&log).unwrap().contains("ertificate").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_worker_for_tools_that_has_other_files_than_the_gateway_is_refused_on_temporal() {
    let server = gateway(&[]).await;
    let apart = tempfile::tempdir().unwrap();
    let mut settings = server.settings.clone();
    settings.insert("SA01_DATA_DIR".to_owned(), apart.path().display().to_string());
    let worker = |kind: &str| run_in(server.folder(), &settings, &["worker", kind]);
    let refused = worker("tools");
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(78), "{said}");
    // What it says to do helps.
    let (_, told) = said.split_once("echo ").expect("what to do");
    let (mark, file) = told.trim().split_once(" > ").expect("a mark and its file");
    std::fs::write(file, mark).unwrap();
    let mut child =
        command(server.folder(), &settings, &["worker", "tools"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line)
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(line.trim(), format!("working on queue {}", tools_queue_of(&server)));
}

#[tokio::test]
async fn serve_runs_no_workflow_with_temporal() {
    let server = gateway(&[]).await;
    let api = server.api();
    let conversation = api.conversation().await;
    let run = api.say(&conversation, "[[say at last]]").await;
    let next = api.say(&conversation, "[[say and then]]").await;

    let engine = engine(&server);
    has_fate(&engine, &run, Fate::Running).await;
    // The workflow was started and its first task put on the queue; nobody took it from there.
    let (_, events) = engine.history_size(run.parse().unwrap()).await.unwrap();
    assert_eq!(events, 2);
    let states = [api.run(&run).await["state"].clone(), api.run(&next).await["state"].clone()];
    assert_eq!(states, ["running", "queued"]);
    assert_eq!(server.model.counts().requests, 0);

    let _worker = Worker::start(&server).await;
    assert_eq!(api.end_of(&run).await.answer(), "at last");
    assert_eq!(api.end_of(&next).await.answer(), "and then");
}

#[tokio::test]
async fn turns_and_tool_calls_have_workers_of_their_own_on_temporal() {
    let server = gateway(&[]).await;
    let conversations = Worker::of_kind(&server, "conversation").await;
    let api = server.api();
    let conversation = api.conversation().await;
    let run = api.say(&conversation, COMPUTES).await;
    let engine = engine(&server);
    // The model was asked, its answer taken, and the tool call put on the other queue, from where nobody takes it.
    let events = async || engine.history_size(run.parse().unwrap()).await.unwrap().1;
    until("the tool call waits", || async { (events().await >= EVENTS_BEFORE_A_TOOL).then_some(()) }).await;
    server.model.wait_for(PATIENCE, |counts| counts.requests == 1 && counts.in_flight == 0).await;
    assert_eq!(api.run(&run).await["state"], "running");

    let tools = Worker::of_kind(&server, "tools").await;
    let mut stream = api.stream(&run, 0).await;
    let told = stream.read_to("tool.result").await;
    assert_eq!(told.last().unwrap().payload()["output"], "121932631112635269\n");
    assert_eq!(api.end_of(&run).await.answer(), COMPUTED);

    // Without one for turns nobody asks the model, though there is one for tools.
    conversations.kill().await;
    let requests = server.model.counts().requests;
    let run = api.say(&conversation, "[[say at last]]").await;
    has_fate(&engine, &run, Fate::Running).await;
    assert_eq!(server.model.counts().requests, requests);
    let _conversations = Worker::of_kind(&server, "conversation").await;
    assert_eq!(api.end_of(&run).await.answer(), "at last");
    tools.kill().await;
}

#[tokio::test]
async fn a_cancelled_run_ends_on_temporal() {
    let server = gateway(&[]).await;
    let _worker = Worker::start(&server).await;
    let api = server.api();
    let conversation = api.conversation().await;
    let run = api.say(&conversation, "[[hold one two three four five six]]").await;
    let mut stream = api.stream(&run, 0).await;
    stream.read_to("chat.delta").await;

    let began = Instant::now();
    let cancelled = api.post(&format!("/api/v2/runs/{run}/cancel"), json!({})).await.expect(202);
    assert_eq!(cancelled["state"], "cancelling");
    stream.read_to("run.done").await;
    println!("cancelled in {:?}", began.elapsed());

    let turn = api.end_of(&run).await;
    assert_eq!(turn.run["state"], "cancelled");
    assert_eq!(turn.one("run.done")["status"], "cancelled");
    assert!(turn.all("chat.done").is_empty() && turn.all("error").is_empty());
    nothing_is_reserved(&api).await;
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 0).await;
    has_fate(&engine(&server), &run, Fate::Closed).await;
    assert_eq!(api.turn(&conversation, "[[say next]]").await.answer(), "next");
}

#[test]
fn a_worker_refuses_embedded_workflows() {
    let folder = tempfile::tempdir().unwrap();
    let refused = run_in(folder.path(), &good_settings(folder.path()), &["worker", "all"]);
    let said = text(&refused.stderr);
    assert_eq!((refused.status.code(), text(&refused.stdout).as_str()), (Some(78), ""), "{said}");
    assert!(said.contains("SA01_TEMPORAL_HOST") && said.contains("`soma serve`"), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it makes nothing");
}

#[tokio::test]
async fn a_killed_worker_is_replaced_and_the_tool_runs_once() {
    let effects = EffectLedger::start();
    let server = gateway(&[("SOMA_EFFECTS_URL", &effects.url())]).await;
    let worker = Worker::start(&server).await;
    let api = server.api();
    let conversation = api.conversation().await;
    let told = r#"[[tool fx_at_most_once {"note": "once"}]] [[hold one two three four five six]]"#;
    let run = api.say(&conversation, told).await;
    let mut stream = api.stream(&run, 0).await;
    let before = stream.read_to("chat.delta").await;
    let delta = before.last().unwrap().payload();
    assert_eq!(delta["delta"], "one two three");

    worker.kill().await;
    let killed = Instant::now();
    let _replacement = Worker::start(&server).await;
    let again = stream.read_to("chat.reset").await;
    let replaced = killed.elapsed();
    println!("the model is asked again {replaced:?} after the kill");
    assert!(replaced <= REPLACED_WITHIN, "{replaced:?}");
    let reset = again.last().unwrap().payload();
    assert_eq!(*reset, json!({ "conversation_id": conversation, "response_id": delta["response_id"] }));
    server.model.wait_for(PATIENCE, |counts| counts.requests == 3 && counts.in_flight == 1).await;
    server.model.release();

    let turn = api.end_of(&run).await;
    assert_eq!(turn.answer(), "one two three four five six");
    assert_eq!(turn.one("tool.result")["status"], "success");
    assert_eq!(turn.all("chat.reset").len(), 1);
    assert_eq!(effects.counts().by_class["at_most_once"], 1);
    nothing_is_reserved(&api).await;
}
