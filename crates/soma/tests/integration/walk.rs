//! Every operation of the API, walked: none is open, none is unknown here, each asks the policy for what it says.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{ADMIN, Api, Reply, Server, text};

/// An id that names nothing.
pub const NOBODY: &str = "01900000-0000-7000-8000-000000000000";

/// Every operation and the action that it asks for. A new one is written down here, by whoever decided who may use it.
const OPERATIONS: &[(&str, &str, &str)] = &[
    ("GET", "/api/v2/agents", "agent:read"),
    ("POST", "/api/v2/agents", "agent:create"),
    ("GET", "/api/v2/agents/{agent}", "agent:read"),
    ("PATCH", "/api/v2/agents/{agent}", "agent:update"),
    ("DELETE", "/api/v2/agents/{agent}", "agent:delete"),
    ("POST", "/api/v2/agents/{agent}/restore", "agent:update"),
    ("GET", "/api/v2/agents/{agent}/versions", "agent:read"),
    ("GET", "/api/v2/approvals", "tool:approve"),
    ("GET", "/api/v2/approvals/{id}", "tool:approve"),
    ("POST", "/api/v2/approvals/{id}/decide", "tool:approve"),
    ("GET", "/api/v2/api-keys", "apikey:read"),
    ("POST", "/api/v2/api-keys", "apikey:create"),
    ("DELETE", "/api/v2/api-keys/{id}", "apikey:revoke"),
    ("POST", "/api/v2/api-keys/{id}/rotate", "apikey:rotate"),
    ("GET", "/api/v2/audit", "audit:read"),
    ("GET", "/api/v2/audit/export", "audit:export"),
    ("GET", "/api/v2/audit/verify", "audit:read"),
    ("GET", "/api/v2/auth/methods", "public"),
    ("POST", "/api/v2/auth/login", "public"),
    ("POST", "/api/v2/auth/logout", "public"),
    ("GET", "/api/v2/auth/oidc/login", "public"),
    ("GET", "/api/v2/auth/oidc/callback", "public"),
    ("POST", "/api/v2/auth/oidc/logout", "public"),
    ("POST", "/api/v2/auth/oidc/back-channel-logout", "public"),
    ("POST", "/api/v2/auth/links/inspect", "public"),
    ("POST", "/api/v2/auth/links/redeem", "public"),
    ("POST", "/api/v2/auth/reset", "public"),
    ("GET", "/api/v2/budgets", "billing:view_usage"),
    ("PUT", "/api/v2/budgets/{id}", "billing:change_plan"),
    ("GET", "/api/v2/conversations", "conversation:read"),
    ("POST", "/api/v2/conversations", "conversation:create"),
    ("GET", "/api/v2/conversations/search", "conversation:search"),
    ("GET", "/api/v2/conversations/{id}", "conversation:read"),
    ("GET", "/api/v2/conversations/{id}/files", "file:read"),
    ("GET", "/api/v2/conversations/{id}/files/content", "file:read"),
    ("PUT", "/api/v2/conversations/{id}/files/content", "file:upload"),
    ("DELETE", "/api/v2/conversations/{id}/files/content", "file:delete"),
    ("PATCH", "/api/v2/conversations/{id}", "conversation:update"),
    ("DELETE", "/api/v2/conversations/{id}", "conversation:delete"),
    ("POST", "/api/v2/conversations/{id}/restore", "conversation:delete"),
    ("GET", "/api/v2/conversations/{id}/runs", "conversation:view_history"),
    ("GET", "/api/v2/conversations/{id}/messages", "conversation:view_history"),
    ("POST", "/api/v2/conversations/{id}/messages", "conversation:send_message"),
    ("GET", "/api/v2/invitations", "user:read"),
    ("POST", "/api/v2/invitations", "user:create"),
    ("DELETE", "/api/v2/invitations/{id}", "user:create"),
    ("GET", "/api/v2/me", "own"),
    ("PATCH", "/api/v2/me", "own"),
    ("DELETE", "/api/v2/me/impersonation", "own"),
    ("POST", "/api/v2/me/password", "own"),
    ("GET", "/api/v2/me/sessions", "own"),
    ("DELETE", "/api/v2/me/sessions", "own"),
    ("DELETE", "/api/v2/me/sessions/{id}", "own"),
    ("POST", "/api/v2/me/tenant", "own"),
    ("POST", "/api/v2/me/totp", "own"),
    ("POST", "/api/v2/me/totp/confirm", "own"),
    ("POST", "/api/v2/me/totp/disable", "own"),
    ("GET", "/api/v2/models", "model:read"),
    ("GET", "/api/v2/permissions/assignments", "user:read"),
    ("POST", "/api/v2/permissions/assignments", "user:assign_roles"),
    ("DELETE", "/api/v2/permissions/assignments/{user_id}/{role}", "user:revoke_roles"),
    ("GET", "/api/v2/permissions/catalogue", "user:read"),
    ("POST", "/api/v2/permissions/check", "user:read"),
    ("POST", "/api/v2/permissions/dry-run", "user:assign_roles"),
    ("GET", "/api/v2/permissions/effective", "user:read"),
    ("GET", "/api/v2/permissions/grants", "user:read"),
    ("POST", "/api/v2/permissions/grants", "user:assign_roles"),
    ("DELETE", "/api/v2/permissions/grants/{id}", "user:revoke_roles"),
    ("GET", "/api/v2/permissions/matrix", "user:read"),
    ("GET", "/api/v2/permissions/roles", "user:read"),
    ("POST", "/api/v2/permissions/roles", "user:assign_roles"),
    ("DELETE", "/api/v2/permissions/roles/{name}", "user:revoke_roles"),
    ("PATCH", "/api/v2/permissions/roles/{name}", "user:assign_roles"),
    ("GET", "/api/v2/runs/{id}", "conversation:read"),
    ("POST", "/api/v2/runs/{id}/cancel", "conversation:update"),
    ("POST", "/api/v2/runs/{id}/regenerate", "conversation:send_message"),
    ("GET", "/api/v2/runs/{id}/events", "conversation:read"),
    ("GET", "/api/v2/settings", "own"),
    ("DELETE", "/api/v2/settings/{scope}/{key}", "tenant:update"),
    ("PUT", "/api/v2/settings/{scope}/{key}", "tenant:update"),
    ("GET", "/api/v2/runs/{id}/steps", "conversation:read"),
    ("GET", "/api/v2/tenant", "tenant:read"),
    ("PATCH", "/api/v2/tenant", "tenant:update"),
    ("GET", "/api/v2/tenants", "platform:manage"),
    ("POST", "/api/v2/tenants", "tenant:create"),
    ("GET", "/api/v2/tenants/{id}", "tenant:read"),
    ("PATCH", "/api/v2/tenants/{id}", "tenant:update"),
    ("POST", "/api/v2/tenants/{id}/resume", "tenant:suspend"),
    ("POST", "/api/v2/tenants/{id}/suspend", "tenant:suspend"),
    ("GET", "/api/v2/tools", "tool:read"),
    ("POST", "/api/v2/service-accounts", "user:create"),
    ("GET", "/api/v2/users", "user:read"),
    ("GET", "/api/v2/users/{id}", "user:read"),
    ("DELETE", "/api/v2/users/{id}", "user:delete"),
    ("POST", "/api/v2/users/{id}/impersonate", "platform:impersonate"),
    ("GET", "/api/v2/usage", "billing:view_usage"),
    ("POST", "/api/v2/users/{id}/reset-link", "user:reset_password"),
    ("GET", "/api/v2/users/{id}/sessions", "user:view_activity"),
    ("DELETE", "/api/v2/users/{id}/sessions", "user:update"),
    ("DELETE", "/api/v2/users/{id}/totp", "user:manage_mfa"),
    ("POST", "/api/v2/users/{id}/unlock", "user:update"),
    ("POST", "/v1/chat/completions", "model:invoke"),
    ("POST", "/v1/embeddings", "model:invoke"),
    ("GET", "/v1/models", "model:read"),
    ("GET", "/v1/models/agent/{agent}", "model:read"),
    ("GET", "/v1/models/{model}", "model:read"),
    ("POST", "/v1/responses", "model:invoke"),
    ("GET", "/v1/responses/{id}", "conversation:read"),
    ("POST", "/v1/responses/{id}/cancel", "conversation:update"),
    ("GET", "/ws/v2/chat", "conversation:read"),
    ("GET", "/ws/v2/chat/{agent}", "conversation:read"),
    ("GET", "/health/live", "public"),
    ("GET", "/health/ready", "public"),
    ("GET", "/metrics", "infra:view"),
];

