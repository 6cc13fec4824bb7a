//! An agent behind OpenAI's protocol: its question and its answer, functions of the client, forms, cancelling; and that
//! nothing is left of it unless it was to be kept.

use eventsource_stream::Eventsource;
use futures::StreamExt;
use platform::{database::Sql, params};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Api, PATIENCE, Server, text, until};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";

fn ask(text: &str) -> Value {
    json!({ "model": "agent/default", "messages": [{ "role": "user", "content": text }] })
}

/// The data of a stream's events, but for `[DONE]`.
async fn stream(api: &Api, path: &str, body: &Value) -> Vec<Value> {
    let response = api.request(Method::POST, path).json(body).send().await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut events = response.bytes_stream().eventsource();
    let mut all = Vec::new();
    while let Some(event) = events.next().await {
        let data = event.expect("an event").data;
        if data != "[DONE]" {
            all.push(serde_json::from_str(&data).expect("JSON"));
        }
    }
    all
}

fn answer_of(chunks: &[Value]) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}

#[tokio::test]
async fn an_agent_answers_as_a_model_does_streamed_or_not() {
    let server = Server::start().await;
    let api = server.api();
    let mut body = ask("[[tool timestamp {}]] [[say the answer]]");
    let whole = api.post(CHAT, body.clone()).await.expect(200);
    assert_eq!((&whole["object"], &whole["model"]), (&json!("chat.completion"), &json!("agent/default")));
    let choice = &whole["choices"][0];
    assert_eq!(
        (&choice["message"]["content"], &choice["finish_reason"]),
        (&json!("the answer"), &json!("stop"))
    );
    let kinds: Vec<&str> = whole["soma"]["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["tool.start", "policy.decision", "tool.result"]);
    let total = whole["usage"]["total_tokens"].as_u64().unwrap();
    assert!(total > 0);

    body["stream"] = json!(true);
    body["stream_options"] = json!({ "include_usage": true });
    let chunks = stream(&api, CHAT, &body).await;
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    assert_eq!(answer_of(&chunks), "the answer");
    let last = &chunks[chunks.len() - 1];
    assert_eq!((&last["choices"], last["usage"]["total_tokens"].as_u64()), (&json!([]), Some(total)));
    assert_eq!(chunks[chunks.len() - 2]["choices"][0]["finish_reason"], "stop");
    assert!(chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk"));
    assert!(chunks.iter().any(|chunk| chunk["soma"]["type"] == "tool.result"));
}

#[tokio::test]
async fn system_messages_follow_the_agents_prompt_and_what_was_said_before_is_context() {
    let server = Server::start().await;
    let api = server.api();
    let agent = json!({ "slug": "kind", "name": "Kind", "prompt": "Be kind." });
    api.post("/api/v2/agents", agent).await.expect(201);
    let body = json!({ "model": "agent/kind", "max_completion_tokens": 50, "temperature": 0.5, "messages": [
        { "role": "system", "content": "Be brief." },
        { "role": "user", "content": "one" },
        { "role": "assistant", "content": "two" },
        { "role": "user", "content": [{ "type": "text", "text": "[[say three]]" }] },
    ] });
    let answer = api.post(CHAT, body).await.expect(200);
    assert_eq!(answer["choices"][0]["message"]["content"], "three");
    let seen = server.model.last_request();
    assert_eq!(seen.system_text(), "Be kind.\n\nBe brief.");
    let said: Vec<&str> = seen.messages.iter().skip(1).map(|message| message.content.as_str()).collect();
    assert_eq!(said, ["one", "two", "[[say three]]"]);
    assert_eq!((seen.output_tokens_max, seen.temperature), (Some(50), Some(0.5)));
}

#[tokio::test]
async fn a_clients_function_ends_the_turn_and_its_result_goes_on() {
    let server = Server::start().await;
    let api = server.api();
    let function =
        json!({ "type": "function", "function": { "name": "weather", "parameters": { "type": "object" } } });
    let question = "[[tool weather {\"city\":\"Paris\"}]] [[say it is {result}]]";
    let mut body = ask(question);
    body["tools"] = json!([function]);
    let first = api.post(CHAT, body.clone()).await.expect(200);
    let choice = &first["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!(call["function"], json!({ "name": "weather", "arguments": "{\"city\":\"Paris\"}" }));
    assert!(server.model.last_request().offers_tool("weather"));

    let mut messages = body["messages"].as_array().unwrap().clone();
    messages.push(choice["message"].clone());
    messages.push(json!({ "role": "tool", "tool_call_id": call["id"], "content": "sunny" }));
    body["messages"] = json!(messages);
    let second = api.post(CHAT, body.clone()).await.expect(200);
    assert_eq!(second["choices"][0]["message"]["content"], "it is sunny");

    let mut own = ask("x");
    own["tools"] = json!([{ "type": "function", "function": { "name": "timestamp" } }]);
    assert_eq!(api.post(CHAT, own).await.problem(400), "invalid_value");
}

#[tokio::test]
async fn an_answer_has_the_form_that_was_asked_for_or_is_an_error() {
    let server = Server::start().await;
    let api = server.api();
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "n", "schema": schema } });
    let mut body = ask("[[say {\"n\": 7}]]");
    body["response_format"] = format.clone();
    let answer = api.post(CHAT, body).await.expect(200);
    assert_eq!(answer["choices"][0]["message"]["content"], "{\"n\": 7}");
    let raw: Value = serde_json::from_slice(&server.model.last_request().raw).unwrap();
    assert_eq!(raw["response_format"], format);

    let mut body = ask("[[say seven]]");
    body["response_format"] = format;
    let reply = api.post(CHAT, body).await;
    assert_eq!(reply.problem(502), "answer_misshapen");
    assert_eq!(reply.headers["x-should-retry"], "false");
}

