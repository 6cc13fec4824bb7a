//! The program with a Kafka: what happens is told there, each of it, and messages from there are answered.
//!
//! `scripts/engines` starts the servers. A test that can't have one fails.

use contracts::RunId;
use serde_json::{Value, json};
use testing::{OwnEngine, Topics, engines, topics::Found};

use crate::harness::{Server, text, until};

/// An install that tells a cluster, under names of its own.
struct Telling {
    server: Server,
    topics: Topics,
}

/// Settings of one that shares the tests' cluster.
fn names() -> (String, String) {
    let servers = engines(&["up", "kafka"]).setting("SA01_KAFKA_BOOTSTRAP_SERVERS").to_owned();
    (servers, format!("test-{}.", RunId::new()))
}

impl Telling {
    async fn start() -> Self {
        let (servers, prefix) = names();
        let settings = [
            ("SA01_KAFKA_BOOTSTRAP_SERVERS", servers.as_str()),
            ("SA01_KAFKA_TOPIC_PREFIX", prefix.as_str()),
        ];
        Self {
            server: Server::start_with(&settings).await,
            topics: Topics::new(servers.clone(), prefix.clone()),
        }
    }

    async fn read(&self, topic: &'static str) -> Vec<Found> {
        let topics = self.topics.clone();
        tokio::task::spawn_blocking(move || topics.read(topic)).await.unwrap()
    }

    /// Waits for this many events of a topic.
    async fn told(&self, topic: &'static str, count: usize) -> Vec<Found> {
        until("the events are told", async || Some(self.read(topic).await).filter(|all| all.len() >= count))
            .await
    }

    async fn write(&self, payload: Value) {
        let topics = self.topics.clone();
        let bytes = payload.to_string().into_bytes();
        tokio::task::spawn_blocking(move || topics.write("conversation.inbound", "k", &bytes)).await.unwrap();
    }
}

