//! SIGKILL at bad moments: what was accepted is answered, what was done is not done again.

use platform::faults::POINTS;
use serde_json::{Value, json};
use testing::EffectLedger;

use crate::harness::{Api, PATIENCE, Server, until};

/// How often whoever approves looks for something to approve.
const APPROVE_EVERY: std::time::Duration = std::time::Duration::from_millis(50);

/// A call that leaves a line in the conversation's workspace each time it is made.
fn count_me(then: &str) -> String {
    let program = json!({ "language": "bash", "code": format!("echo made >> calls; {then}") });
    format!("[[tool code_execute {program}]]")
}

const READ_CALLS: &str = r#"[[tool file_read {"path": "calls"}]] [[say {result}]]"#;

#[tokio::test]
async fn a_run_killed_while_the_model_speaks_goes_on_and_its_tool_is_not_run_again() {
    let mut server = Server::start().await;
    let conversation = server.api().conversation().await;
    let text = format!("{} [[hold one two three four five six]]", count_me("true"));
    let run = server.api().say(&conversation, &text).await;
    let mut stream = server.api().stream(&run, 0).await;
    let before = stream.read_to("chat.delta").await;
    assert_eq!(before.last().unwrap().payload()["delta"], "one two three");

    server.kill().await;
    assert_eq!(stream.next().await, None);
    server.restart().await;

    let last = before.last().unwrap().sequence;
    let mut resumed = server.api().stream(&run, last).await;
    let reset = resumed.next().await.unwrap();
    assert_eq!((reset.kind.as_str(), reset.sequence), ("chat.reset", last + 1));
    let response = &before.last().unwrap().payload()["response_id"];
    assert_eq!(*reset.payload(), json!({ "conversation_id": conversation, "response_id": response }));
    server.model.wait_for(PATIENCE, |counts| counts.requests == 3 && counts.in_flight == 1).await;
    server.model.release();
    let mut rest = vec![reset];
    rest.extend(resumed.read_to("run.done").await);

    let turn = server.api().end_of(&run).await;
    assert_eq!(turn.frames, [before, rest.clone()].concat(), "nothing before the kill was lost or changed");
    let text: String = rest
        .iter()
        .filter(|frame| frame.kind == "chat.delta")
        .map(|frame| frame.payload()["delta"].as_str().unwrap())
        .collect();
    assert_eq!(
        (text.as_str(), turn.answer()),
        ("one two three four five six", "one two three four five six")
    );
    assert_eq!(turn.one("tool.result")["status"], "success");
    assert_eq!(server.api().turn(&conversation, READ_CALLS).await.answer(), "made\n");
    for budget in server.api().get("/api/v2/budgets").await.expect(200).as_array().unwrap() {
        assert_eq!(budget["reserved_micros"], 0);
    }
}

#[tokio::test]
async fn a_program_that_was_cut_off_by_a_kill_is_reported_as_unknown_and_not_run_again() {
    let mut server = Server::start().await;
    let conversation = server.api().conversation().await;
    let me = server.api().get("/api/v2/me").await.expect(200);
    let tenant = me["tenant_id"].as_str().unwrap();
    let calls = server.data().join("workspaces").join(tenant).join(&conversation).join("calls");
    let text = format!("{} [[say {{result}}]]", count_me("sleep 60"));
    let run = server.api().say(&conversation, &text).await;
    until("the program runs", || async { calls.exists().then_some(()) }).await;

    server.restart().await;

    let turn = server.api().end_of(&run).await;
    assert_eq!(turn.one("tool.result")["status"], "unknown");
    assert!(turn.answer().contains("not known"), "{}", turn.answer());
    assert_eq!(turn.all("tool.start").len(), 1);
    assert_eq!(server.api().turn(&conversation, READ_CALLS).await.answer(), "made\n");
}

#[tokio::test]
async fn messages_that_waited_at_the_kill_are_answered_in_their_order() {
    let mut server = Server::start().await;
    let conversation = server.api().conversation().await;
    server.api().say(&conversation, "[[hold one two three four]]").await;
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 1).await;
    server.api().say(&conversation, "[[say second]]").await;
    let last = server.api().say(&conversation, "[[say third]]").await;

    for killed in 1..=2 {
        server.restart().await;
        let wished = killed + 1;
        server.model.wait_for(PATIENCE, |counts| counts.requests == wished && counts.in_flight == 1).await;
    }
    server.model.release();

    server.api().end_of(&last).await;
    let said: Vec<String> =
        server.api().transcript(&conversation).await.into_iter().map(|(_, content)| content).collect();
    assert_eq!(
        said,
        [
            "[[hold one two three four]]",
            "one two three four",
            "[[say second]]",
            "second",
            "[[say third]]",
            "third"
        ]
    );
}