#[tokio::test]
async fn nothing_is_left_of_a_question_that_is_not_kept() {
    let server = Server::start().await;
    let api = server.api();
    let secret = "marzipan-4711";
    let question =
        format!(r#"{secret} [[tool file_write {{"path":"a.txt","content":"{secret}"}}]] [[say {secret}]]"#);
    let answer = api.post(CHAT, ask(&question)).await.expect(200);
    assert_eq!(answer["choices"][0]["message"]["content"], secret);
    forgotten(&server).await;
    let listed = api.get("/api/v2/conversations").await.expect(200);
    assert_eq!(listed["items"], json!([]));
    let run = answer["id"].as_str().unwrap().trim_start_matches("chatcmpl-").to_owned();
    assert_eq!(api.get(&format!("/api/v2/runs/{run}")).await.problem(404), "not_found");
    assert_eq!(api.get(&format!("/v1/responses/resp_{run}")).await.problem(404), "not_found");
    check_no_trace(&server, secret).await;

    let mut kept = ask("[[say to keep]]");
    kept["store"] = json!(true);
    api.post(CHAT, kept).await.expect(200);
    assert_eq!(api.get("/api/v2/conversations").await.expect(200)["items"].as_array().unwrap().len(), 1);
}

/// Waits until there is no conversation any more.
async fn forgotten(server: &Server) {
    let database = server.database().await;
    until("the conversation is forgotten", || async {
        let row = database.read().one("SELECT COUNT(*) AS many FROM conversations", params![]).await.unwrap();
        (row.unwrap().int("many").unwrap() == 0).then_some(())
    })
    .await;
}

/// No workspace and no row has the text.
async fn check_no_trace(server: &Server, secret: &str) {
    let found = std::process::Command::new("grep")
        .args(["-rl", secret])
        .arg(server.data().join("workspaces"))
        .output();
    assert_eq!(text(&found.expect("grep runs").stdout), "");
    let database = server.database().await;
    for (table, sql) in [
        (
            "messages",
            "SELECT COUNT(*) AS many FROM messages WHERE REPLACE(content || tool_calls, $1, '') <> content || tool_calls",
        ),
        ("run_events", "SELECT COUNT(*) AS many FROM run_events WHERE REPLACE(payload, $1, '') <> payload"),
        ("run_briefs", "SELECT COUNT(*) AS many FROM run_briefs WHERE REPLACE(brief, $1, '') <> brief"),
        (
            "tool_calls",
            "SELECT COUNT(*) AS many FROM tool_calls WHERE REPLACE(arguments, $1, '') <> arguments",
        ),
        (
            "runs",
            "SELECT COUNT(*) AS many FROM runs WHERE REPLACE(COALESCE(error, ''), $1, '') <> COALESCE(error, '')",
        ),
        (
            "steps",
            "SELECT COUNT(*) AS many FROM steps WHERE REPLACE(COALESCE(result, ''), $1, '') <> COALESCE(result, '')",
        ),
        ("audit", "SELECT COUNT(*) AS many FROM audit_entries WHERE REPLACE(details, $1, '') <> details"),
    ] {
        let row = database.read().one(sql, params![secret]).await.unwrap().unwrap();
        assert_eq!(row.int("many").unwrap(), 0, "{table}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_stops_the_run_and_leaves_nothing() {
    let server = Server::start().await;
    let api = server.api();
    let mut body = ask("[[hold one two three four five six]]");
    body["stream"] = json!(true);
    let response = api.request(Method::POST, CHAT).json(&body).send().await.unwrap();
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 1).await;
    drop(response);
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 0).await;

    // One that waits for a whole answer as well.
    body["stream"] = json!(false);
    let waiting = tokio::spawn(api.request(Method::POST, CHAT).json(&body).send());
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 1).await;
    waiting.abort();
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 0).await;
    forgotten(&server).await;
    for budget in api.get("/api/v2/budgets").await.expect(200).as_array().unwrap() {
        assert_eq!(budget["reserved_micros"], 0);
    }
}

