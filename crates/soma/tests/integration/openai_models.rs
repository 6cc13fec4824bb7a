//! A model by its name under `/v1`: bytes pass unchanged, under authentication, policy, budget and audit, and every
//! error has OpenAI's shape.

use axum::body::Bytes;
use futures::StreamExt;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use testing::{Answer, Script};

use crate::harness::{Api, PATIENCE, Server, until};

const CHAT: &str = "/v1/chat/completions";

fn chat(api: &Api, body: &str) -> RequestBuilder {
    api.request(Method::POST, CHAT).header("content-type", "application/json").body(body.to_owned())
}

fn ask(text: &str) -> Value {
    json!({ "model": "scripted", "messages": [{ "role": "user", "content": text }], "max_tokens": 1000 })
}

/// The tenant's budget once nothing is held any more.
async fn settled(api: &Api) -> Value {
    until("every call settles", || async {
        let budgets = api.get("/api/v2/budgets").await.expect(200);
        let budgets = budgets.as_array().unwrap();
        budgets.iter().all(|budget| budget["reserved_micros"] == 0).then(|| budgets[0].clone())
    })
    .await
}

async fn limit(api: &Api, micros: Option<u64>) {
    let me = api.get("/api/v2/me").await.expect(200);
    let path = format!("/api/v2/budgets/{}", me["tenant_id"].as_str().unwrap());
    api.put(&path, json!({ "limit_micros": micros })).await.expect(204);
}

#[tokio::test]
async fn a_request_and_its_answer_pass_unchanged_with_the_installs_key() {
    let server = Server::start_with(&[("SA01_MODEL_API_KEY", "provider-key")]).await;
    let api = server.api();
    let body = "{ \"messages\":[ {\"role\":\"user\",\"content\":\"h\\u00e9llo\"} ],\n\t\"model\" : \"scripted\", \
                \"unknown\": [1.50, {}] }";
    let answer = b"{\"choices\" : [],\"odd\":1.50,\n\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}";
    server.model.set_script(Script::always(Answer::Raw(vec![Bytes::from_static(answer)])));

    let response = chat(&api, body).header("openai-organization", "theirs").send().await.unwrap();

    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.bytes().await.unwrap(), answer.as_slice());
    let seen = server.model.last_request();
    assert_eq!((&*seen.raw, seen.key.as_deref()), (body.as_bytes(), Some("provider-key")));

    let pieces = [
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\nda",
        "ta: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n",
        "data: [DONE]\n\n",
    ];
    let raw = pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect();
    server.model.set_script(Script::always(Answer::Raw(raw)));
    let body =
        json!({ "model": "scripted", "stream": true, "messages": [{ "role": "user", "content": "x" }] });
    let response = chat(&api, &body.to_string()).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.text().await.unwrap(), pieces.concat());
}

#[tokio::test]
async fn a_stream_passes_piece_by_piece() {
    let server = Server::start().await;
    let mut body = ask("[[hold one two three four five six seven]]");
    body["stream"] = json!(true);
    let response = chat(&server.api(), &body.to_string()).send().await.unwrap();
    let mut pieces = response.bytes_stream();
    let mut text = String::new();
    while !text.contains("one two three") {
        let piece = tokio::time::timeout(PATIENCE, pieces.next()).await.expect("a piece before the release");
        text.push_str(str::from_utf8(&piece.unwrap().unwrap()).unwrap());
    }
    assert!(!text.contains("seven"), "{text}");
    server.model.release();
    while let Some(piece) = pieces.next().await {
        text.push_str(str::from_utf8(&piece.unwrap()).unwrap());
    }
    assert!(text.contains("seven") && text.ends_with("data: [DONE]\n\n"), "{text}");
}

#[tokio::test]
async fn money_is_held_before_the_model_is_asked_and_settled_at_the_usage_that_passed() {
    let server = Server::start().await;
    let api = server.api();
    limit(&api, Some(1000)).await;
    let refused = api.post(CHAT, ask("[[say hello]]")).await;
    assert_eq!(refused.problem(429), "insufficient_quota");
    assert_eq!(refused.headers["x-should-retry"], "false");
    assert_eq!(server.model.counts().requests, 0);
    assert_eq!(settled(&api).await["spent_micros"], 0);

    limit(&api, Some(10_000)).await;
    let answer = api.post(CHAT, ask("[[say hello]]")).await.expect(200);
    let usage = &answer["usage"];
    let cost = usage["prompt_tokens"].as_u64().unwrap() + 2 * usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(settled(&api).await["spent_micros"], cost);

    // A stream that tells no usage settles at an estimate that is not below the real one.
    let mut stream = ask("[[say a few words more]]");
    stream["stream"] = json!(true);
    let text = api.post(CHAT, stream).await.expect(200);
    assert!(!text.as_str().unwrap().contains("usage"), "{text}");
    let spent = settled(&api).await["spent_micros"].as_u64().unwrap() - cost;
    assert!((12..200).contains(&spent), "{spent}");
}