/// A turn with one tool of each effect class.
fn with_every_effect(ending: &str) -> String {
    let classes = ["repeatable", "transactional", "idempotent", "at_most_once"];
    let calls = classes.map(|class| format!(r#"[[tool fx_{class} {{"note": "{class}"}}]]"#));
    format!("{} {ending}", calls.join(" "))
}

#[tokio::test]
async fn a_kill_at_each_named_point_loses_nothing_that_was_accepted_and_repeats_no_effect() {
    futures::future::join_all(POINTS.iter().map(|point| killed_at(point))).await;
}

async fn killed_at(point: &str) {
    let effects = EffectLedger::start();
    let kill = format!("{point}:1");
    let switches = [("SOMA_EFFECTS_URL", effects.url()), ("SOMA_KILL_AT", kill)];
    let switches: Vec<(&str, &str)> = switches.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut server = Server::start_with(&switches).await;
    let fails = point.starts_with("finish");
    // A run is claimed by another's end only where it had to wait.
    let waits = point == "run_claimed";
    let asks = point.starts_with("approval") || point.starts_with("decision");
    if asks {
        let ask = json!({ "tools_ask": ["fx_repeatable"] });
        server.api().patch("/api/v2/agents/default", ask).await.expect(200);
    }
    let text = with_every_effect(if fails { "[[status 400]]" } else { "[[say all done]]" });
    let conversation = server.api().conversation().await;
    if waits {
        server.api().say(&conversation, "[[hold one two three four]]").await;
        server.model.wait_for(PATIENCE, |counts| counts.in_flight == 1).await;
    }
    let path = format!("/api/v2/conversations/{conversation}/messages");
    let sent =
        server.api().request(reqwest::Method::POST, &path).json(&json!({ "content": text })).send().await;
    let accepted = sent.is_ok_and(|response| response.status() == 202);
    server.model.release();
    let approver = asks.then(|| tokio::spawn(approve_all(server.api())));
    let status = server.ended().await;
    assert!(!status.success(), "{point} was not passed");
    approver.inspect(tokio::task::JoinHandle::abort);

    server.settings.remove("SOMA_KILL_AT");
    server.restart().await;
    let api = server.api();
    let messages = api.get(&path).await.expect(200);
    let stored = messages["items"].as_array().unwrap().iter().find(|message| message["content"] == text);
    assert!(!accepted || stored.is_some(), "{point}: an accepted message is lost");
    assert_eq!(stored.is_none(), point == "message_before_commit", "{point}");
    let Some(run) = stored.and_then(|message| message["run_id"].as_str()) else { return };

    let approver = asks.then(|| tokio::spawn(approve_all(server.api())));
    let turn = api.end_of(run).await;
    approver.inspect(tokio::task::JoinHandle::abort);
    let state = if fails { "failed" } else { "completed" };
    assert_eq!(turn.run["state"], state, "{point}: {}", turn.run);
    let statuses: Vec<&Value> = turn.all("tool.result").iter().map(|result| &result["status"]).collect();
    assert_eq!(statuses, ["success"; 4], "{point}: the first kill falls into the repeatable call, if in any");
    let counts = effects.counts();
    for class in ["idempotent", "at_most_once"] {
        assert_eq!(counts.by_class.get(class), Some(&1), "{point}: {class} {counts:?}");
    }
    assert!((1..=2).contains(&counts.by_class["repeatable"]), "{point}: {counts:?}");
    assert_eq!(written_by_the_transactional_tool(&server).await, 1, "{point}");
}

/// Approves whatever waits for approval, while the server lives and after.
async fn approve_all(api: Api) {
    loop {
        let pending = api.request(reqwest::Method::GET, "/api/v2/approvals?state=pending").send().await;
        let page: Value = match pending {
            Ok(pending) => pending.json().await.unwrap_or_default(),
            Err(_) => Value::Null,
        };
        for approval in page["items"].as_array().into_iter().flatten() {
            let path = format!("/api/v2/approvals/{}/decide", approval["id"].as_str().unwrap());
            let body = json!({ "decision": "approve", "arguments_hash": approval["arguments_hash"] });
            // A kill may take the answer, and the restarted server is asked again.
            drop(api.request(reqwest::Method::POST, &path).json(&body).send().await);
        }
        tokio::time::sleep(APPROVE_EVERY).await;
    }
}

async fn written_by_the_transactional_tool(server: &Server) -> i64 {
    use platform::database::Sql;
    let database = server.database().await;
    let sql = "SELECT COUNT(*) AS count FROM test_effects";
    let row = database.read().one(sql, Vec::new()).await.unwrap().unwrap();
    row.int("count").unwrap()
}

#[tokio::test]
async fn an_effect_that_may_not_be_repeated_and_was_cut_off_is_unknown_once() {
    let effects = EffectLedger::start();
    let url = effects.url();
    let switches = [("SOMA_EFFECTS_URL", url.as_str()), ("SOMA_KILL_AT", "tool_effect_done:4")];
    let mut server = Server::start_with(&switches).await;
    let conversation = server.api().conversation().await;
    let run = server.api().say(&conversation, &with_every_effect("[[say over]]")).await;
    server.ended().await;
    server.settings.remove("SOMA_KILL_AT");
    server.restart().await;

    let turn = server.api().end_of(&run).await;
    assert_eq!(turn.answer(), "over");
    let statuses: Vec<&Value> = turn.all("tool.result").iter().map(|result| &result["status"]).collect();
    assert_eq!(statuses, ["success", "success", "success", "unknown"]);
    assert_eq!(effects.counts().by_class["at_most_once"], 1);
}

#[tokio::test]
async fn a_cancellation_that_a_kill_interrupted_is_carried_out() {
    let mut server = Server::start().await;
    let conversation = server.api().conversation().await;
    let run = server.api().say(&conversation, &count_me("sleep 60")).await;
    let mut stream = server.api().stream(&run, 0).await;
    stream.read_to("policy.decision").await;
    server.api().post(&format!("/api/v2/runs/{run}/cancel"), json!({})).await.expect(202);
    server.restart().await;

    let turn = server.api().end_of(&run).await;
    assert_eq!(turn.run["state"], "cancelled");
    assert_eq!(turn.one("run.done")["status"], "cancelled");
    assert_eq!(server.api().turn(&conversation, "[[say next]]").await.answer(), "next");
}
