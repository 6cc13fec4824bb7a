//! Grants, a tenant's own roles, and what is told about rights.

use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Api, Server, until};

const GRANTS: &str = "/api/v2/permissions/grants";
const ROLES: &str = "/api/v2/permissions/roles";

async fn grant(api: &Api, body: Value) -> String {
    api.post(GRANTS, body).await.expect(201)["id"].as_str().unwrap().to_owned()
}

async fn agent(api: &Api, slug: &str) -> String {
    let made = api.post("/api/v2/agents", json!({ "slug": slug, "name": slug })).await.expect(201);
    made["id"].as_str().unwrap().to_owned()
}

async fn begins(api: &Api, agent: &str) -> u16 {
    api.post("/api/v2/conversations", json!({ "agent": agent })).await.status
}

#[tokio::test]
async fn an_operator_of_one_agent_works_with_that_agent_and_no_other() {
    let server = Server::start().await;
    let admin = server.api();
    let (ours, other) = (agent(&admin, "ours").await, agent(&admin, "other").await);
    let user = server.user("op@example.org", &[]).await;
    let operator = server.member("op@example.org", &[]).await;
    let role = json!({ "user_id": user, "role": "agent_operator" });

    let refused = admin.post("/api/v2/permissions/assignments", role.clone()).await;
    assert_eq!(refused.problem(422), "invalid");
    assert!(refused.body["detail"].as_str().unwrap().contains("about one agent"), "{}", refused.body);
    assert_eq!(admin.post(GRANTS, role).await.problem(422), "invalid", "a grant of it names its agent");
    let id = grant(
        &admin,
        json!({ "user_id": user, "role": "agent_operator", "scope": "agent", "agent_id": ours }),
    )
    .await;

    assert_eq!((begins(&operator, "ours").await, begins(&operator, "other").await), (201, 403));
    assert_eq!(operator.get(&format!("/api/v2/agents/{ours}")).await.status, 200);
    assert_eq!(operator.get("/api/v2/agents/ours").await.status, 200);
    assert_eq!(operator.get(&format!("/api/v2/agents/{other}")).await.status, 403);
    let made = operator.post("/api/v2/conversations", json!({ "agent": "ours" })).await.expect(201);
    let conversation = made["id"].as_str().unwrap();
    let turn = operator.turn(conversation, "[[say hello]]").await;
    assert_eq!(turn.answer(), "hello");
    let foreign = admin.conversation_with("other").await;
    assert_eq!(operator.get(&format!("/api/v2/conversations/{foreign}")).await.status, 403);

    admin.delete(&format!("{GRANTS}/{id}")).await.expect(204);
    assert_eq!(begins(&operator, "ours").await, 403, "and its end counts at the next request");
}

#[tokio::test]
async fn a_grant_counts_until_its_time_is_over() {
    let server = Server::start().await;
    let admin = server.api();
    let user = server.user("brief@example.org", &[]).await;
    let brief = server.member("brief@example.org", &[]).await;
    let past = json!({ "user_id": user, "role": "user", "expires_at": "2020-01-01T00:00:00Z" });
    assert_eq!(admin.post(GRANTS, past).await.problem(422), "invalid");
    let end = platform::durable::unix_ms() + 1500;
    let ends = platform::http::Timestamp(end);
    grant(&admin, json!({ "user_id": user, "role": "user", "expires_at": ends })).await;
    assert_eq!(begins(&brief, "default").await, 201);

    until("the grant ends", || async { (begins(&brief, "default").await == 403).then_some(()) }).await;

    let late = platform::durable::unix_ms() - end;
    assert!((0..1000).contains(&late), "{late} ms");
}

