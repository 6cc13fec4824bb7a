//! Tests of the scripted model, over real HTTP.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;

mod answers;

const SOON: Duration = Duration::from_secs(5);

#[expect(clippy::disallowed_methods, reason = "a test's own client to a test's own server")]
fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap()
}

fn ask(model: &ScriptedModel, body: &Value) -> reqwest::RequestBuilder {
    client().post(format!("{}/chat/completions", model.base_url())).json(body)
}

fn user(text: &str) -> Value {
    json!({"model": "scripted", "messages": [{"role": "user", "content": text}]})
}

fn streamed(text: &str) -> Value {
    json!({"model": "scripted", "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": text}]})
}

/// The conversation in which every call of `answers` so far got its result.
fn after_calls(text: &str, results: &[&str]) -> Value {
    let mut body = user(text);
    let messages = body["messages"].as_array_mut().unwrap();
    for (index, result) in results.iter().enumerate() {
        let id = format!("c{index}");
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": id, "type": "function", "function": {"name": "t", "arguments": "{}"}}]}));
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": result}));
    }
    body
}

async fn document(model: &ScriptedModel, body: &Value) -> Value {
    let response = ask(model, body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

async fn said(model: &ScriptedModel, body: &Value) -> String {
    let answer = document(model, body).await;
    answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

async fn called(model: &ScriptedModel, body: &Value) -> Vec<(String, String)> {
    let answer = document(model, body).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    let calls = answer["choices"][0]["message"]["tool_calls"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    calls.iter().map(|call| (text(&call["function"]["name"]), text(&call["function"]["arguments"]))).collect()
}

/// The events of a stream, without `[DONE]`, and whether that came.
fn events(body: &str) -> (Vec<Value>, bool) {
    let mut lines: Vec<&str> = body.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    let done = lines.last() == Some(&"[DONE]");
    if done {
        lines.pop();
    }
    (lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect(), done)
}

fn text_of(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
}

#[tokio::test]
async fn a_text_is_echoed_with_its_usage() {
    let model = ScriptedModel::start();
    let answer = document(&model, &user("hello there")).await;
    assert_eq!(answer["choices"][0]["message"], json!({"role": "assistant", "content": "echo: hello there"}));
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["usage"], json!({"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}));
}

#[tokio::test]
async fn a_stream_has_role_text_reason_usage_and_done() {
    let model = ScriptedModel::start();
    let text = "[[say one two three four \"five\" é]]";
    let response = ask(&model, &streamed(text)).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let (events, done) = events(&response.text().await.unwrap());
    assert!(done);
    assert_eq!(events[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert_eq!(events[1]["choices"][0]["delta"], json!({"content": "one two three"}));
    assert_eq!(text_of(&events), "one two three four \"five\" é");
    let [.., reason, usage] = &events[..] else { panic!("too few events") };
    assert_eq!(reason["choices"][0]["finish_reason"], "stop");
    assert_eq!((&usage["choices"], &usage["usage"]["completion_tokens"]), (&json!([]), &json!(7)));
}

#[tokio::test]
async fn usage_is_sent_only_when_asked_for() {
    let model = ScriptedModel::start();
    let mut body = streamed("hi");
    body.as_object_mut().unwrap().remove("stream_options");
    let text = ask(&model, &body).send().await.unwrap().text().await.unwrap();
    assert!(!text.contains("usage"));
    assert!(events(&text).1);
}

#[tokio::test]
async fn streamed_tool_calls_come_in_pieces() {
    let model = ScriptedModel::start();
    let body = streamed(r#"[[tool first {"a": "ü"}]][[also second {}]]"#);
    let (events, done) = events(&ask(&model, &body).send().await.unwrap().text().await.unwrap());
    let mut calls = vec![(String::new(), String::new()); 2];
    for piece in events.iter().filter_map(|event| event["choices"][0]["delta"]["tool_calls"].get(0)) {
        let call = &mut calls[piece["index"].as_u64().unwrap() as usize];
        call.0 += piece["function"]["name"].as_str().unwrap_or("");
        call.1 += piece["function"]["arguments"].as_str().unwrap();
    }
    assert_eq!(calls, [("first".into(), r#"{"a": "ü"}"#.into()), ("second".into(), "{}".into())]);
    assert_eq!(events[events.len() - 2]["choices"][0]["finish_reason"], "tool_calls");
    assert!(done);
}

#[tokio::test]
async fn keys_are_checked_and_counted() {
    let options = Options { keys: vec!["good".into()], models: vec!["m".into()], ..Options::default() };
    let model = ScriptedModel::start_with(options).unwrap();
    let mut body = user("x");
    body["model"] = json!("m");
    assert_eq!(ask(&model, &body).send().await.unwrap().status(), 401);
    assert_eq!(ask(&model, &body).bearer_auth("bad").send().await.unwrap().status(), 401);
    assert_eq!(ask(&model, &user("x")).bearer_auth("good").send().await.unwrap().status(), 404);
    assert_eq!(ask(&model, &body).bearer_auth("good").send().await.unwrap().status(), 200);
    let url = format!("{}/models", model.base_url());
    assert_eq!(client().get(&url).send().await.unwrap().status(), 401);
    let models: Value = client().get(&url).bearer_auth("good").send().await.unwrap().json().await.unwrap();
    assert_eq!(models["data"][0]["id"], "m");
    let counts = model.wait_for(SOON, |counts| counts.in_flight == 0).await;
    let by_key = BTreeMap::from([("good".to_owned(), 1)]);
    let wished = Counts { requests: 1, in_flight_max: 1, unauthorised: 3, invalid: 1, by_key, in_flight: 0 };
    assert_eq!(counts, wished);
    let stats: Counts =
        client().get(format!("http://{}/stats", model.address())).send().await.unwrap().json().await.unwrap();
    assert_eq!(stats, wished);
}

#[tokio::test]
async fn a_request_that_a_real_server_refuses_is_refused() {
    let model = ScriptedModel::start();
    let unanswered = json!({"role": "assistant", "content": "", "tool_calls": [
        {"id": "c", "type": "function", "function": {"name": "t", "arguments": "{}"}}]});
    for messages in [
        json!([]),
        json!([{"role": "robot", "content": "x"}]),
        json!([{"role": "tool", "tool_call_id": "c", "content": "x"}]),
        json!([{"role": "user", "content": "x"}, unanswered]),
        json!([unanswered, {"role": "user", "content": "x"}]),
    ] {
        let body = json!({"model": "m", "messages": messages});
        assert_eq!(ask(&model, &body).send().await.unwrap().status(), 400, "{messages}");
    }
    assert_eq!(model.counts().invalid, 5);
}

#[tokio::test]
async fn requests_are_recorded_up_to_a_bound() {
    let model = ScriptedModel::start_with(Options { recorded_max: 2, ..Options::default() }).unwrap();
    for text in ["a", "b", "c"] {
        let mut body = user(text);
        body["tools"] =
            json!([{"type": "function", "function": {"name": "t", "parameters": {"type": "object"}}}]);
        body["messages"].as_array_mut().unwrap().insert(0, json!({"role": "system", "content": "be brief"}));
        document(&model, &body).await;
    }
    let texts: Vec<String> =
        model.requests().iter().map(|request| request.last_user_text().to_owned()).collect();
    assert_eq!(texts, ["b", "c"]);
    let last = model.last_request();
    assert!(last.offers_tool("t") && last.mentions("brief") && !last.mentions("[["));
    assert_eq!(last.system_text(), "be brief");
}

#[tokio::test]
async fn a_dropped_server_breaks_what_is_open_and_frees_its_port() {
    let model = ScriptedModel::start();
    let address = model.address();
    let response = ask(&model, &streamed("[[hold one two three four]]")).send().await.unwrap();
    drop(model);
    assert!(response.text().await.is_err());
    let again = ScriptedModel::start_on(address).unwrap();
    assert_eq!(said(&again, &user("back")).await, "echo: back");
}

#[test]
fn chunks_put_together_are_the_text() {
    for text in ["", " ", "one", "a b c d e f g", "  two  spaces\nand lines  ", "é ü ö ä ß"] {
        assert_eq!(wire::chunks(text).concat(), text);
    }
    assert_eq!(wire::chunks("a b c d"), ["a b c", " d"]);
}