#[tokio::test]
async fn what_goes_wrong_in_a_run_is_an_error_in_openais_shape() {
    let server = Server::start().await;
    let api = server.api();
    let mut unknown = ask("x");
    unknown["model"] = json!("agent/nobody");
    assert_eq!(api.post(CHAT, unknown).await.problem(404), "model_not_found");
    assert_eq!(api.post(CHAT, ask("[[status 400]]")).await.problem(502), "model_refused");
    let mut streamed = ask("[[status 400]]");
    streamed["stream"] = json!(true);
    let chunks = stream(&api, CHAT, &streamed).await;
    assert_eq!(chunks[chunks.len() - 1]["error"]["code"], "model_refused");
    for (field, value) in [("n", json!(2)), ("messages", json!([{ "role": "system", "content": "x" }]))] {
        let mut body = ask("x");
        body[field] = value;
        let reply = api.post(CHAT, body).await;
        assert_eq!((reply.status, &reply.body["error"]["param"]), (400, &json!(field)));
    }
    let viewer = server.member("viewer@example.org", &["viewer"]).await;
    assert_eq!(viewer.post(CHAT, ask("x")).await.problem(403), "denied");
}

#[tokio::test]
async fn an_agents_response_is_streamed_stored_followed_and_stopped() {
    let server = Server::start().await;
    let api = server.api();
    let body = json!({ "model": "agent/default", "input": "[[say one]]", "store": true });
    let first = api.post(RESPONSES, body).await.expect(200);
    assert_eq!(
        (&first["status"], &first["output"][0]["content"][0]["text"]),
        (&json!("completed"), &json!("one"))
    );
    let id = first["id"].as_str().unwrap();
    let read = api.get(&format!("{RESPONSES}/{id}")).await.expect(200);
    assert_eq!(
        (&read["status"], &read["output"], &read["usage"]),
        (&first["status"], &first["output"], &first["usage"])
    );

    let next = json!({ "model": "agent/default", "input": [{ "role": "user", "content": "[[say two words]]" }],
        "instructions": "Be brief.", "store": true, "stream": true, "previous_response_id": id });
    let events = stream(&api, RESPONSES, &next).await;
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds[..4],
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added"
        ]
    );
    assert_eq!(
        kinds[kinds.len() - 4..],
        [
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed"
        ]
    );
    let numbers: Vec<u64> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
    let seen = server.model.last_request();
    assert!(
        seen.mentions("[[say one]]") && seen.system_text().ends_with("Be brief."),
        "it follows the first"
    );

    let held =
        json!({ "model": "agent/default", "input": "[[hold one two three four]]", "background": true });
    assert_eq!(api.post(RESPONSES, held.clone()).await.problem(400), "invalid_value");
    let mut held = held;
    held["store"] = json!(true);
    let queued = api.post(RESPONSES, held).await.expect(200);
    assert_eq!(queued["status"], "queued");
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 1).await;
    let path = format!("{RESPONSES}/{}", queued["id"].as_str().unwrap());
    let cancelled = api.post(&format!("{path}/cancel"), json!({})).await.expect(200);
    assert_eq!(cancelled["status"], "cancelled");
    until("the run has stopped", || async {
        let status = api.get(&path).await.expect(200)["status"].clone();
        (status == "cancelled").then_some(())
    })
    .await;
    let stranger = server.stranger().await;
    assert_eq!(stranger.get(&path).await.problem(404), "not_found");
}

