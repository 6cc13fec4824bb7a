//! Calls that a person is asked about: the run waits, the decision counts once, and only as it was made.

use std::{io::Write, process::Stdio};

use serde_json::{Value, json};

use crate::harness::{Api, Server, command, text, until};

/// A message whose call writes a file; the answer holds what the tool said.
const WRITES: &str =
    r#"[[tool file_write {"path": "plan.txt", "content": "first"}]] [[say the tool said {result}]]"#;

/// An agent that must ask before it writes, and a conversation with it.
async fn careful(api: &Api) -> String {
    let agent = json!({
        "slug": "careful", "name": "Careful",
        "tools": ["file_write", "file_read", "timestamp"], "tools_ask": ["file_write"],
    });
    api.post("/api/v2/agents", agent).await.expect(201);
    api.conversation_with("careful").await
}

/// Sends [`WRITES`] and waits until somebody is asked: the run and the approval.
async fn asked(api: &Api, conversation: &str) -> (String, Value) {
    let run = api.say(conversation, WRITES).await;
    api.stream(&run, 0).await.read_to("approval.requested").await;
    let pending = api.get("/api/v2/approvals?state=pending").await.expect(200);
    let items = pending["items"].as_array().unwrap();
    let mine = items.iter().find(|approval| approval["run_id"] == run.as_str());
    (run.clone(), mine.expect("a pending approval").clone())
}

fn path(approval: &Value, rest: &str) -> String {
    format!("/api/v2/approvals/{}{rest}", approval["id"].as_str().unwrap())
}

fn approve(approval: &Value) -> Value {
    json!({ "decision": "approve", "arguments_hash": approval["arguments_hash"] })
}

#[tokio::test]
async fn a_call_that_needs_approval_waits_and_is_made_once_it_is_approved() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = careful(&api).await;

    let (run, approval) = asked(&api, &conversation).await;
    assert_eq!(
        (&approval["tool"], &approval["arguments"], &approval["state"], &approval["reason"]),
        (
            &json!("file_write"),
            &json!({ "path": "plan.txt", "content": "first" }),
            &json!("pending"),
            &json!("approval_required")
        )
    );
    assert_eq!(api.run(&run).await["state"], "waiting");
    let decided = api.post(&path(&approval, "/decide"), approve(&approval)).await.expect(200);
    assert_eq!(decided["state"], "approved");

    let turn = api.end_of(&run).await;
    assert_eq!(turn.run["state"], "completed");
    let mut kinds = turn.kinds();
    kinds.dedup();
    assert_eq!(
        kinds,
        [
            "title_update",
            "tool.start",
            "policy.decision",
            "approval.requested",
            "approval.decided",
            "policy.decision",
            "tool.result",
            "chat.delta",
            "chat.done",
            "run.done"
        ]
    );
    let effects: Vec<&Value> =
        turn.all("policy.decision").iter().map(|decision| &decision["effect"]).collect();
    assert_eq!(effects, ["ask", "allow"]);
    assert_eq!(turn.one("tool.result")["status"], "success");
    assert_eq!(turn.one("approval.decided")["decision"], "approved");

    // Decided is decided.
    let again = api.post(&path(&approval, "/decide"), approve(&approval)).await;
    assert_eq!(again.problem(409), "already_decided");
    let left = api.get("/api/v2/approvals?state=pending").await.expect(200);
    assert_eq!(left["items"], json!([]));
}

#[tokio::test]
async fn a_rejected_call_is_not_made_and_the_model_is_told_why() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = careful(&api).await;
    let (run, approval) = asked(&api, &conversation).await;

    let silent = json!({ "decision": "reject", "arguments_hash": approval["arguments_hash"] });
    let reply = api.post(&path(&approval, "/decide"), silent).await;
    assert_eq!((reply.problem(422), &reply.body["errors"][0]["field"]), ("invalid", &json!("reason")));
    let reject = json!({
        "decision": "reject", "arguments_hash": approval["arguments_hash"], "reason": "Not in this folder.",
    });
    api.post(&path(&approval, "/decide"), reject).await.expect(200);

    let turn = api.end_of(&run).await;
    let result = turn.one("tool.result");
    assert_eq!(result["status"], "blocked");
    assert_eq!(result["output"], "A person did not approve this call and said: Not in this folder.");
    let files = r#"[[tool file_read {"path": "plan.txt"}]]"#;
    let read = api.turn(&conversation, files).await;
    assert_eq!(read.one("tool.result")["status"], "error");
}

