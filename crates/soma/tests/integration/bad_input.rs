//! Input that is wrong in every way: refused by name, stored nowhere, and never a reason to fall over.

use std::collections::BTreeSet;

use futures::stream;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Api, Reply, Server},
    walk::NOBODY,
};

async fn raw(api: &Api, path: &str, kind: Option<&str>, body: impl Into<reqwest::Body>) -> Reply {
    let request = api.request(Method::POST, path).body(body);
    Api::reply(match kind {
        Some(kind) => request.header("content-type", kind),
        None => request,
    })
    .await
}

#[tokio::test]
async fn a_body_that_is_no_good_json_is_refused_with_what_is_wrong_and_stores_nothing() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let path = format!("/api/v2/conversations/{conversation}/messages");
    let json = Some("application/json");
    let deep = |prefix: &str| format!("{prefix}{}", "[".repeat(200_000));
    let cases: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("nothing", vec![], 400, "malformed"),
        ("half", br#"{"content": "#.to_vec(), 400, "malformed"),
        ("more", br#"{"content": "a"} {}"#.to_vec(), 400, "malformed"),
        ("html", b"<html>".to_vec(), 400, "malformed"),
        ("utf-8", b"{\"content\": \"\xff\xfe\"}".to_vec(), 400, "malformed"),
        ("surrogate", br#"{"content": "\ud800"}"#.to_vec(), 400, "malformed"),
        ("list", br#"["hello"]"#.to_vec(), 422, "invalid"),
        ("string", br#""hello""#.to_vec(), 422, "invalid"),
        ("null", br#"{"content": null}"#.to_vec(), 422, "invalid"),
        ("number", br#"{"content": 7}"#.to_vec(), 422, "invalid"),
        ("twice", br#"{"content": "a", "content": "b"}"#.to_vec(), 422, "invalid"),
        ("deep content", deep(r#"{"content": "#).into_bytes(), 422, "invalid"),
        ("deep unknown", deep(r#"{"x": "#).into_bytes(), 422, "invalid"),
        ("deep", deep("").into_bytes(), 422, "invalid"),
        ("empty", br#"{"content": ""}"#.to_vec(), 422, "invalid"),
        ("blank", br#"{"content": " \n\t"}"#.to_vec(), 422, "invalid"),
    ];
    for (what, body, status, code) in cases {
        assert_eq!(raw(&api, &path, json, body).await.problem(status), code, "{what}");
    }
    for kind in
        [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("multipart/form-data")]
    {
        let reply = raw(&api, &path, kind, r#"{"content": "a"}"#).await;
        assert_eq!(reply.problem(415), "media_type", "{kind:?}");
    }
    assert_eq!(api.transcript(&conversation).await, []);
    raw(&api, &path, Some("application/json; charset=utf-8"), r#"{"content": "a"}"#).await.expect(202);
}

#[tokio::test]
async fn a_body_past_the_bound_is_refused_however_it_is_sent() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let path = format!("/api/v2/conversations/{conversation}/messages");
    let message = |bytes: usize| json!({ "content": "x".repeat(bytes) }).to_string();

    let whole = raw(&api, &path, Some("application/json"), message(1024 * 1024)).await;
    assert_eq!(whole.problem(413), "too_large");
    let pieces = message(2 * 1024 * 1024).into_bytes();
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> =
        pieces.chunks(64 * 1024).map(|piece| Ok(piece.to_vec())).collect();
    let chunked =
        raw(&api, &path, Some("application/json"), reqwest::Body::wrap_stream(stream::iter(pieces))).await;
    assert_eq!(chunked.problem(413), "too_large");
    let long = raw(&api, &path, Some("application/json"), message(256 * 1024 + 1)).await;
    assert_eq!((long.problem(422), &long.body["errors"][0]["field"]), ("invalid", &json!("content")));
    assert_eq!(api.transcript(&conversation).await, []);
}

#[tokio::test]
async fn a_wrong_field_is_named_with_its_path() {
    let server = Server::start().await;
    let api = server.api();
    let agent = |changed: Value| {
        let mut agent = json!({ "slug": "a", "name": "A" });
        agent.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
        agent
    };
    let cases = [
        (agent(json!({ "colour": "red" })), "colour"),
        (agent(json!({ "tenant_id": NOBODY })), "tenant_id"),
        (agent(json!({ "limits": { "steps_max": "many" } })), "limits.steps_max"),
        (agent(json!({ "limits": { "steps_max": 0 } })), "limits.steps_max"),
        (agent(json!({ "limits": { "steps_max": 101 } })), "limits.steps_max"),
        (agent(json!({ "limits": { "wall_clock_s": 0 } })), "limits.wall_clock_s"),
        (agent(json!({ "limits": { "tokens_max": -1 } })), "limits.tokens_max"),
        (agent(json!({ "limits": { "cost_micros_max": 1.5 } })), "limits.cost_micros_max"),
        (agent(json!({ "limits": { "output_tokens_max": 0 } })), "limits.output_tokens_max"),
        (agent(json!({ "tools": ["timestamp", 7] })), "tools[1]"),
        (agent(json!({ "tools": ["rm_rf"] })), "tools"),
        (agent(json!({ "slug": "Not A Slug" })), "slug"),
        (agent(json!({ "slug": "../etc" })), "slug"),
        (agent(json!({ "slug": NOBODY })), "slug"),
        (agent(json!({ "slug": "s".repeat(65) })), "slug"),
        (agent(json!({ "name": "" })), "name"),
        (agent(json!({ "prompt": "p".repeat(64 * 1024 + 1) })), "prompt"),
        (json!({ "slug": "a" }), "name"),
    ];
    for (body, field) in cases {
        let reply = api.post("/api/v2/agents", body.clone()).await;
        assert_eq!(reply.problem(422), "invalid", "{body}");
        let error = &reply.body["errors"][0];
        let named =
            error["field"] == field || error["message"].as_str().unwrap().contains(&format!("`{field}`"));
        assert!(named, "{field}: {error}");
    }
    let listed = api.get("/api/v2/agents").await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "none of them was made");
    api.post("/api/v2/agents", agent(json!({}))).await.expect(201);
    assert_eq!(api.post("/api/v2/agents", agent(json!({}))).await.problem(409), "slug_taken");
    let unknown = api.post("/api/v2/conversations", json!({ "agent": "nobody" })).await;
    assert_eq!((unknown.problem(422), &unknown.body["errors"][0]["field"]), ("invalid", &json!("agent")));
}

#[tokio::test]
async fn text_comes_back_as_it_was_sent() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let texts = [
        "gr\u{fc}\u{df} dich \u{1f980} \u{05d0}\u{202e}x",
        "'; DROP TABLE messages; -- \" \\ %s {0}",
        "a\u{0}b",
        "<script>alert(1)</script> {{7*7}}",
        "line\r\nevent: run.done\ndata: {}\n\n",
    ];
    for text in texts {
        let turn = api.turn(&conversation, text).await;
        assert_eq!(turn.answer(), format!("echo: {text}"));
        assert_eq!(turn.kinds().iter().filter(|kind| **kind == "run.done").count(), 1);
    }
    let said: Vec<String> =
        api.transcript(&conversation).await.into_iter().map(|(_, content)| content).step_by(2).collect();
    assert_eq!(said, texts);
}

#[tokio::test]
async fn an_id_that_is_none_and_one_that_names_nothing_are_the_same_404() {
    let server = Server::start().await;
    let api = server.api();
    let absent = api.get(&format!("/api/v2/conversations/{NOBODY}")).await;
    assert_eq!(absent.problem(404), "not_found");
    for id in ["x", "%00", "..%2f..%2fetc%2fpasswd", "1", "%F0%9F%A6%80", "' OR 1=1 --"] {
        for path in [
            format!("/api/v2/conversations/{id}"),
            format!("/api/v2/conversations/{id}/messages"),
            format!("/api/v2/runs/{id}"),
            format!("/api/v2/runs/{id}/events"),
            format!("/api/v2/agents/{id}"),
        ] {
            let reply = api.get(&path).await;
            assert_eq!((reply.status, &reply.body), (404, &absent.body), "{path}");
        }
        let reply = api.delete(&format!("/api/v2/api-keys/{id}")).await;
        assert_eq!((reply.status, &reply.body), (404, &absent.body), "{id}");
    }
}

#[tokio::test]
async fn a_path_that_is_no_utf8_is_a_problem() {
    let server = Server::start().await;
    let reply = server.api().get("/api/v2/agents/%ff%fe").await;
    assert!(matches!(reply.status, 400 | 404), "{reply:?}");
    reply.problem(reply.status);
}

#[tokio::test]
async fn a_bad_page_and_a_bad_event_id_are_refused_by_name() {
    let server = Server::start().await;
    let api = server.api();
    for query in ["limit=0", "limit=201", "limit=-1", "limit=many", "cursor=abc", "cursor=%27", "offset=3"] {
        for path in ["conversations", "agents", "api-keys", "audit"] {
            let reply = api.get(&format!("/api/v2/{path}?{query}")).await;
            assert_eq!(reply.problem(422), "invalid", "{path}?{query}");
        }
    }
    let conversation = api.conversation().await;
    let turn = api.turn(&conversation, "[[say a]]").await;
    let path = format!("/api/v2/runs/{}/events", turn.run["id"].as_str().unwrap());
    let beyond = (turn.frames.len() + 1).to_string();
    for id in ["-1", "x", "1.5", "", "99999999999999999999", &beyond] {
        let request = api.request(Method::GET, &path).header("last-event-id", id);
        let reply = Api::reply(request).await;
        assert_eq!(
            (reply.problem(422), &reply.body["errors"][0]["field"]),
            ("invalid", &json!("Last-Event-ID")),
            "{id}"
        );
    }
}

/// Walks a list from page to page; ids in the order in which they came.
async fn walk(api: &Api, path: &str, limit: usize) -> Vec<String> {
    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("{path}?limit={limit}&cursor={cursor}")).await.expect(200);
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= limit, "{path}");
        ids.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return ids,
        }
    }
}

#[tokio::test]
async fn pages_by_cursor_show_every_row_once_whatever_their_size() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    for number in 0..5 {
        api.conversation().await;
        api.post("/api/v2/agents", json!({ "slug": format!("a{number}"), "name": "A" })).await.expect(201);
        api.post("/api/v2/api-keys", json!({})).await.expect(201);
        api.turn(&conversation, "[[tool timestamp]] [[say x]]").await;
    }
    let messages = format!("/api/v2/conversations/{conversation}/messages");
    for (path, rows) in [
        ("/api/v2/conversations", 6),
        ("/api/v2/agents", 6),
        ("/api/v2/api-keys", 6),
        (&messages, 20),
        ("/api/v2/audit", 26),
    ] {
        let whole = walk(&api, path, 200).await;
        assert_eq!(whole.len(), rows, "{path}");
        assert_eq!(whole.iter().collect::<BTreeSet<_>>().len(), rows, "{path}");
        for limit in [1, 2, rows - 1, rows] {
            assert_eq!(walk(&api, path, limit).await, whole, "{path} by {limit}");
        }
    }
}
