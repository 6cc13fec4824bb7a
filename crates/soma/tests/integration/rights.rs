//! Keys, roles and scopes: what each may do, and that a right that has ended counts no more.

use std::time::{Duration, Instant};

use contracts::TenantId;
use domains::identity::NewKey;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Api, PATIENCE, Server, until},
    walk::NOBODY,
};

async fn scoped(server: &Server, scopes: &[&str]) -> Api {
    let me = server.api().get("/api/v2/me").await.expect(200);
    let id = |field: &str| me[field].as_str().unwrap().to_owned();
    let tenant: TenantId = id("tenant_id").parse().unwrap();
    let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    let new = NewKey { name: "scoped".into(), scopes, lifetime_s: None };
    server.api().with_key(&server.key(tenant, id("user_id").parse().unwrap(), new).await)
}

async fn refused_soon(api: &Api) {
    let since = Instant::now();
    until("the key is refused", || async { (api.get("/api/v2/me").await.status == 401).then_some(()) }).await;
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_key_does_no_more_than_its_scopes_though_its_user_may() {
    let server = Server::start().await;
    let admin = server.api();
    let conversation = admin.conversation().await;
    let reader = scoped(&server, &["conversation:read"]).await;

    reader.get(&format!("/api/v2/conversations/{conversation}")).await.expect(200);
    let refused = reader.send(&conversation, json!({ "content": "hello" })).await;

    assert_eq!(refused.problem(403), "denied");
    assert_eq!(refused.body["detail"], "scope_does_not_cover");
    assert_eq!(admin.transcript(&conversation).await, []);
    assert_eq!(reader.get("/api/v2/agents").await.status, 403);
    let made = reader.post("/api/v2/api-keys", json!({ "scopes": ["*"] })).await;
    assert_eq!(made.problem(403), "denied", "a limited key makes no wider one");
}

#[tokio::test]
async fn a_tool_call_does_no_more_than_the_key_that_sent_the_message() {
    let server = Server::start().await;
    let talker = scoped(&server, &["conversation:*"]).await;
    let conversation = talker.conversation().await;

    let turn = talker.turn(&conversation, "[[tool timestamp]] [[say {result}]]").await;

    assert_eq!(turn.one("tool.result")["status"], "blocked");
    assert_eq!(turn.one("policy.decision")["reason"], "scope_does_not_cover");
    assert_eq!(turn.answer(), "Not allowed: scope_does_not_cover.");
}

#[tokio::test]
async fn a_tool_call_of_a_waiting_message_is_judged_by_the_rights_when_it_runs() {
    let server = Server::start().await;
    let admin = server.api();
    let user = server.user("bob@example.org", &["user"]).await;
    let bob = server.member("bob@example.org", &["user"]).await;
    let conversation = bob.conversation().await;
    bob.say(&conversation, "[[hold one two three four]]").await;
    let waiting = bob.say(&conversation, "[[tool timestamp]]").await;
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 1).await;

    admin.delete(&format!("/api/v2/permissions/assignments/{user}/member")).await.expect(204);
    server.model.release();

    let turn = admin.end_of(&waiting).await;
    assert_eq!(turn.one("tool.result")["status"], "blocked");
    assert_eq!(bob.conversation_attempt().await, 403);
}

#[tokio::test]
async fn a_role_gives_what_the_catalogue_says_and_no_more() {
    let server = Server::start().await;
    let admin = server.api();
    let conversation = admin.conversation().await;
    let message = format!("/api/v2/conversations/{conversation}/messages");
    let viewer = server.member("viewer@example.org", &["viewer"]).await;
    let member = server.member("member@example.org", &["user"]).await;
    let biller = server.member("biller@example.org", &["billing_admin"]).await;
    let auditor = server.member("auditor@example.org", &["security_auditor"]).await;
    let agent = json!({ "slug": "mine", "name": "Mine" });
    let budget = json!({ "limit_micros": null });
    for (who, api, expected) in [
        ("viewer", &viewer, [403, 403, 403, 403, 200, 403]),
        ("member", &member, [202, 403, 403, 403, 200, 200]),
        ("biller", &biller, [403, 403, 404, 403, 403, 403]),
        ("auditor", &auditor, [403, 403, 403, 200, 403, 403]),
        ("admin", &admin, [202, 201, 404, 200, 200, 200]),
    ] {
        let seen = [
            api.post(&message, json!({ "content": "[[say hi]]" })).await.status,
            api.post("/api/v2/agents", agent.clone()).await.status,
            api.put(&format!("/api/v2/budgets/{NOBODY}"), budget.clone()).await.status,
            api.get("/api/v2/audit").await.status,
            api.get("/api/v2/agents/default").await.status,
            api.get(&message).await.status,
        ];
        assert_eq!(seen, expected, "{who}");
    }
}