#[tokio::test]
async fn many_requests_at_once_never_spend_more_than_the_budget() {
    let server = Server::start().await;
    let api = server.api();
    limit(&api, Some(9_000)).await;
    let replies = futures::future::join_all((0..24).map(|_| api.post(CHAT, ask("[[pad 4000]]")))).await;
    let good = replies.iter().filter(|reply| reply.status == 200).count();
    assert!(replies.iter().all(|reply| reply.status == 200 || reply.problem(429) == "insufficient_quota"));
    assert!((1..24).contains(&good), "{good}");
    let spent = settled(&api).await["spent_micros"].as_u64().unwrap();
    assert!((2000..=9_000).contains(&spent), "{spent}");
}

#[tokio::test]
async fn a_call_is_in_the_audit_before_its_answer_and_a_denial_too() {
    let server = Server::start().await;
    let admin = server.api();
    let entries = async || {
        let page = admin.get("/api/v2/audit?limit=200").await.expect(200);
        let items = page["items"].as_array().unwrap().clone();
        items.into_iter().filter(|entry| entry["action"] == "model:invoke").collect::<Vec<_>>()
    };
    let mut held = ask("[[hold some words to wait for]]");
    held["stream"] = json!(true);
    let open = chat(&admin, &held.to_string()).send().await.unwrap();
    let found = entries().await;
    assert_eq!(found.len(), 1, "it is there while the answer goes on");
    assert_eq!((&found[0]["effect"], &found[0]["resource_id"]), (&json!("allow"), &json!("scripted")));
    drop(open);

    let viewer = server.member("viewer@example.org", &["viewer"]).await;
    assert_eq!(viewer.post(CHAT, ask("hello")).await.problem(403), "denied");
    assert_eq!(entries().await[0]["effect"], "deny");
    let listed = viewer.get("/v1/models").await.expect(200);
    assert_eq!(listed["data"][0]["id"], "scripted", "but may see what there is");
    let member = server.member("member@example.org", &["user"]).await;
    assert_eq!(member.post(CHAT, ask("[[say hi]]")).await.status, 200);
}

#[tokio::test]
async fn a_client_that_goes_away_stops_the_model_and_settles() {
    let server = Server::start().await;
    let api = server.api();
    let mut body = ask("[[hold one two three four five six seven]]");
    body["stream"] = json!(true);
    let response = chat(&api, &body.to_string()).send().await.unwrap();
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 1).await;
    drop(response);
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 0).await;
    let spent = settled(&api).await["spent_micros"].as_u64().unwrap();
    assert!(spent > 0 && spent < 1000, "{spent}");
}

#[tokio::test]
async fn a_call_that_a_crash_cut_off_settles_in_full_after_it() {
    let mut server = Server::start().await;
    let mut body = ask("[[hold one two three four five six seven]]");
    body["stream"] = json!(true);
    let response = chat(&server.api(), &body.to_string()).send().await.unwrap();
    let budgets = server.api().get("/api/v2/budgets").await.expect(200);
    let held = budgets[0]["reserved_micros"].clone();
    assert!(held.as_u64().unwrap() > 2000, "{held}");
    server.kill().await;
    drop(response);
    server.restart().await;
    assert_eq!(settled(&server.api()).await["spent_micros"], held);

    // A server that is asked to stop settles what it knows before it ends.
    let answer = server.api().post(CHAT, ask("[[say hi]]")).await.expect(200);
    let usage = &answer["usage"];
    let cost = usage["prompt_tokens"].as_u64().unwrap() + 2 * usage["completion_tokens"].as_u64().unwrap();
    server.ask_to_stop();
    assert!(server.ended().await.success());
    server.restart().await;
    let spent = settled(&server.api()).await["spent_micros"].as_u64().unwrap();
    assert_eq!(spent, held.as_u64().unwrap() + cost);
}