/// A body that the operation takes.
fn body_of(method: &str, path: &str) -> Option<Value> {
    Some(match (method, path) {
        ("POST", "/api/v2/agents") => json!({ "slug": "a", "name": "A" }),
        ("PATCH", "/api/v2/agents/{agent}") | ("POST", "/api/v2/api-keys") => json!({ "name": "B" }),
        ("POST", "/api/v2/agents/{agent}/restore") => json!({ "version": 1 }),
        ("POST", "/api/v2/approvals/{id}/decide") => json!({ "decision": "approve", "arguments_hash": "" }),
        ("POST", "/api/v2/auth/login") => json!({ "email": "nobody@example.org", "password": "x" }),
        ("POST", "/api/v2/auth/links/inspect") => json!({ "token": "x" }),
        ("POST", "/api/v2/auth/links/redeem") => json!({ "token": "x", "password": "x" }),
        ("POST", "/api/v2/auth/reset") => json!({ "email": "nobody@example.org" }),
        ("POST", "/api/v2/api-keys/{id}/rotate") => json!({ "overlap_s": 0 }),
        ("POST", "/api/v2/invitations") => json!({ "email": "nobody@example.org" }),
        ("POST", "/api/v2/service-accounts") => json!({ "name": "robot" }),
        ("PATCH", "/api/v2/me") => json!({ "name": "B" }),
        ("POST", "/api/v2/me/password") => json!({ "current": "x", "new": "x" }),
        ("POST", "/api/v2/me/tenant") => json!({ "tenant_id": NOBODY }),
        ("POST", "/api/v2/me/totp/confirm" | "/api/v2/me/totp/disable") => json!({ "code": "000000" }),
        ("POST", "/api/v2/users/{id}/impersonate") => json!({ "reason": "to see what they see" }),
        ("PUT", "/api/v2/budgets/{id}") => json!({ "limit_micros": 1 }),
        ("PATCH", "/api/v2/conversations/{id}") => json!({ "title": "T" }),
        ("POST", "/api/v2/conversations") => json!({ "agent": "default" }),
        ("POST", "/api/v2/conversations/{id}/messages") => json!({ "content": "hello" }),
        ("PUT", "/api/v2/settings/{scope}/{key}") => json!({ "value": "dark" }),
        ("PATCH", "/api/v2/tenant" | "/api/v2/tenants/{id}") => json!({ "name": "Renamed" }),
        ("POST", "/api/v2/tenants") => json!({ "slug": "t", "name": "T" }),
        ("POST", "/api/v2/tenants/{id}/suspend") => json!({ "reason": "r" }),
        ("POST", "/api/v2/permissions/check") => json!({ "action": "agent:read" }),
        ("POST", "/api/v2/permissions/dry-run") => {
            json!({ "change": { "kind": "assign", "user_id": NOBODY, "role": "viewer" } })
        }
        ("POST", "/api/v2/permissions/grants") => json!({ "user_id": NOBODY, "role": "viewer" }),
        ("POST", "/api/v2/permissions/roles") => json!({ "name": "r", "permissions": ["agent:read"] }),
        ("PATCH", "/api/v2/permissions/roles/{name}") => json!({ "description": "d" }),
        ("POST", "/api/v2/permissions/assignments") => json!({ "user_id": NOBODY, "role": "viewer" }),
        ("POST", "/v1/chat/completions") => {
            json!({ "model": "scripted", "messages": [{ "role": "user", "content": "hello" }] })
        }
        ("POST", "/v1/embeddings" | "/v1/responses") => json!({ "model": "scripted", "input": "hello" }),
        _ => return None,
    })
}