#[tokio::test]
async fn an_owner_takes_the_audit_out_and_makes_others_auditors() {
    let server = Server::start().await;
    let assignments = "/api/v2/permissions/assignments";
    let olga = server.user("olga@example.org", &[]).await;
    server.api().post(assignments, json!({ "user_id": olga, "role": "owner" })).await.expect(201);
    let owner = server.member("olga@example.org", &[]).await;
    assert_eq!(
        owner.get("/api/v2/me").await.expect(200)["roles"],
        json!(["billing_admin", "security_auditor", "tenant_admin"])
    );
    assert_eq!(owner.get("/api/v2/audit/export").await.status, 200);
    let auditor = server.user("auditor@example.org", &[]).await;
    owner.post(assignments, json!({ "user_id": auditor, "role": "security_auditor" })).await.expect(201);
    let auditor = server.member("auditor@example.org", &[]).await;
    assert_eq!(auditor.get("/api/v2/audit/export").await.status, 200);
}

#[tokio::test]
async fn an_administrator_of_a_tenant_gives_and_takes_roles_but_never_the_platforms() {
    let server = Server::start().await;
    let owner = server.member("owner@example.org", &["tenant_admin"]).await;
    let carol = server.user("carol@example.org", &[]).await;
    let as_carol = server.member("carol@example.org", &[]).await;
    let assignments = "/api/v2/permissions/assignments";

    let reply = owner.post(assignments, json!({ "user_id": carol, "role": "saas_super_admin" })).await;
    assert_eq!((reply.problem(422), &reply.body["errors"][0]["field"]), ("invalid", &json!("role")));
    let reply = owner.post(assignments, json!({ "user_id": carol, "role": "emperor" })).await;
    assert_eq!(reply.problem(422), "invalid");
    let reply = owner.post(assignments, json!({ "user_id": NOBODY, "role": "viewer" })).await;
    assert_eq!((reply.problem(422), &reply.body["errors"][0]["field"]), ("invalid", &json!("user_id")));
    assert_eq!(as_carol.conversation_attempt().await, 403);

    owner.post(assignments, json!({ "user_id": carol, "role": "member" })).await.expect(201);
    assert_eq!(as_carol.conversation_attempt().await, 201, "a new right counts at the next request");
    let path = format!("{assignments}/{carol}/member");
    owner.delete(&path).await.expect(204);
    assert_eq!(as_carol.conversation_attempt().await, 403, "and so does its end");
    assert_eq!(owner.delete(&path).await.problem(404), "not_found");
    let raised = as_carol.post(assignments, json!({ "user_id": carol, "role": "owner" })).await;
    assert_eq!(raised.problem(403), "denied");
}

#[tokio::test]
async fn a_revoked_key_is_refused_within_a_second_and_its_value_was_shown_once() {
    let server = Server::start().await;
    let admin = server.api();
    let made = admin.post("/api/v2/api-keys", json!({ "name": "ci" })).await.expect(201);
    let key = made["key"].as_str().unwrap();
    let ci = admin.with_key(key);
    ci.get("/api/v2/me").await.expect(200);

    let listed = admin.get("/api/v2/api-keys").await.expect(200);
    assert!(!listed.to_string().contains(&key[10..]), "the list shows no key");
    let shown = listed["items"].as_array().unwrap().iter().find(|listed| listed["id"] == made["id"]);
    assert_eq!(shown.unwrap()["prefix"], key["soma_".len()..][..8]);

    let path = format!("/api/v2/api-keys/{}", made["id"].as_str().unwrap());
    admin.delete(&path).await.expect(204);
    refused_soon(&ci).await;
    assert_eq!(admin.delete(&path).await.problem(404), "not_found");
}

