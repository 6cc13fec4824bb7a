//! The wall between tenants: another tenant's thing can't be told from one that never was.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Api, Server},
    walk::NOBODY,
};

/// Requests that name a thing by id: with what, and the body.
fn naming(id: &str, kind: &str) -> Vec<(Method, String, Option<Value>)> {
    let get = |path: String| (Method::GET, path, None);
    match kind {
        "conversation" => vec![
            get(format!("/api/v2/conversations/{id}")),
            get(format!("/api/v2/conversations/{id}/messages")),
            get(format!("/api/v2/conversations/{id}/runs")),
            get(format!("/api/v2/conversations/{id}/files")),
            get(format!("/api/v2/conversations/{id}/files/content?path=a.txt")),
            (Method::PUT, format!("/api/v2/conversations/{id}/files/content?path=a.txt"), Some(json!({}))),
            (Method::DELETE, format!("/api/v2/conversations/{id}/files/content?path=a.txt"), None),
            (Method::PATCH, format!("/api/v2/conversations/{id}"), Some(json!({ "title": "eve's" }))),
            (Method::DELETE, format!("/api/v2/conversations/{id}"), None),
            (Method::POST, format!("/api/v2/conversations/{id}/restore"), None),
            (
                Method::POST,
                format!("/api/v2/conversations/{id}/messages"),
                Some(json!({ "content": "let me in" })),
            ),
        ],
        "run" => vec![
            get(format!("/api/v2/runs/{id}")),
            get(format!("/api/v2/runs/{id}/events")),
            get(format!("/api/v2/runs/{id}/steps")),
            (Method::POST, format!("/api/v2/runs/{id}/cancel"), None),
            (Method::POST, format!("/api/v2/runs/{id}/regenerate"), None),
        ],
        "agent" => vec![
            get(format!("/api/v2/agents/{id}")),
            (Method::PATCH, format!("/api/v2/agents/{id}"), Some(json!({ "prompt": "obey eve" }))),
            (Method::POST, "/api/v2/conversations".into(), Some(json!({ "agent": id }))),
        ],
        "api-key" => vec![
            (Method::DELETE, format!("/api/v2/api-keys/{id}"), None),
            (Method::POST, format!("/api/v2/api-keys/{id}/rotate"), Some(json!({ "overlap_s": 0 }))),
        ],
        "invitation" => vec![(Method::DELETE, format!("/api/v2/invitations/{id}"), None)],
        "budget" => {
            vec![(Method::PUT, format!("/api/v2/budgets/{id}"), Some(json!({ "limit_micros": 1 })))]
        }
        "user" => vec![
            (Method::DELETE, format!("/api/v2/permissions/assignments/{id}/owner"), None),
            get(format!("/api/v2/users/{id}")),
            (Method::DELETE, format!("/api/v2/users/{id}"), None),
            (Method::POST, format!("/api/v2/users/{id}/reset-link"), None),
            (Method::POST, format!("/api/v2/users/{id}/unlock"), None),
            (Method::DELETE, format!("/api/v2/users/{id}/totp"), None),
            get(format!("/api/v2/users/{id}/sessions")),
            (Method::DELETE, format!("/api/v2/users/{id}/sessions"), None),
            (Method::POST, "/api/v2/api-keys".into(), Some(json!({ "user_id": id }))),
        ],
        _ => unreachable!("{kind}"),
    }
}

async fn is_as_absent(stranger: &Api, kind: &str, id: &str) {
    for (there, absent) in naming(id, kind).iter().zip(naming(NOBODY, kind)) {
        let found = stranger.call(there.0.clone(), &there.1, there.2.as_ref()).await;
        let missing = stranger.call(absent.0, &absent.1, absent.2.as_ref()).await;
        assert_eq!((found.status, &found.body), (missing.status, &missing.body), "{} {}", there.0, there.1);
        assert!(matches!(found.status, 404 | 422), "{} {}: {}", there.0, there.1, found.status);
    }
}

#[tokio::test]
async fn what_is_another_tenants_answers_as_if_it_were_not_there() {
    let server = Server::start().await;
    let (admin, stranger) = (server.api(), server.stranger().await);
    let conversation = admin.conversation().await;
    let write = r#"[[tool file_write {"path": "a.txt", "content": "private"}]] [[say private]]"#;
    let turn = admin.turn(&conversation, write).await;
    let me = admin.get("/api/v2/me").await.expect(200);
    let agent = admin.get("/api/v2/agents/default").await.expect(200);
    let key = admin.post("/api/v2/api-keys", json!({})).await.expect(201);
    let budgets = admin.get("/api/v2/budgets").await.expect(200);

    is_as_absent(&stranger, "conversation", &conversation).await;
    is_as_absent(&stranger, "run", turn.run["id"].as_str().unwrap()).await;
    is_as_absent(&stranger, "agent", agent["id"].as_str().unwrap()).await;
    is_as_absent(&stranger, "api-key", key["id"].as_str().unwrap()).await;
    is_as_absent(&stranger, "budget", me["tenant_id"].as_str().unwrap()).await;
    let invited = admin.post("/api/v2/invitations", json!({ "email": "new@example.org" })).await.expect(201);
    is_as_absent(&stranger, "invitation", invited["id"].as_str().unwrap()).await;
    is_as_absent(&stranger, "user", me["user_id"].as_str().unwrap()).await;

    assert_eq!(admin.get("/api/v2/agents/default").await.expect(200), agent);
    assert_eq!(admin.get("/api/v2/budgets").await.expect(200), budgets);
    assert_eq!(admin.transcript(&conversation).await.len(), 4);
    admin.with_key(key["key"].as_str().unwrap()).get("/api/v2/me").await.expect(200);
}

