//! Tenants from the outside: made, closed, opened; and settings, which are inherited.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Api, PASSWORD, PATIENCE, Server, known_everywhere, text, until};

const TENANTS: &str = "/api/v2/tenants";

async fn tenant_of(api: &Api) -> String {
    api.get("/api/v2/me").await.expect(200)["tenant_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_platform_administrator_makes_and_renames_tenants_and_a_tenants_own_sees_but_its_own() {
    let server = Server::start().await;
    let (admin, stranger) = (server.api(), server.stranger().await);
    let made = admin.post(TENANTS, json!({ "slug": "acme", "name": "Acme" })).await.expect(201);
    let path = format!("{TENANTS}/{}", made["id"].as_str().unwrap());
    assert_eq!((&made["status"], &made["status_reason"]), (&json!("active"), &Value::Null));
    let again = admin.post(TENANTS, json!({ "slug": "acme", "name": "Other" })).await;
    assert_eq!(again.problem(409), "slug_taken");
    assert_eq!(admin.post(TENANTS, json!({ "slug": "A B", "name": "x" })).await.problem(422), "invalid");
    let slug = admin.patch(&path, json!({ "slug": "other", "name": "x" })).await;
    assert_eq!(slug.problem(422), "invalid", "a slug stays");
    let renamed = admin.patch(&path, json!({ "name": "Acme Ltd" })).await.expect(200);
    assert_eq!(admin.get(&path).await.expect(200), renamed);
    let listed = admin.get(TENANTS).await.expect(200);
    let slugs: Vec<&Value> =
        listed["items"].as_array().unwrap().iter().map(|tenant| &tenant["slug"]).collect();
    assert_eq!(slugs, ["default", "elsewhere", "acme"]);

    let absent = format!("{TENANTS}/{}", crate::walk::NOBODY);
    for (method, body) in [(Method::GET, None), (Method::PATCH, Some(json!({ "name": "Mine" })))] {
        let found = stranger.call(method.clone(), &path, body.as_ref()).await;
        let missing = stranger.call(method, &absent, body.as_ref()).await;
        assert_eq!((found.status, &found.body), (missing.status, &missing.body));
        assert_eq!(found.problem(403), "denied");
    }
    assert_eq!(stranger.get(TENANTS).await.problem(403), "denied");
    assert_eq!(stranger.post(TENANTS, json!({ "slug": "x", "name": "x" })).await.problem(403), "denied");
    let own = stranger.patch("/api/v2/tenant", json!({ "name": "Ours" })).await.expect(200);
    assert_eq!(own["name"], "Ours");
}

#[tokio::test]
async fn a_suspended_tenants_runs_stop_and_its_members_are_refused_until_it_is_resumed() {
    let server = Server::start().await;
    let (admin, stranger) = (server.api(), server.stranger().await);
    let path = format!("{TENANTS}/{}", tenant_of(&stranger).await);
    let conversation = stranger.conversation().await;
    let run = stranger.say(&conversation, "[[hold one two three]]").await;
    let waiting = stranger.say(&conversation, "[[say later]]").await;
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 1).await;
    let own = server.api().conversation().await;

    let suspend = json!({ "reason": "unpaid" });
    let refused = stranger.post(&format!("{path}/suspend"), suspend.clone()).await;
    assert_eq!(refused.problem(403), "denied");
    let closed = admin.post(&format!("{path}/suspend"), suspend).await.expect(200);
    assert_eq!((&closed["status"], &closed["status_reason"]), (&json!("suspended"), &json!("unpaid")));

    for path in ["/api/v2/me", "/api/v2/agents", "/api/v2/conversations"] {
        assert_eq!(stranger.get(path).await.problem(403), "tenant_suspended", "{path}");
    }
    let sent = stranger.send(&conversation, json!({ "content": "hello" })).await;
    assert_eq!(sent.problem(403), "tenant_suspended");
    assert_eq!(admin.turn(&own, "[[say hi]]").await.answer(), "hi", "other tenants go on");

    admin.post(&format!("{path}/resume"), json!({})).await.expect(200);
    for run in [run, waiting] {
        let ended = until("the run ends", || async {
            let run = stranger.run(&run).await;
            run["finished_at"].is_string().then_some(run)
        });
        assert_eq!(ended.await["state"], "cancelled");
    }
    assert_eq!(stranger.turn(&conversation, "[[say back]]").await.answer(), "back");
    let audit = admin.get("/api/v2/audit?action=tenant:suspend").await.expect(200);
    assert_eq!(audit["items"][1]["details"]["reason"], "unpaid");
}

