//! Several messages in one conversation: they wait, interrupt, or are cancelled, and money never stays reserved.

use serde_json::{Value, json};

use crate::harness::{Api, PATIENCE, Server, until};

async fn state_of(api: &Api, run: &str) -> Value {
    api.run(run).await["state"].clone()
}

async fn nothing_is_reserved(api: &Api) {
    for budget in api.get("/api/v2/budgets").await.expect(200).as_array().unwrap() {
        assert_eq!(budget["reserved_micros"], 0, "{budget}");
    }
}

/// Sends a message whose answer is held, and waits until the model has begun it.
async fn held(server: &Server, conversation: &str) -> String {
    let run = server.api().say(conversation, "first [[hold one two three four five six]]").await;
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 1).await;
    run
}

#[tokio::test]
async fn a_second_message_waits_and_the_transcript_keeps_question_and_answer_together() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let first = held(&server, &conversation).await;
    let second = api.say(&conversation, "second [[say two]]").await;
    let third = api.say(&conversation, "third [[say three]]").await;
    assert_eq!(state_of(&api, &first).await, "running");
    assert_eq!(
        (state_of(&api, &second).await, state_of(&api, &third).await),
        (json!("queued"), json!("queued"))
    );
    assert_eq!(api.run(&second).await["started_at"], Value::Null);

    server.model.release();

    assert_eq!(api.end_of(&third).await.answer(), "three");
    let said: Vec<String> =
        api.transcript(&conversation).await.into_iter().map(|(_, content)| content).collect();
    assert_eq!(
        said,
        [
            "first [[hold one two three four five six]]",
            "one two three four five six",
            "second [[say two]]",
            "two",
            "third [[say three]]",
            "three"
        ]
    );
    let shown: Vec<usize> = server.model.requests().iter().map(|request| request.messages.len()).collect();
    assert_eq!(shown, [2, 4, 6], "a waiting message is not shown before its turn");
    nothing_is_reserved(&api).await;
}

#[tokio::test]
async fn a_message_that_interrupts_stops_the_run_at_work_and_is_answered() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let first = held(&server, &conversation).await;
    let mut stream = api.stream(&first, 0).await;
    stream.read_to("chat.delta").await;

    let body = json!({ "content": "stop [[say instead]]", "interrupt": true });
    let accepted = api.send(&conversation, body).await.expect(202);

    let second = api.end_of(accepted["run_id"].as_str().unwrap()).await;
    assert_eq!(second.answer(), "instead");
    let first = api.end_of(&first).await;
    assert_eq!(first.run["state"], "cancelled");
    assert_eq!(first.one("run.done")["status"], "cancelled");
    assert!(first.all("chat.done").is_empty() && first.all("error").is_empty());
    let transcript = api.transcript(&conversation).await;
    assert_eq!(transcript[1], ("assistant".into(), "one two three".into()), "what was said stays");
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 0).await;
    nothing_is_reserved(&api).await;
}

#[tokio::test]
async fn a_run_that_waits_is_cancelled_at_once_and_never_reaches_the_model() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let first = held(&server, &conversation).await;
    let second = api.say(&conversation, "never [[say never]]").await;

    let cancelled = api.post(&format!("/api/v2/runs/{second}/cancel"), json!({})).await.expect(202);

    assert_eq!(cancelled["state"], "cancelled");
    let usage = json!({ "input_tokens": 0, "output_tokens": 0 });
    let frames = api.events(&second, 0).await;
    assert_eq!(frames.len(), 1);
    assert_eq!(*frames[0].payload(), json!({ "status": "cancelled", "usage": usage, "cost": 0.0 }));
    server.model.release();
    assert_eq!(api.end_of(&first).await.answer(), "one two three four five six");
    assert_eq!(server.model.counts().requests, 1);
}

#[tokio::test]
async fn a_run_at_work_is_cancelled_soon_and_an_ended_one_stays_as_it_is() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let run = held(&server, &conversation).await;
    let path = format!("/api/v2/runs/{run}/cancel");

    assert_eq!(api.post(&path, json!({})).await.expect(202)["state"], "cancelling");

    let turn = api.end_of(&run).await;
    assert_eq!(turn.run["state"], "cancelled");
    nothing_is_reserved(&api).await;
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 0).await;
    let again = api.post(&path, json!({})).await.expect(202);
    assert_eq!(again, turn.run, "cancelling twice changes nothing");

    let done = api.turn(&conversation, "[[say done]]").await;
    let path = format!("/api/v2/runs/{}/cancel", done.run["id"].as_str().unwrap());
    assert_eq!(api.post(&path, json!({})).await.expect(202), done.run);
}

#[tokio::test]
async fn cancelling_ends_the_program_that_a_tool_runs() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let program = json!({ "language": "bash", "code": "echo up > started; sleep 60; echo end > finished" });
    let run = api.say(&conversation, &format!("[[tool code_execute {program}]]")).await;
    let workspaces = server.data().join("workspaces");
    let me = api.get("/api/v2/me").await.expect(200);
    let folder = workspaces.join(me["tenant_id"].as_str().unwrap()).join(&conversation);
    until("the program runs", || async { folder.join("started").exists().then_some(()) }).await;

    api.post(&format!("/api/v2/runs/{run}/cancel"), json!({})).await.expect(202);

    let turn = api.end_of(&run).await;
    assert_eq!(turn.run["state"], "cancelled");
    assert_eq!(turn.one("tool.result")["status"], "cancelled");
    assert!(turn.one("tool.result")["duration_ms"].as_u64().unwrap() < 30_000);
    assert!(!folder.join("finished").exists());
    // The call that was cut off has a result, so the conversation is one that a model takes.
    assert_eq!(api.turn(&conversation, "[[say still here]]").await.answer(), "still here");
}

#[tokio::test]
async fn the_number_of_waiting_messages_is_bounded_and_the_refused_one_is_not_stored() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    held(&server, &conversation).await;
    for number in 1..100 {
        api.say(&conversation, &format!("message {number}")).await;
    }

    let refused = api.send(&conversation, json!({ "content": "one too many" })).await;

    assert_eq!(refused.problem(409), "too_many_queued");
    assert_eq!(api.transcript(&conversation).await.len(), 100);
}