#[tokio::test]
async fn what_goes_wrong_with_the_models_server_is_told_and_not_charged() {
    let server = Server::start().await;
    let api = server.api();
    let refusal = r#"{"error":{"message":"context too long","type":"invalid_request_error","param":null,"code":"context_length_exceeded"}}"#;
    for (answer, status, body) in [
        (Answer::Status(400, refusal.into()), 400, Some(refusal)),
        (Answer::Status(404, refusal.into()), 404, Some(refusal)),
        (Answer::Status(503, "busy".into()), 503, None),
    ] {
        server.model.set_script(Script::always(answer));
        let response = chat(&api, &ask("x").to_string()).send().await.unwrap();
        assert_eq!(response.status(), status);
        let text = response.text().await.unwrap();
        assert!(body.is_none_or(|body| body == text), "{text}");
    }
    server.model.set_script(Script::always(Answer::Status(401, "bad key".into())));
    assert_eq!(api.post(CHAT, ask("x")).await.problem(502), "model_unavailable");
    let input = json!({ "model": "scripted", "input": "x" });
    assert_eq!(api.post("/v1/responses", input).await.problem(404), "model_not_found");
    assert_eq!(settled(&api).await["spent_micros"], 0);

    let away = Server::start_with(&[("SA01_MODEL_URL", "http://127.0.0.1:9/v1")]).await;
    assert_eq!(away.api().post(CHAT, ask("x")).await.problem(502), "model_unavailable");
    assert_eq!(settled(&away.api()).await["spent_micros"], 0);

    // One that broke off may have been charged: all that was held.
    server.model.set_script(Script::always(Answer::StopMidStream { text: "one two three four".into() }));
    let mut body = ask("x");
    body["stream"] = json!(true);
    let response = chat(&api, &body.to_string()).send().await.unwrap();
    assert!(response.bytes().await.is_err(), "it breaks off for the client too");
    assert!(settled(&api).await["spent_micros"].as_u64().unwrap() >= 2000);
}

#[tokio::test]
async fn embeddings_pass_through() {
    let server = Server::start().await;
    let api = server.api();
    let made =
        api.post("/v1/embeddings", json!({ "model": "scripted", "input": ["a", "bc"] })).await.expect(200);
    assert_eq!(made["data"].as_array().unwrap().len(), 2);
    let tokens = made["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(settled(&api).await["spent_micros"], tokens);
}

#[tokio::test]
async fn models_and_agents_are_listed_and_found_by_their_names() {
    let server = Server::start().await;
    let api = server.api();
    let listed = api.get("/v1/models").await.expect(200);
    let ids: Vec<&str> =
        listed["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!((&listed["object"], ids), (&json!("list"), vec!["scripted", "agent/default"]));
    for id in ["scripted", "agent/default", "agent%2Fdefault"] {
        let model = api.get(&format!("/v1/models/{id}")).await.expect(200);
        assert_eq!(model["id"], id.replace("%2F", "/"));
    }
    for id in ["gpt-9", "agent/nobody", "agent%2Fnobody"] {
        assert_eq!(api.get(&format!("/v1/models/{id}")).await.problem(404), "model_not_found", "{id}");
    }
    let stranger = server.stranger().await;
    let own = json!({ "slug": "mine", "name": "Mine" });
    api.post("/api/v2/agents", own).await.expect(201);
    assert_eq!(api.get("/v1/models/agent/mine").await.expect(200)["owned_by"], "tenant");
    let absent = stranger.get("/v1/models/agent/absent").await;
    let foreign = stranger.get("/v1/models/agent/mine").await;
    assert_eq!(foreign.problem(404), "model_not_found");
    let text = |reply: &Value| reply.to_string().replace("absent", "").replace("mine", "");
    assert_eq!(text(&foreign.body), text(&absent.body));
}

#[tokio::test]
async fn every_error_has_openais_shape() {
    let server = Server::start().await;
    let api = server.api();
    assert_eq!(api.without_key().get("/v1/models").await.problem(401), "invalid_api_key");
    assert_eq!(api.get("/v1").await.problem(404), "not_found");
    assert_eq!(api.get("/v1/nothing").await.problem(404), "not_found");
    let wrong = api.get(CHAT).await;
    assert_eq!(
        (wrong.problem(405), &wrong.headers["allow"]),
        ("method_not_allowed", &"POST".parse().unwrap())
    );
    let untyped = api.request(Method::POST, CHAT).body("{}");
    assert_eq!(Api::reply(untyped).await.problem(415), "media_type");
    let large = format!("{{\"model\":\"{}\"}}", "x".repeat(9 * 1024 * 1024));
    assert_eq!(Api::reply(chat(&api, &large)).await.problem(413), "too_large");
    for body in ["", "[]", "{", "{}", r#"{"model":7}"#, r#"{"model":"scripted","model":"other"}"#, "\u{0}"] {
        assert_eq!(Api::reply(chat(&api, body)).await.problem(400), "invalid_json", "{body}");
    }
    let many = json!({ "model": "scripted", "n": 1000 });
    assert_eq!(api.post(CHAT, many).await.problem(400), "invalid_value");
    let unknown = json!({ "model": "gpt-9", "messages": [] });
    let reply = api.post(CHAT, unknown).await;
    assert_eq!((reply.problem(404), &reply.body["error"]["param"]), ("model_not_found", &json!("model")));
    assert!(!reply.headers["x-request-id"].is_empty());
    assert_eq!(api.get("/api/v2/nothing").await.problem(404), "not_found", "elsewhere problems stay");
    assert_eq!(server.model.counts().requests, 0);
}