#[tokio::test]
async fn what_a_person_approved_and_is_forbidden_by_then_is_not_told_as_rejected() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = careful(&api).await;
    let (run, approval) = asked(&api, &conversation).await;
    api.patch("/api/v2/agents/careful", json!({ "tools": ["timestamp"], "tools_ask": [] })).await.expect(200);
    api.post(&path(&approval, "/decide"), approve(&approval)).await.expect(200);
    let turn = api.end_of(&run).await;
    let result = turn.one("tool.result");
    assert_eq!(
        (&result["status"], &result["output"]),
        (&json!("blocked"), &json!("Not allowed: tool_not_on_agent."))
    );
}

#[tokio::test]
async fn a_call_is_made_with_the_arguments_that_a_person_wrote_and_with_no_others() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = careful(&api).await;
    let (run, approval) = asked(&api, &conversation).await;

    let other = json!({ "decision": "approve", "arguments_hash": "00" });
    assert_eq!(api.post(&path(&approval, "/decide"), other).await.problem(409), "arguments_changed");
    let mut edited = approve(&approval);
    edited["arguments"] = json!({ "path": 7 });
    let reply = api.post(&path(&approval, "/decide"), edited.clone()).await;
    assert_eq!((reply.problem(422), &reply.body["errors"][0]["field"]), ("invalid", &json!("arguments")));
    edited["arguments"] = json!({ "path": "plan.txt", "content": "second" });
    api.post(&path(&approval, "/decide"), edited).await.expect(200);

    let turn = api.end_of(&run).await;
    let output = turn.one("tool.result")["output"].as_str().unwrap();
    assert!(output.starts_with("[a person changed the arguments of this call to "), "{output}");
    let read = api.turn(&conversation, r#"[[tool file_read {"path": "plan.txt"}]]"#).await;
    assert_eq!(read.one("tool.result")["output"], "second");
}

#[tokio::test]
async fn a_run_waits_for_a_person_over_a_restart() {
    let mut server = Server::start().await;
    let conversation = careful(&server.api()).await;
    let (run, approval) = asked(&server.api(), &conversation).await;

    server.restart().await;
    let api = server.api();
    assert_eq!(api.run(&run).await["state"], "waiting");
    api.post(&path(&approval, "/decide"), approve(&approval)).await.expect(200);
    let turn = api.end_of(&run).await;
    assert_eq!(turn.one("tool.result")["status"], "success");
    assert_eq!(turn.all("tool.start").len(), 1, "the call is shown once");
}

#[tokio::test]
async fn nobody_decides_for_another_tenant_or_without_the_right() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = careful(&api).await;
    let (_, approval) = asked(&api, &conversation).await;

    let stranger = server.stranger().await;
    let absent = stranger.get("/api/v2/approvals/01900000-0000-7000-8000-000000000000").await;
    let reply = stranger.get(&path(&approval, "")).await;
    assert_eq!((reply.problem(404), &reply.body), ("not_found", &absent.body));
    let reply = stranger.post(&path(&approval, "/decide"), approve(&approval)).await;
    assert_eq!((reply.problem(404), &reply.body), ("not_found", &absent.body));
    assert_eq!(stranger.get("/api/v2/approvals").await.expect(200)["items"], json!([]));

    let member = server.member("max@example.org", &["user"]).await;
    assert_eq!(member.post(&path(&approval, "/decide"), approve(&approval)).await.problem(403), "denied");
}