async fn call(api: &Api, method: &str, path: &str) -> Reply {
    let parts = path.split('/').map(|part| if part.starts_with('{') { NOBODY } else { part });
    let filled = parts.collect::<Vec<_>>().join("/");
    let body = body_of(method, path);
    api.call(Method::from_bytes(method.as_bytes()).unwrap(), &filled, body.as_ref()).await
}

async fn document(server: &Server) -> Value {
    server.api().without_key().get("/api/openapi.json").await.expect(200)
}

/// Method, path and the operation's own part of the document.
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation.is_object() && operation.get("responses").is_some() {
                found.push((method.to_uppercase(), path.clone(), operation));
            }
        }
    }
    found
}

#[tokio::test]
async fn the_document_lists_the_operations_that_are_known_here_with_their_actions() {
    let server = Server::start().await;
    let document = document(&server).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    let found: BTreeSet<(String, String, String)> = operations(&document)
        .into_iter()
        .map(|(method, path, operation)| {
            let action = operation["x-soma-action"].as_str().unwrap_or("none").to_owned();
            (method, path, action)
        })
        .collect();
    let known = OPERATIONS
        .iter()
        .map(|(method, path, action)| ((*method).to_owned(), (*path).to_owned(), (*action).to_owned()));
    assert_eq!(found, known.collect());

    let catalogue = server.api().get("/api/v2/permissions/catalogue").await.expect(200);
    for (_, path, action) in &found {
        let known = action == "own" || action == "public" || catalogue["actions"].get(action).is_some();
        assert!(known, "{path}: {action} is not in the policy's catalogue");
    }
}