#[tokio::test]
async fn a_platform_administrator_is_not_locked_out_of_a_suspended_tenant() {
    let server = Server::start().await;
    let admin = server.api();
    let member = server.member("member@example.org", &["user"]).await;
    let path = format!("{TENANTS}/{}", tenant_of(&admin).await);
    admin.post(&format!("{path}/suspend"), json!({ "reason": "closing", "churned": true })).await.expect(200);
    assert_eq!(member.get("/api/v2/agents").await.problem(403), "tenant_suspended");
    admin.get("/api/v2/agents").await.expect(200);
    admin.post(&format!("{path}/resume"), json!({})).await.expect(200);
    member.get("/api/v2/agents").await.expect(200);
}

fn item(settings: &Value, key: &str) -> (Value, String) {
    let items = settings["items"].as_array().unwrap();
    let item = items.iter().find(|item| item["key"] == key).unwrap();
    (item["value"].clone(), item["from"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_setting_is_inherited_and_says_where_it_comes_from() {
    let server = Server::start().await;
    let admin = server.api();
    let member = server.member("member@example.org", &["user"]).await;
    let put = |api: &Api, scope: &str, key: &str, value: Value| {
        let (api, path) = (api.clone(), format!("/api/v2/settings/{scope}/{key}"));
        async move { api.put(&path, json!({ "value": value })).await }
    };
    let theme = |api: &Api| {
        let api = api.clone();
        async move { item(&api.get("/api/v2/settings").await.expect(200), "ui_theme") }
    };
    assert_eq!(theme(&member).await, (json!("system"), "default".into()));
    put(&admin, "platform", "ui_theme", json!("dark")).await.expect(204);
    assert_eq!(theme(&member).await, (json!("dark"), "platform".into()));
    put(&member, "user", "ui_theme", json!("light")).await.expect(204);
    assert_eq!(theme(&member).await, (json!("light"), "user".into()));
    assert_eq!(theme(&admin).await, (json!("dark"), "platform".into()));
    member.delete("/api/v2/settings/user/ui_theme").await.expect(204);
    assert_eq!(theme(&member).await, (json!("dark"), "platform".into()));

    for scope in ["platform", "tenant", "agent:default"] {
        let refused = put(&member, scope, "ui_theme", json!("light")).await;
        assert_eq!(refused.problem(403), "denied", "{scope}");
    }
    assert_eq!(put(&admin, "tenant", "ui_theme", json!("pink")).await.problem(422), "invalid");
    assert_eq!(put(&admin, "agent:default", "ui_theme", json!("dark")).await.problem(422), "invalid");
    assert_eq!(put(&admin, "tenant", "no_such", json!(1)).await.problem(404), "not_found");
    assert_eq!(put(&admin, "agent:none", "approval_expiry_hours", json!(1)).await.problem(404), "not_found");
    assert_eq!(put(&admin, "galaxy", "ui_theme", json!("dark")).await.problem(404), "not_found");
}

#[tokio::test]
async fn a_tool_that_a_tenant_wants_approved_waits_whatever_its_agent_says() {
    let server = Server::start().await;
    let admin = server.api();
    let value = json!({ "value": ["timestamp"] });
    admin.put("/api/v2/settings/tenant/approval_required_tools", value).await.expect(204);
    admin
        .put("/api/v2/settings/agent:default/approval_required_tools", json!({ "value": [] }))
        .await
        .expect(204);
    let settings = admin.get("/api/v2/settings?agent=default").await.expect(200);
    assert_eq!(item(&settings, "approval_required_tools"), (json!(["timestamp"]), "tenant".into()));
    let set = |key: &str| {
        let items = settings["items"].as_array().unwrap();
        items.iter().find(|item| item["key"] == key).unwrap()["set"].clone()
    };
    assert_eq!(
        set("approval_required_tools"),
        json!([{ "level": "tenant", "value": ["timestamp"] }, { "level": "agent", "value": [] }])
    );
    assert_eq!(set("ui_theme"), json!([]));
    admin.put("/api/v2/settings/tenant/approval_expiry_hours", json!({ "value": 1 })).await.expect(204);

    let conversation = admin.conversation().await;
    let run = admin.say(&conversation, "[[tool timestamp]]").await;
    let approval = until("an approval is asked for", || async {
        let page = admin.get("/api/v2/approvals?state=pending").await.expect(200);
        page["items"].as_array().unwrap().first().cloned()
    })
    .await;

    assert_eq!((&approval["run_id"], &approval["tool"]), (&json!(run), &json!("timestamp")));
    let time = |field: &str| {
        let time: platform::http::Timestamp = serde_json::from_value(approval[field].clone()).unwrap();
        time.0
    };
    assert_eq!(time("expires_at") - time("requested_at"), 3_600_000);
}

#[tokio::test]
async fn an_operator_makes_lists_closes_and_opens_tenants_while_the_server_runs() {
    let server = Server::start().await;
    let soma = |arguments: &[&str]| {
        let output = server.run(&[&["tenant"], arguments].concat());
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let (made, id, said) =
        soma(&["create", "acme", "--name", "Acme", "--owner", "eve@example.org", "--pending"]);
    assert!(made, "{said}");
    let listed = soma(&["list"]).1;
    assert_eq!(listed.lines().last().unwrap(), format!("{}\tacme\tpending\tAcme", id.trim()));
    let again = soma(&["create", "acme", "--owner", "eve@example.org"]);
    assert!(!again.0 && again.2.contains("another tenant has this slug"), "{again:?}");
    let bad = soma(&["create", "A B", "--owner", "eve@example.org"]);
    assert!(!bad.0 && bad.2.contains("slug: expected 1 to 64"), "{bad:?}");
    let absent = soma(&["resume", "nowhere"]);
    assert!(!absent.0 && absent.2.contains("`soma tenant list` shows them"), "{absent:?}");

    let api = server.api().without_key();
    let redeem = json!({ "token": server.link("eve@example.org"), "password": PASSWORD });
    let eve = api.in_session(&api.post("/api/v2/auth/links/redeem", redeem).await);
    assert_eq!(eve.get("/api/v2/me").await.problem(403), "tenant_suspended");
    assert!(soma(&["resume", "acme"]).0);
    until("the server has heard of it", || async {
        (eve.get("/api/v2/me").await.status == 200).then_some(())
    })
    .await;
    known_everywhere().await;
    let conversation = eve.conversation().await;
    let run = eve.say(&conversation, "[[hold one two three]]").await;
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 1).await;

    let nothing = soma(&["suspend", "acme", "--reason", " "]);
    assert!(!nothing.0 && nothing.2.contains("reason: expected 1 to 500 characters"), "{nothing:?}");
    let closed = soma(&["suspend", "acme", "--reason", "unpaid"]);
    assert!(closed.0 && closed.2.contains("runs that are stopped: 1"), "{closed:?}");
    until("its members are refused", || async { (eve.get("/api/v2/me").await.status == 403).then_some(()) })
        .await;
    known_everywhere().await;
    assert!(soma(&["resume", "acme"]).0);
    let ended = until("the run ends", || async {
        let reply = eve.get(&format!("/api/v2/runs/{run}")).await;
        reply.body["finished_at"].is_string().then_some(reply.body)
    });
    assert_eq!(ended.await["state"], "cancelled");

    let audit = eve.get("/api/v2/audit?action=tenant:suspend").await.expect(200);
    let entries = audit["items"].as_array().unwrap();
    assert_eq!(entries.len(), 3);
    assert!(entries.iter().all(|entry| entry["actor_id"] == "operator" && entry["reason"] == "operator"));
    assert_eq!(entries[1]["details"], json!({ "status": "suspended", "reason": "unpaid", "runs": 1 }));
    let verified = eve.get("/api/v2/audit/verify").await.expect(200);
    assert_eq!(verified["ok"], true, "{verified}");
}