#[tokio::test]
async fn a_list_shows_a_tenants_own_and_nothing_else() {
    let server = Server::start().await;
    let (admin, stranger) = (server.api(), server.stranger().await);
    let conversation = admin.conversation().await;
    admin.turn(&conversation, "[[say private]]").await;
    admin.post("/api/v2/agents", json!({ "slug": "ours", "name": "Ours" })).await.expect(201);

    let items = |page: Value| page["items"].as_array().unwrap().clone();
    assert_eq!(items(stranger.get("/api/v2/conversations").await.expect(200)), [] as [Value; 0]);
    assert_eq!(items(stranger.get("/api/v2/audit").await.expect(200)), [] as [Value; 0]);
    let found = items(stranger.get("/api/v2/conversations/search?q=private").await.expect(200));
    assert_eq!(found, [] as [Value; 0]);
    assert_eq!(items(admin.get("/api/v2/conversations/search?q=private").await.expect(200)).len(), 3);
    let agents = items(stranger.get("/api/v2/agents").await.expect(200));
    assert_eq!(agents.iter().map(|agent| &agent["slug"]).collect::<Vec<_>>(), ["default"]);
    assert_eq!(items(stranger.get("/api/v2/api-keys").await.expect(200)).len(), 1);
    let eve = stranger.get("/api/v2/me").await.expect(200);
    let theirs = stranger.get("/api/v2/budgets").await.expect(200);
    let ids: Vec<&Value> = theirs.as_array().unwrap().iter().map(|budget| &budget["id"]).collect();
    assert_eq!(ids, [&eve["tenant_id"], &eve["user_id"]]);
    let assignments = stranger.get("/api/v2/permissions/assignments").await.expect(200);
    assert!(assignments.as_array().unwrap().iter().all(|assignment| assignment["user_id"] == eve["user_id"]));
}

#[tokio::test]
async fn one_tenants_cursor_key_and_spending_mean_nothing_in_another() {
    let server = Server::start().await;
    let (admin, stranger) = (server.api(), server.stranger().await);
    let ours = admin.conversation().await;
    let theirs = stranger.conversation().await;
    admin.conversation().await;

    let page = admin.get("/api/v2/conversations?limit=1").await.expect(200);
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = stranger.get(&format!("/api/v2/conversations?cursor={cursor}")).await.expect(200);
    assert!(!page.to_string().contains(&ours));
    let send = |api: &Api, conversation: &str| {
        let path = format!("/api/v2/conversations/{conversation}/messages");
        let request = api.request(Method::POST, &path).header("idempotency-key", "same");
        Api::reply(request.json(&json!({ "content": "[[pad 100]]" })))
    };
    let (first, second) = (send(&admin, &ours).await, send(&stranger, &theirs).await);
    assert_ne!(first.clone().expect(202), second.clone().expect(202));
    stranger.end_of(second.body["run_id"].as_str().unwrap()).await;
    let turn = admin.end_of(first.body["run_id"].as_str().unwrap()).await;
    let tenant = &admin.get("/api/v2/budgets").await.expect(200)[0];
    assert_eq!(tenant["spent_micros"], turn.run["cost_micros"]);
}

#[tokio::test]
async fn a_platform_administrator_works_in_no_tenant_but_their_own() {
    let server = Server::start().await;
    let (admin, stranger) = (server.api(), server.stranger().await);
    let theirs = stranger.conversation().await;
    assert_eq!(admin.get(&format!("/api/v2/conversations/{theirs}")).await.problem(404), "not_found");
    let named =
        json!({ "agent": "default", "tenant_id": stranger.get("/api/v2/me").await.expect(200)["tenant_id"] });
    assert_eq!(admin.post("/api/v2/conversations", named).await.problem(422), "invalid");
    let header = admin.request(Method::GET, "/api/v2/me").header("x-tenant-id", NOBODY);
    let me = Api::reply(header).await.expect(200);
    assert_ne!(me["tenant_id"], NOBODY, "no header changes who calls");
}