#[tokio::test]
async fn an_operation_has_a_name_of_its_own_a_summary_and_a_declared_problem() {
    let server = Server::start().await;
    let document = document(&server).await;
    let mut names = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let name = operation["operationId"].as_str().unwrap_or_default();
        assert!(!name.is_empty() && names.insert(name), "{method} {path}: {name}");
        let summary = operation["summary"].as_str().or(operation["description"].as_str());
        assert!(summary.is_some_and(|summary| !summary.is_empty()), "{method} {path}");
        let public = operation["x-soma-action"] == "public";
        let says_public = operation["security"] == json!([{}]);
        assert_eq!(public, says_public, "{method} {path}: {}", operation["security"]);
        let problem = &operation["responses"]["default"]["content"];
        assert!(public || problem.is_object(), "{method} {path} declares no problem");
    }
    let printed = server.run(&["openapi"]);
    let printed: Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(printed, document, "`soma openapi` prints what is served");
}

#[tokio::test]
async fn no_operation_but_the_public_few_answers_without_a_credential() {
    let server = Server::start().await;
    let admin = server.api();
    for api in [
        admin.without_key(),
        admin.with_key("soma_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        admin.with_key("eyJhbGciOiJub25lIn0.e30."),
    ] {
        for (method, path, action) in OPERATIONS {
            let reply = call(&api, method, path).await;
            if *action == "public" {
                assert_ne!(reply.body["code"], "unauthenticated", "{method} {path}");
                assert!(reply.status < 500, "{method} {path}: {}", reply.body);
                continue;
            }
            let code = if path.starts_with("/v1/") { "invalid_api_key" } else { "unauthenticated" };
            assert_eq!(reply.problem(401), code, "{method} {path}");
            assert_eq!(reply.headers["www-authenticate"], "Bearer", "{method} {path}");
        }
        let guarded = [
            "/api",
            "/api/v2/nothing",
            "/api/v2/agents/",
            "/v1",
            "/v1/models",
            "/ws/v2/chat",
            "/health",
            "/metrics",
        ];
        for path in guarded {
            let code = if path.starts_with("/v1") { "invalid_api_key" } else { "unauthenticated" };
            assert_eq!(api.get(path).await.problem(401), code, "{path}");
        }
        // Beside them lie the files of the web interface, and nothing of the server's own.
        for path in ["/.env", "/data/soma.db"] {
            assert_ne!(api.get(path).await.status, 200, "{path}");
        }
        assert_eq!(api.get("/api/openapi.json").await.status, 200);
    }
}

#[tokio::test]
async fn a_user_without_a_role_may_only_ask_who_they_are_and_each_denial_is_in_the_audit() {
    let server = Server::start().await;
    let nobody = server.member("nobody@example.org", &[]).await;
    let admin = server.api();
    let me = nobody.get("/api/v2/me").await.expect(200);
    assert_eq!(me["roles"], json!([]));
    for (method, path, action) in OPERATIONS {
        if matches!(*action, "public" | "own") {
            let reply = call(&nobody, method, path).await;
            let refused = matches!(reply.body["code"].as_str(), Some("unauthenticated" | "denied"));
            assert!(!refused && reply.status < 500, "{method} {path}: {}", reply.body);
            continue;
        }
        let reply = call(&nobody, method, path).await;
        assert_eq!(reply.problem(403), "denied", "{method} {path}");

        let audit = admin.get("/api/v2/audit?limit=1").await.expect(200);
        let entry = &audit["items"][0];
        assert_eq!(
            (&entry["action"], &entry["effect"], &entry["actor_id"]),
            (&json!(action), &json!("deny"), &me["user_id"]),
            "{method} {path}: what is asked of the policy is what the document says"
        );
        if path.starts_with("/v1/") {
            assert_eq!(entry["reason"], reply.body["error"]["message"]);
            continue;
        }
        assert_eq!(
            (&entry["policy_revision"], &entry["reason"]),
            (&reply.body["policy_revision"], &reply.body["detail"])
        );
    }
}

/// What is open to somebody who has to set up an authenticator first, beside signing out.
const SETTING_UP: &[(&str, &str)] = &[
    ("GET", "/api/v2/me"),
    ("POST", "/api/v2/me/totp"),
    ("POST", "/api/v2/me/totp/confirm"),
    ("POST", "/api/v2/me/tenant"),
    ("DELETE", "/api/v2/me/impersonation"),
];

#[tokio::test]
async fn without_the_second_factor_that_is_asked_for_an_administrator_may_only_set_one_up_and_leave() {
    let server = Server::start().await;
    let ada = server.person(ADMIN, &[]).await;
    let setting = "/api/v2/settings/tenant/mfa_policy";
    server.api().put(setting, json!({ "value": "required" })).await.expect(204);
    for (method, path, action) in OPERATIONS.iter().filter(|(.., action)| *action != "public") {
        let reply = call(&ada, method, path).await;
        if SETTING_UP.contains(&(*method, *path)) {
            assert_ne!(reply.body["code"], "totp_required_by_tenant", "{method} {path}");
            assert!(reply.status < 500, "{method} {path}: {}", reply.body);
        } else {
            assert_eq!(reply.problem(403), "totp_required_by_tenant", "{method} {path} {action}");
        }
    }
}

#[tokio::test]
async fn an_unknown_path_and_a_wrong_method_are_problems() {
    let server = Server::start().await;
    let api = server.api();
    // What lies beside the API are pages of the web interface.
    for path in ["/api/v2/nothing", "/api/v2/agents/", "/api/v2/conversations/x/y", "/ws/v2/nothing"] {
        assert_eq!(api.get(path).await.problem(404), "not_found", "{path}");
    }
    for (method, path, _) in OPERATIONS {
        let others = [Method::PUT, Method::DELETE, Method::PATCH, Method::POST];
        let taken = |other: &Method| {
            OPERATIONS.iter().any(|(method, known, _)| known == path && *method == other.as_str())
        };
        let other = others.into_iter().find(|other| !taken(other)).unwrap();
        let reply = call(&api, other.as_str(), path).await;
        assert_eq!(reply.problem(405), "method_not_allowed", "{other} {path}");
        let allow = text(reply.headers["allow"].as_bytes());
        assert!(allow.contains(method), "{other} {path}: {allow}");
    }
}

#[tokio::test]
async fn every_answer_carries_a_request_id_and_keeps_the_clients() {
    let server = Server::start().await;
    let api = server.api();
    let made = api.get("/api/v2/me").await;
    assert!(!made.headers["x-request-id"].is_empty());
    let refused = api.without_key().get("/api/v2/me").await;
    assert!(!refused.headers["x-request-id"].is_empty());
    let request = api.request(Method::GET, "/api/v2/me").header("x-request-id", "mine-1");
    assert_eq!(Api::reply(request).await.headers["x-request-id"], "mine-1");
}