#[tokio::test]
async fn a_grant_made_by_another_process_counts_within_a_second() {
    let server = Server::start().await;
    let user = server.user("far@example.org", &[]).await;
    let far = server.member("far@example.org", &[]).await;
    assert_eq!(begins(&far, "default").await, 403);
    let database = server.database().await;
    let tenant = server.default_tenant().await;
    let since = Instant::now();
    let added: Result<u64, platform::database::Error> = database
        .write(move |tx| {
            Box::pin(async move {
                use platform::database::Sql;
                let sql = "INSERT INTO grants (id, scope, user_id, role, effect, created_by, created_at)
                           VALUES ($1, $2, $3, 'user', 'allow', $3, 0)";
                tx.run(sql, platform::params![contracts::GrantId::new(), tenant, user]).await
            })
        })
        .await;
    assert_eq!(added.unwrap(), 1);
    until("the grant counts", || async { (begins(&far, "default").await == 201).then_some(()) }).await;
    assert!(since.elapsed().as_millis() < 1000, "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_denial_outranks_a_role_and_whoever_it_hits_does_not_lift_it() {
    let server = Server::start().await;
    let admin = server.api();
    let user = server.user("second@example.org", &["tenant_admin"]).await;
    let second = server.member("second@example.org", &["tenant_admin"]).await;
    assert_eq!(begins(&second, "default").await, 201);
    let id =
        grant(&admin, json!({ "user_id": user, "permission": "conversation:*", "effect": "deny" })).await;

    let refused = second.post("/api/v2/conversations", json!({ "agent": "default" })).await;
    assert_eq!(refused.problem(403), "denied");
    assert_eq!(refused.body["detail"], format!("denied_by_grant {id}"));
    assert_eq!(second.delete(&format!("{GRANTS}/{id}")).await.problem(422), "invalid");
    assert_eq!(begins(&second, "default").await, 403);
    admin.delete(&format!("{GRANTS}/{id}")).await.expect(204);
    assert_eq!(begins(&second, "default").await, 201);
}

#[tokio::test]
async fn a_role_of_the_tenants_own_gives_what_it_says_as_long_as_it_says_so() {
    let server = Server::start().await;
    let admin = server.api();
    let user = server.user("rev@example.org", &[]).await;
    let reviewer = server.member("rev@example.org", &[]).await;
    let role = json!({ "name": "reviewer", "description": "Reads", "permissions": ["conversation:read", "audit:*"] });
    for name in ["viewer", "owner", "saas_super_admin", "Reviewer", ""] {
        let mut taken = role.clone();
        taken["name"] = json!(name);
        assert!(matches!(admin.post(ROLES, taken).await.status, 409 | 422), "{name}");
    }
    let mut bad = role.clone();
    bad["permissions"] = json!(["conversation:re*"]);
    assert_eq!(admin.post(ROLES, bad).await.problem(422), "invalid");
    admin.post(ROLES, role.clone()).await.expect(201);
    assert_eq!(admin.post(ROLES, role).await.problem(409), "role_taken");
    let id = grant(&admin, json!({ "user_id": user, "role": "reviewer" })).await;

    reviewer.get("/api/v2/conversations").await.expect(200);
    reviewer.get("/api/v2/audit").await.expect(200);
    let path = format!("{ROLES}/reviewer");
    admin.patch(&path, json!({ "permissions": ["audit:*"] })).await.expect(200);
    assert_eq!(reviewer.get("/api/v2/conversations").await.problem(403), "denied");
    reviewer.get("/api/v2/audit").await.expect(200);
    let catalogue = admin.get("/api/v2/permissions/catalogue").await.expect(200);
    assert_eq!(catalogue["custom_roles"][0]["permissions"], json!(["audit:*"]));

    admin.delete(&path).await.expect(204);
    assert_eq!(reviewer.get("/api/v2/audit").await.problem(403), "denied");
    assert_eq!(admin.delete(&format!("{GRANTS}/{id}")).await.problem(404), "not_found");
}

#[tokio::test]
async fn nobody_gives_what_they_do_not_hold() {
    let server = Server::start().await;
    let owner = server.member("owner@example.org", &["tenant_admin"]).await;
    let user = server.user("kim@example.org", &[]).await;
    let beyond = |body: Value| {
        let owner = owner.clone();
        async move { owner.post(GRANTS, body).await.problem(422).to_owned() }
    };
    for body in [
        json!({ "user_id": user, "permission": "audit:export" }),
        json!({ "user_id": user, "permission": "*" }),
        json!({ "user_id": user, "permission": "audit:export", "effect": "deny" }),
        json!({ "user_id": user, "role": "security_auditor" }),
    ] {
        assert_eq!(beyond(body.clone()).await, "invalid", "{body}");
    }
    let wide = json!({ "name": "wide", "permissions": ["billing:*"] });
    assert_eq!(owner.post(ROLES, wide).await.problem(422), "invalid");
    let platform = json!({ "user_id": user, "permission": "agent:read", "scope": "platform" });
    assert_eq!(owner.post(GRANTS, platform).await.problem(403), "denied");
    let auditor = json!({ "user_id": user, "role": "security_auditor" });
    let refused = owner.post("/api/v2/permissions/assignments", auditor.clone()).await;
    assert_eq!(refused.body["errors"][0]["field"], "role");
    server.api().post("/api/v2/permissions/assignments", auditor).await.expect(201);
    grant(&owner, json!({ "user_id": user, "role": "member" })).await;
}

#[tokio::test]
async fn the_last_administrator_stays() {
    let server = Server::start().await;
    let admin = server.api();
    let me = admin.get("/api/v2/me").await.expect(200)["user_id"].as_str().unwrap().to_owned();
    let path = |user: &str, role: &str| format!("/api/v2/permissions/assignments/{user}/{role}");
    for role in ["tenant_admin", "owner", "saas_super_admin"] {
        assert_eq!(admin.delete(&path(&me, role)).await.problem(409), "last_owner", "{role}");
    }
    let lock = json!({ "user_id": me, "permission": "user:*", "effect": "deny" });
    assert_eq!(admin.post(GRANTS, lock).await.problem(409), "last_owner");
    let second = server.user("second@example.org", &["tenant_admin"]).await.to_string();
    admin.delete(&path(&me, "tenant_admin")).await.expect(204);
    assert_eq!(admin.delete(&path(&second, "tenant_admin")).await.problem(409), "last_owner");
}

#[tokio::test]
async fn what_somebody_may_do_is_told_with_its_reason() {
    let server = Server::start().await;
    let admin = server.api();
    let ours = agent(&admin, "ours").await;
    let user = server.user("lee@example.org", &["viewer"]).await;
    let id = grant(
        &admin,
        json!({ "user_id": user, "role": "agent_operator", "scope": "agent", "agent_id": ours }),
    )
    .await;
    let ask = |body: Value| {
        let admin = admin.clone();
        async move { admin.post("/api/v2/permissions/check", body).await.expect(200) }
    };
    let told = ask(json!({ "user_id": user, "action": "agent:read" })).await;
    let revision = told["revision"].as_str().unwrap();
    assert_eq!(told["via"], format!("allowed by role viewer, policy revision {revision}"));
    let stop =
        json!({ "user_id": user, "action": "agent:stop", "resource": { "type": "agent", "id": "ours" } });
    let told = ask(stop).await;
    let via = format!("allowed by role agent_operator through grant {id}, policy revision {revision}");
    assert_eq!((&told["effect"], &told["via"]), (&json!("allow"), &json!(via)));
    let told = ask(json!({ "user_id": user, "action": "agent:stop" })).await;
    assert_eq!((&told["effect"], &told["reason"]), (&json!("deny"), &json!("no_role_allows")));

    let path = format!("/api/v2/permissions/effective?user_id={user}&agent_id={ours}");
    let effective = admin.get(&path).await.expect(200);
    let items = effective["items"].as_array().unwrap();
    let item = |action: &str| items.iter().find(|item| item["action"] == action).unwrap();
    assert_eq!(
        (&item("agent:stop")["role"], &item("agent:stop")["grant_id"]),
        (&json!("agent_operator"), &json!(id))
    );
    assert_eq!(item("tool:execute")["effect"], "allow");
    assert_eq!(
        (&item("agent:read")["role"], &item("agent:read")["grant_id"]),
        (&json!("viewer"), &Value::Null)
    );
    assert_eq!(item("user:delete")["effect"], "deny");

    let matrix = admin.get("/api/v2/permissions/matrix").await.expect(200);
    let place =
        |list: &str, name: &str| matrix[list].as_array().unwrap().iter().position(|is| is == name).unwrap();
    let cell = |role: &str, action: &str| &matrix["cells"][place("roles", role)][place("actions", action)];
    assert_eq!((cell("viewer", "agent:read"), cell("viewer", "agent:create")), (&json!(true), &json!(false)));
}

#[tokio::test]
async fn a_dry_run_tells_who_would_gain_and_lose_what_and_changes_nothing() {
    let server = Server::start().await;
    let admin = server.api();
    let user = server.user("jo@example.org", &["viewer"]).await;
    let jo = server.member("jo@example.org", &["viewer"]).await;
    let role = json!({ "name": "auditing", "permissions": ["audit:read", "audit:export"] });
    admin.post(ROLES, role).await.expect(201);
    grant(&admin, json!({ "user_id": user, "role": "auditing" })).await;
    let dry = |change: Value| {
        let admin = admin.clone();
        async move { admin.post("/api/v2/permissions/dry-run", json!({ "change": change })).await.expect(200) }
    };
    let of = |list: &Value| {
        let items = list.as_array().unwrap().iter();
        items.map(|item| item["action"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };

    let told = dry(json!({ "kind": "role", "name": "auditing", "permissions": ["audit:read", "agent:read", "user:read"] })).await;
    assert_eq!(
        (of(&told["gained"]), of(&told["lost"])),
        (vec!["user:read".into()], vec!["audit:export".into()])
    );
    assert_eq!((&told["users"], &told["complete"]), (&json!(1), &json!(true)));
    let told = dry(json!({ "kind": "delete_role", "name": "auditing" })).await;
    assert_eq!(of(&told["lost"]), ["audit:export", "audit:read"]);
    let told = dry(json!({ "kind": "revoke", "user_id": user, "role": "viewer" })).await;
    assert!(of(&told["lost"]).contains(&"conversation:read".to_owned()), "{told}");
    let denial = json!({ "kind": "grant", "user_id": user, "permission": "audit:*", "effect": "deny" });
    assert_eq!(of(&dry(denial).await["lost"]), ["audit:export", "audit:read"]);

    jo.get("/api/v2/audit").await.expect(200);
    assert_eq!(jo.call(Method::GET, "/api/v2/audit/export?format=csv", None).await.status, 200);
}
