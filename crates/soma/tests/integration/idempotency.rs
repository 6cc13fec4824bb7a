//! `Idempotency-Key`: a request that comes again is answered again and done once.

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Api, Reply, Server};

async fn post(api: &Api, path: &str, key: &str, body: &Value) -> Reply {
    Api::reply(api.request(Method::POST, path).header("idempotency-key", key).json(body)).await
}

fn messages(conversation: &str) -> String {
    format!("/api/v2/conversations/{conversation}/messages")
}

#[tokio::test]
async fn the_same_request_gets_the_first_ones_answer_and_is_done_once() {
    let mut server = Server::start().await;
    let conversation = server.api().conversation().await;
    let (path, body) = (messages(&conversation), json!({ "content": "[[say once]]" }));

    let first = post(&server.api(), &path, "k1", &body).await.expect(202);
    server.api().end_of(first["run_id"].as_str().unwrap()).await;
    assert_eq!(post(&server.api(), &path, "k1", &body).await.expect(202), first);
    server.restart().await;
    let api = server.api();
    assert_eq!(post(&api, &path, "k1", &body).await.expect(202), first, "also after a crash");

    assert_eq!(api.transcript(&conversation).await.len(), 2);
    assert_eq!(server.model.counts().requests, 1);
    assert_ne!(post(&api, &path, "k2", &body).await.expect(202), first, "another key is another message");
}

#[tokio::test]
async fn a_key_that_comes_with_another_request_is_refused_and_nothing_is_done() {
    let server = Server::start().await;
    let api = server.api();
    let (one, two) = (api.conversation().await, api.conversation().await);
    let body = json!({ "content": "[[say once]]" });
    let first = post(&api, &messages(&one), "k", &body).await.expect(202);
    api.end_of(first["run_id"].as_str().unwrap()).await;

    let other_body = post(&api, &messages(&one), "k", &json!({ "content": "[[say twice]]" })).await;
    assert_eq!(other_body.problem(422), "idempotency_mismatch");
    let other_path = post(&api, &messages(&two), "k", &body).await;
    assert_eq!(other_path.problem(422), "idempotency_mismatch");
    let other_kind = post(&api, "/api/v2/conversations", "k", &json!({ "agent": "default" })).await;
    assert_eq!(other_kind.problem(422), "idempotency_mismatch");

    assert_eq!(api.transcript(&one).await.len(), 2);
    assert_eq!(api.transcript(&two).await, []);
}

#[tokio::test]
async fn of_a_hundred_copies_at_once_one_is_done_and_all_get_its_answer() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let (path, body) = (messages(&conversation), json!({ "content": "[[say once]]" }));

    let replies = join_all((0..100).map(|_| post(&api, &path, "same", &body))).await;
    let first = replies[0].clone().expect(202);
    for reply in replies {
        assert_eq!(reply.expect(202), first);
    }
    assert_eq!(api.end_of(first["run_id"].as_str().unwrap()).await.answer(), "once");
    assert_eq!(api.transcript(&conversation).await.len(), 2);
    assert_eq!(server.model.counts().requests, 1);

    let body = json!({ "agent": "default" });
    let replies = join_all((0..100).map(|_| post(&api, "/api/v2/conversations", "new", &body))).await;
    let first = replies[0].clone().expect(201);
    assert!(replies.into_iter().all(|reply| reply.expect(201) == first));
    let all = api.get("/api/v2/conversations").await.expect(200);
    assert_eq!(all["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_refused_request_leaves_its_key_free_and_a_key_is_one_users_own() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let path = messages(&conversation);
    let refused = post(&api, &path, "k", &json!({ "content": " " })).await;
    assert_eq!(refused.problem(422), "invalid");
    let body = json!({ "content": "[[say ok]]" });
    let mine = post(&api, &path, "k", &body).await.expect(202);

    let bob = server.member("bob@example.org", &["user"]).await;
    let theirs = post(&bob, &path, "k", &body).await.expect(202);

    assert_ne!(mine, theirs);
}

#[tokio::test]
async fn a_key_that_is_no_key_is_refused_by_name() {
    let server = Server::start().await;
    let api = server.api();
    let long = "k".repeat(256);
    for key in ["", &long, "sch\u{f6}n"] {
        let reply = post(&api, "/api/v2/conversations", key, &json!({ "agent": "default" })).await;
        assert_eq!(reply.problem(422), "invalid", "{key}");
        assert_eq!(reply.body["errors"][0]["field"], "Idempotency-Key");
    }
    post(&api, "/api/v2/conversations", &long[1..], &json!({ "agent": "default" })).await.expect(201);
}