#[tokio::test]
async fn a_call_that_nobody_decides_about_in_time_is_not_made() {
    let server = Server::start_with(&[("SA01_APPROVAL_EXPIRY", "1")]).await;
    let api = server.api();
    let conversation = careful(&api).await;
    let run = api.say(&conversation, WRITES).await;
    let turn = api.end_of(&run).await;
    let result = turn.one("tool.result");
    assert_eq!(
        (&result["status"], &result["output"]),
        (&json!("blocked"), &json!("Nobody approved this call in time."))
    );
    assert_eq!(turn.one("approval.decided")["decision"], "expired");
    assert_eq!(turn.run["state"], "completed");
}

#[tokio::test]
async fn a_run_that_waits_can_be_cancelled_and_its_question_is_withdrawn() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = careful(&api).await;
    let (run, approval) = asked(&api, &conversation).await;
    api.post(&format!("/api/v2/runs/{run}/cancel"), json!({})).await.expect(202);
    let turn = api.end_of(&run).await;
    assert_eq!(turn.run["state"], "cancelled");
    assert_eq!(api.get(&path(&approval, "")).await.expect(200)["state"], "cancelled");
    let late = api.post(&path(&approval, "/decide"), approve(&approval)).await;
    assert_eq!(late.problem(409), "already_decided");
    // The conversation goes on.
    let next = api.turn(&conversation, "[[say and on]]").await;
    assert_eq!(next.answer(), "and on");
}

#[tokio::test]
async fn a_decision_is_in_the_audit_with_what_was_decided_on() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = careful(&api).await;
    let (run, approval) = asked(&api, &conversation).await;
    api.post(&path(&approval, "/decide"), approve(&approval)).await.expect(200);
    api.end_of(&run).await;
    let entry = until("the audit has the decision", || async {
        let page = api.get("/api/v2/audit").await.expect(200);
        page["items"].as_array()?.iter().find(|entry| entry["action"] == "tool:approve").cloned()
    })
    .await;
    assert_eq!(
        (&entry["resource_id"], &entry["details"]["arguments_hash"], &entry["details"]["decision"]),
        (&approval["id"], &approval["arguments_hash"], &json!("approved"))
    );
}

/// The program's commands that are clients of the server.
fn client(server: &Server, arguments: &[&str]) -> std::process::Command {
    let mut command = command(server.folder(), &server.settings, arguments);
    command.env("SA01_URL", server.base()).env("SA01_API_KEY", server.api_key());
    command
}

#[tokio::test]
async fn a_talk_in_the_terminal_asks_and_goes_on_with_the_answer() {
    let server = Server::start().await;
    let conversation = careful(&server.api()).await;
    let mut chat = client(&server, &["chat", "--conversation", &conversation]);
    let spawned = chat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(format!("{WRITES}\nmaybe\ny\n/quit\n").as_bytes()).unwrap();
    drop(input);
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    // The arguments are shown whole, what is no answer is asked about again, and the call is made.
    for part in
        ["file_write waits for approval", "\"content\": \"first\"", "make the call with these", "approved"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(said.contains("\nthe tool said Wrote 5 bytes.\n"), "{said}");
}

#[tokio::test]
async fn a_call_is_approved_from_another_terminal() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = careful(&api).await;
    let (run, approval) = asked(&api, &conversation).await;
    let id = approval["id"].as_str().unwrap();

    let listed = client(&server, &["approvals", "list"]).output().unwrap();
    let listed = text(&listed.stdout);
    assert!(listed.contains(id) && listed.contains("\"content\": \"first\""), "{listed}");
    let other = r#"{"path": "plan.txt", "content": "third"}"#;
    let approved = client(&server, &["approvals", "approve", id, "--arguments", other]).output().unwrap();
    assert!(approved.status.success(), "{}", text(&approved.stderr));
    let turn = api.end_of(&run).await;
    assert_eq!(turn.one("approval.decided")["arguments"]["content"], "third");
    let late = client(&server, &["approvals", "reject", id, "--reason", "too late"]).output().unwrap();
    assert_eq!(late.status.code(), Some(1));
    assert!(text(&late.stderr).contains("already_decided"), "{}", text(&late.stderr));
}