#[tokio::test]
async fn a_turn_is_told_with_its_tools_its_calls_and_its_audit() {
    let telling = Telling::start().await;
    let api = telling.server.api();
    let conversation = api.conversation().await;
    let run = api.say(&conversation, r#"[[tool timestamp {}]] [[say it is late]]"#).await;
    assert_eq!(api.end_of(&run).await.answer(), "it is late");

    let outbound = telling.told("conversation.outbound", 2).await;
    let [answer, done] = outbound.as_slice() else { panic!("{outbound:?}") };
    assert_eq!(answer.key, conversation, "those of a conversation stay in order");
    assert_eq!(answer.headers["event_type"], "assistant.final");
    assert_eq!(answer.headers["correlation_id"], run);
    let (answer, done) = (answer.json(), done.json());
    assert_eq!((&answer["role"], &answer["message"]), (&json!("assistant"), &json!("it is late")));
    assert_eq!((&answer["session_id"], &answer["version"]), (&json!(conversation), &json!("sa01-v1")));
    assert_eq!((&done["type"], &done["metadata"]["status"]), (&json!("run.done"), &json!("completed")));
    assert!(done["metadata"]["cost"].as_f64().unwrap() > 0.0, "{done}");

    let (asked, ended) = (telling.told("tool.requests", 1).await, telling.told("tool.results", 1).await);
    let (asked, ended) = (asked[0].json(), ended[0].json());
    assert_eq!((&asked["tool"], &asked["effect"]), (&json!("timestamp"), &json!("allow")));
    assert_eq!((&ended["call_id"], &ended["status"]), (&asked["call_id"], &json!("success")));
    assert_eq!(telling.told("llm.metrics", 2).await.len(), 2, "one for each call of the model");

    let entries = api.get("/api/v2/audit?limit=100").await.body["items"].as_array().unwrap().clone();
    let audit = telling.told("audit.events", 3).await;
    for event in &audit {
        let event = event.json();
        let kept =
            entries.iter().find(|entry| entry["id"] == event["event_id"]).expect("an entry of the audit");
        assert_eq!((&event["entry"]["hash"], &event["entry"]["action"]), (&kept["hash"], &kept["action"]));
    }
    let ready = api.get("/health/ready").await;
    assert_eq!(ready.body["engines"]["kafka"], "ok", "{}", ready.body);
}

#[tokio::test]
async fn each_part_of_a_budget_is_told_of_once_when_it_is_spent() {
    let telling = Telling::start().await;
    let api = telling.server.api();
    let me = api.get("/api/v2/me").await.expect(200);
    let user = me["user_id"].as_str().unwrap();
    let path = format!("/api/v2/budgets/{user}");
    let limit = 12_000;
    api.put(&path, json!({ "limit_micros": limit })).await.expect(204);
    let conversation = api.conversation().await;
    let mut turns = 0;
    while api.turn(&conversation, "[[pad 4000]]").await.run["state"] == "completed" {
        turns += 1;
        assert!(turns < 100, "the budget stops them");
    }
    let budgets = api.get("/api/v2/budgets").await.expect(200);
    let budget = budgets.as_array().unwrap().iter().find(|budget| budget["id"] == user).unwrap();
    let spent = budget["spent_micros"].as_u64().unwrap();
    let mut reached: Vec<u64> =
        [50, 80, 90, 100].into_iter().filter(|part| spent * 100 >= limit * part).collect();
    assert!(reached.contains(&50) && !reached.contains(&100), "{spent} of {limit}");

    // With a lower limit the rest is reached without a call.
    api.put(&path, json!({ "limit_micros": spent })).await.expect(204);
    reached.push(100);

    let told = telling.told("budget.events", reached.len()).await;
    let told: Vec<Value> = told.iter().map(Found::json).collect();
    let parts: Vec<u64> = told.iter().map(|one| one["threshold_percent"].as_u64().unwrap()).collect();
    assert_eq!(parts, reached);
    for one in &told {
        assert_eq!(
            (&one["type"], &one["scope"], &one["budget_id"]),
            (&json!("budget.threshold"), &json!("user"), &json!(user))
        );
    }
    let last = told.last().unwrap();
    assert_eq!((&last["spent_micros"], &last["limit_micros"]), (&json!(spent), &json!(spent)));
}

#[tokio::test]
async fn a_message_from_outside_is_answered_once_and_garbage_is_kept() {
    let mut telling = Telling::start().await;
    let api = telling.server.api();
    let account = api.post("/api/v2/service-accounts", json!({ "name": "crm", "roles": ["member"] })).await;
    assert_eq!(account.status, 201, "{}", account.body);
    let account = account.body["id"].as_str().unwrap().to_owned();
    telling.server.settings.insert("SA01_KAFKA_INBOUND_ACCOUNTS".into(), account.clone());
    telling.server.restart().await;
    let api = telling.server.api();
    let conversation = api.conversation().await;
    let tenant = api.get("/api/v2/me").await.body["tenant_id"].clone();
    let message = json!({
        "event_id": "crm-1", "type": "user.message", "version": "sa01-v1", "tenant_id": tenant,
        "account_id": account, "session_id": conversation, "message": "[[say hello crm]]",
    });
    // An event makes the topics; until then nobody can write to them.
    telling.told("audit.events", 1).await;
    telling.write(message.clone()).await;
    telling.write(message.clone()).await;
    let mut stranger = message.clone();
    stranger["account_id"] = json!(contracts::UserId::new());
    telling.write(stranger).await;
    telling.write(json!({ "hello": 1 })).await;
    let answers = telling.told("conversation.outbound", 2).await;
    assert_eq!(answers[0].json()["message"], "hello crm");

    let dead = telling.told("conversation.inbound.dlq", 2).await;
    let [stranger, garbage] = dead.as_slice() else { panic!("{dead:?}") };
    assert_eq!(stranger.json()["error_type"], "unknown_account");
    assert_eq!(garbage.json()["error_type"], "invalid");
    assert_eq!(garbage.json()["original_event"], r#"{"hello":1}"#);
    let runs = api.get(&format!("/api/v2/conversations/{conversation}/runs")).await;
    assert_eq!(runs.body["items"].as_array().unwrap().len(), 1, "an event that comes twice is one message");

    let listed = telling.server.run(&["dlq", "list"]);
    let listed = text(&listed.stdout);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let name = listed.lines().find(|line| line.contains("invalid")).unwrap().split("  ").next().unwrap();
    let shown = telling.server.run(&["dlq", "show", name]);
    assert_eq!(text(&shown.stdout).trim(), r#"{"hello":1}"#);
    assert!(text(&shown.stderr).contains("event_id"), "{}", text(&shown.stderr));
    let replayed = telling.server.run(&["dlq", "replay"]);
    assert_eq!(text(&replayed.stdout).trim(), "2 on their way again", "{}", text(&replayed.stderr));
    telling.told("conversation.inbound.dlq", 4).await;
}

#[tokio::test]
async fn what_was_committed_before_a_kill_is_told_after_it() {
    let telling = Telling::start().await;
    let mut server = telling.server;
    let mut runs = Vec::new();
    for number in 0..5 {
        let api = server.api();
        let conversation = api.conversation().await;
        let run = api.say(&conversation, &format!("[[say number {number}]]")).await;
        api.end_of(&run).await;
        runs.push(run);
        if number % 2 == 1 {
            // At once: some of it was not carried yet.
            server.restart().await;
        }
    }
    let telling = Telling { server, topics: telling.topics };
    until("each run is told of", async || {
        let told = telling.read("conversation.outbound").await;
        let done = |run: &String| {
            told.iter()
                .any(|one| one.headers["event_type"] == "run.done" && one.headers["correlation_id"] == *run)
        };
        runs.iter().all(done).then_some(())
    })
    .await;
}

#[tokio::test]
async fn brokers_that_ask_who_one_is_let_in_who_can_tell_and_others_hear_why_not() {
    let engine = OwnEngine::new("kafka", "secure");
    let printed = engine.up_with(&["--secure"]);
    let prefix = format!("test-{}.", RunId::new());
    let settings = |left_out: &str| -> Vec<(&str, &str)> {
        let all = printed.settings().filter(|(name, _)| *name != left_out);
        all.chain([("SA01_KAFKA_TOPIC_PREFIX", prefix.as_str())]).collect()
    };
    let server = Server::start_with(&settings("")).await;
    let telling = Telling { server, topics: Topics::secure(&printed, prefix.as_str()) };
    let api = telling.server.api();
    let conversation = api.conversation().await;
    assert_eq!(api.turn(&conversation, "[[say behind doors]]").await.answer(), "behind doors");
    telling.told("conversation.outbound", 2).await;
    assert_eq!(api.get("/health/ready").await.body["engines"]["kafka"], "ok");

    let wrong = ("SA01_KAFKA_SASL_PASSWORD", "hunter2");
    let by_password = [settings(wrong.0), vec![wrong]].concat();
    for (settings, why) in [
        (by_password, "SASL authentication error"),
        (settings("SA01_KAFKA_TLS_CA"), "certificate verify failed"),
    ] {
        let server = Server::start_with(&settings).await;
        let api = server.api();
        let conversation = api.conversation().await;
        assert_eq!(api.turn(&conversation, "[[say outside]]").await.answer(), "outside");
        until("it is told that the door is shut", async || {
            let ready = api.get("/health/ready").await.expect(200);
            let said = ready["engines"]["kafka"].as_str().unwrap();
            (said.starts_with("does not let this program in; ") && server.log().contains(why)).then_some(())
        })
        .await;
        assert!(!server.log().contains("hunter2"), "{}", server.log());
    }
}

#[tokio::test]
async fn a_worker_of_events_needs_some() {
    let temporal = [("SA01_TEMPORAL_HOST", "127.0.0.1:9")];
    let server = Server::installed(&temporal);
    let refused = server.run(&["worker", "events"]);
    assert_eq!(refused.status.code(), Some(78));
    assert!(text(&refused.stderr).contains("SA01_KAFKA_BOOTSTRAP_SERVERS: events are embedded"));
    let refused = server.run(&["dlq", "list"]);
    assert_eq!(refused.status.code(), Some(78));
}
