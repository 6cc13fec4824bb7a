//! Two gateways that share a Redis: they count together, and each shows what is done for the other.
//!
//! `scripts/engines` starts the servers. A test that can't have one fails.

use std::process::Stdio;

use contracts::RunId;
use serde_json::Value;
use testing::{OwnEngine, engines};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
};

use crate::harness::{Api, PATIENCE, Server, command, until};

/// Requests a minute of one key, in all processes.
const QUOTA: usize = 30;

/// Another process on a server's install: what it does ends with it.
struct Beside {
    _child: Child,
    line: String,
    /// Kept, so that a line printed later finds a reader.
    _output: Lines<BufReader<ChildStdout>>,
}

impl Beside {
    async fn start(server: &Server, arguments: &[&str]) -> Self {
        let log = std::fs::File::create(server.folder().join(format!("{}.log", arguments[0]))).unwrap();
        let mut process = command(server.folder(), &server.settings, arguments);
        process.stdout(Stdio::piped()).stderr(log);
        let mut child = tokio::process::Command::from(process).kill_on_drop(true).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, output.next_line()).await;
        let line = line.expect("it starts in time").unwrap().unwrap_or_default();
        Self { _child: child, line, _output: output }
    }

    fn api(&self, key: &str) -> Api {
        Api::new(self.line.strip_prefix("listening on ").expect("an address"), Some(key))
    }
}

/// Two gateways on one install, and its workers' engine.
async fn gateways(redis: &OwnEngine, settings: &[(&str, &str)]) -> (Server, Beside) {
    let temporal = engines(&["up", "temporal"]);
    let up = redis.up();
    let queue = RunId::new().to_string();
    let own = [
        ("SA01_TEMPORAL_HOST", temporal.setting("SA01_TEMPORAL_HOST")),
        ("SA01_TEMPORAL_CONVERSATION_QUEUE", queue.as_str()),
        ("SA01_REDIS_URL", up.setting("SA01_REDIS_URL")),
    ];
    let server = Server::start_with(&[&own[..], settings].concat()).await;
    let other = Beside::start(&server, &["serve", "--listen", "127.0.0.1:0"]).await;
    (server, other)
}

async fn state(api: &Api) -> (u16, Value) {
    let ready = api.get("/health/ready").await;
    (ready.status, ready.body["engines"]["redis"].clone())
}

#[tokio::test]
async fn gateways_count_a_keys_requests_together_and_a_lost_server_widens_nothing_on_temporal() {
    let redis = OwnEngine::new("redis", "gateways");
    let (server, other) = gateways(&redis, &[("SA01_RATE_LIMIT_KEY", &QUOTA.to_string())]).await;
    let apis = [server.api(), other.api(server.api_key())];
    let ask = async |api: &Api| api.get("/api/v2/agents").await.status;
    let (mut taken, mut refused) = (0, 0);
    for api in apis.iter().cycle().take(QUOTA + 10) {
        match ask(api).await {
            200 => taken += 1,
            429 => refused += 1,
            status => panic!("{status}"),
        }
    }
    // A minute's worth, and what came in again meanwhile.
    assert!((QUOTA..QUOTA + 5).contains(&taken) && refused > 5, "{taken} taken, {refused} refused");

    redis.tell("kill");
    // Each request finds out for itself, and is answered.
    for api in &apis {
        assert_eq!(ask(api).await, 429);
        assert_eq!(state(api).await, (200, "does not answer".into()), "it is told, and requests are taken");
    }
    redis.up();
    for api in &apis {
        until("it answers again", async || (state(api).await == (200, "ok".into())).then_some(())).await;
    }
}

#[tokio::test]
async fn a_stream_is_read_at_another_gateway_than_took_the_message_on_temporal() {
    let redis = OwnEngine::new("redis", "streams");
    let (server, other) = gateways(&redis, &[]).await;
    let _worker = Beside::start(&server, &["worker", "all"]).await;
    let (here, there) = (server.api(), other.api(server.api_key()));
    let conversation = here.conversation().await;
    let run = here.say(&conversation, "[[hold one two three four five six]]").await;
    let mut stream = there.stream(&run, 0).await;
    let before = stream.read_to("chat.delta").await;
    server.model.release();
    stream.read_to("run.done").await;
    assert!(!before.is_empty());
    assert_eq!(here.end_of(&run).await.answer(), "one two three four five six");

    redis.tell("kill");
    let run = there.say(&conversation, "[[say without it]]").await;
    assert_eq!(here.end_of(&run).await.answer(), "without it");
}