#[tokio::test]
async fn a_key_makes_no_key_that_outlives_it() {
    let server = Server::start().await;
    let made = server.api().post("/api/v2/api-keys", json!({ "lifetime_s": 60 })).await.expect(201);
    let short = server.api().with_key(made["key"].as_str().unwrap());

    let heir = short.post("/api/v2/api-keys", json!({ "name": "heir" })).await.expect(201);

    assert_eq!(heir["expires_at"], made["expires_at"]);
}

#[tokio::test]
async fn a_key_past_its_time_is_refused() {
    let server = Server::start().await;
    let admin = server.api();
    let made = admin.post("/api/v2/api-keys", json!({ "lifetime_s": 1 })).await.expect(201);
    let short = admin.with_key(made["key"].as_str().unwrap());
    short.get("/api/v2/me").await.expect(200);
    let since = Instant::now();
    until("the key ends", || async { (short.get("/api/v2/me").await.status == 401).then_some(()) }).await;
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_key_revoked_by_another_process_is_refused_within_a_second() {
    let server = Server::start().await;
    let admin = server.api();
    let made = admin.post("/api/v2/api-keys", json!({})).await.expect(201);
    let key = admin.with_key(made["key"].as_str().unwrap());
    key.get("/api/v2/me").await.expect(200);
    let id = made["id"].as_str().unwrap().to_owned();
    let database = server.database().await;
    database
        .write(move |tx| {
            Box::pin(async move {
                use platform::database::Sql;
                let sql = "UPDATE api_keys SET revoked_at = 1 WHERE id = $1";
                tx.run(sql, platform::params![id]).await
            })
        })
        .await
        .map(|changed: u64| assert_eq!(changed, 1))
        .map_err(|error: platform::database::Error| error.to_string())
        .unwrap();
    refused_soon(&key).await;
}

#[tokio::test]
async fn a_credential_is_taken_only_as_a_bearer_key_in_its_header() {
    let server = Server::start().await;
    let admin = server.api();
    let made = admin.post("/api/v2/api-keys", json!({})).await.expect(201);
    let key = made["key"].as_str().unwrap();
    let path = "/api/v2/me";
    let bare = admin.without_key();
    let header = |value: String| bare.request(Method::GET, path).header("authorization", value);
    assert_eq!(Api::reply(header(format!("Bearer {key}"))).await.status, 200);
    for value in [
        key.to_owned(),
        format!("Basic {key}"),
        format!("Bearer {}", &key[..key.len() - 1]),
        format!("Bearer {key}x"),
        format!("Bearer {}", key.to_uppercase()),
        format!("Bearer soma_{}", "x".repeat(10_000)),
        "Bearer ".to_owned(),
    ] {
        assert_eq!(Api::reply(header(value.clone())).await.status, 401, "{value:.60}");
    }
    for query in ["token", "api_key", "access_token"] {
        assert_eq!(bare.get(&format!("{path}?{query}={key}")).await.status, 401, "{query}");
    }
    let cookie = bare.request(Method::GET, path).header("cookie", format!("access_token={key}"));
    assert_eq!(Api::reply(cookie).await.status, 401);
}

#[tokio::test]
async fn a_change_is_in_the_audit_with_who_what_and_why() {
    let server = Server::start().await;
    let admin = server.api();
    let me = admin.get("/api/v2/me").await.expect(200);
    let conversation = admin.conversation().await;
    admin.patch("/api/v2/agents/default", json!({ "name": "Renamed" })).await.expect(200);

    let audit = admin.get("/api/v2/audit").await.expect(200);
    let entries: Vec<Value> = audit["items"].as_array().unwrap().clone();
    let brief: Vec<(&Value, &Value, &Value)> =
        entries.iter().map(|entry| (&entry["action"], &entry["effect"], &entry["actor_id"])).collect();
    let (allow, actor) = (json!("allow"), &me["user_id"]);
    assert_eq!(
        brief,
        [(&json!("agent:update"), &allow, actor), (&json!("conversation:create"), &allow, actor)]
    );
    assert_eq!(entries[1]["details"]["id"], conversation);
    assert!(entries[1]["reason"].as_str().unwrap().starts_with("role "));
}

impl Api {
    /// The status of trying to begin a conversation.
    async fn conversation_attempt(&self) -> u16 {
        self.post("/api/v2/conversations", json!({ "agent": "default" })).await.status
    }
}