/// A request under a key.
fn keyed(api: &Api, path: &str, key: &str, body: &Value) -> reqwest::RequestBuilder {
    api.request(Method::POST, path).header("Idempotency-Key", key).json(body)
}

#[tokio::test]
async fn a_request_that_is_sent_again_under_its_key_is_answered_by_the_same_run() {
    let server = Server::start().await;
    let api = server.api();
    let mut body = ask("[[tool timestamp {}]] [[say once]]");
    body["store"] = json!(true);
    let first = Api::reply(keyed(&api, CHAT, "k1", &body)).await.expect(200);
    let again = Api::reply(keyed(&api, CHAT, "k1", &body)).await.expect(200);
    assert_eq!((&first, &first["choices"][0]["message"]["content"]), (&again, &json!("once")));
    assert_eq!(server.model.counts().requests, 2, "one to call the tool, one to answer");

    let background =
        json!({ "model": "agent/default", "input": "[[say later]]", "store": true, "background": true });
    let first = Api::reply(keyed(&api, RESPONSES, "k2", &background)).await.expect(200);
    let again = Api::reply(keyed(&api, RESPONSES, "k2", &background)).await.expect(200);
    assert_eq!(first, again);
    assert_eq!(
        Api::reply(keyed(&api, RESPONSES, "k1", &background)).await.problem(422),
        "idempotency_mismatch"
    );
    body["messages"][0]["content"] = json!("[[say other]]");
    assert_eq!(Api::reply(keyed(&api, CHAT, "k1", &body)).await.problem(422), "idempotency_mismatch");
    body["store"] = json!(false);
    assert_eq!(Api::reply(keyed(&api, CHAT, "k3", &body)).await.problem(400), "unsupported_parameter");
    // A key is one user's.
    let stranger = server.stranger().await;
    body["store"] = json!(true);
    let others = Api::reply(keyed(&stranger, CHAT, "k1", &body)).await.expect(200);
    assert_eq!(others["choices"][0]["message"]["content"], "other");
    assert_eq!(api.get("/api/v2/conversations").await.expect(200)["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_client_with_a_key_comes_back_to_its_run_after_it_went_away_and_the_server_was_killed() {
    let mut server = Server::start().await;
    let api = server.api();
    let mut body = ask("[[hold one two three]]");
    (body["store"], body["stream"]) = (json!(true), json!(true));
    let response = keyed(&api, CHAT, "k", &body).send().await.unwrap();
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 1).await;
    drop(response);
    server.kill().await;
    server.restart().await;
    server.model.wait_for(PATIENCE, |counts| counts.requests == 2 && counts.in_flight == 1).await;

    // Gone once more, and the run goes on all the same.
    let api = server.api();
    let response = keyed(&api, CHAT, "k", &body).send().await.unwrap();
    let mut chunks = response.bytes_stream().eventsource();
    let opening = chunks.next().await.unwrap().unwrap();
    drop(chunks);
    let response = keyed(&api, CHAT, "k", &body).send().await.unwrap();
    server.model.release();
    let events: Vec<_> =
        response.bytes_stream().eventsource().map(|event| event.unwrap().data).collect().await;
    let told: Vec<Value> = events.iter().filter_map(|data| serde_json::from_str(data).ok()).collect();
    assert_eq!((events.last().map(String::as_str), &events[0]), (Some("[DONE]"), &opening.data));
    assert_eq!(answer_of(&told), "one two three");
    let run = told[0]["id"].as_str().unwrap().trim_start_matches("chatcmpl-");
    assert_eq!(api.run(run).await["state"], "completed");
    assert_eq!(server.model.counts().requests, 2);
    assert_eq!(api.get("/api/v2/conversations").await.expect(200)["items"].as_array().unwrap().len(), 1);
}
