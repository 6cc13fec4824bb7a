//! What nobody gets by way of somebody else: another's account, an agent that they are denied, rights that have ended.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Api, PASSWORD, Reply, Server};

const OWNER: &[&str] = &["tenant_admin", "billing_admin", "security_auditor"];
const REDEEM: &str = "/api/v2/auth/links/redeem";

async fn id_of(api: &Api) -> String {
    api.get("/api/v2/me").await.expect(200)["user_id"].as_str().unwrap().to_owned()
}

async fn grant(api: &Api, body: Value) {
    api.post("/api/v2/permissions/grants", body).await.expect(201);
}

async fn redeem(server: &Server, link: &Value, password: &str) -> Reply {
    let token = link.as_str().expect("a link").split_once("/link#").expect("a token").1;
    server.api().without_key().post(REDEEM, json!({ "token": token, "password": password })).await
}

#[tokio::test]
async fn who_helps_others_with_their_passwords_becomes_none_that_may_do_more() {
    let server = Server::start().await;
    let owner = server.person("owner@example.org", OWNER).await;
    let helper = server.person("helper@example.org", &["tenant_admin"]).await;
    let (owner_id, helper_id) = (id_of(&owner).await, id_of(&helper).await);
    let user = server.user("user@example.org", &["user"]).await;
    for (method, path) in [(Method::POST, "reset-link"), (Method::DELETE, "totp")] {
        let path = format!("/api/v2/users/{owner_id}/{path}");
        assert_eq!(helper.call(method, &path, None).await.problem(403), "denied", "{path}");
    }
    let link =
        async |api: &Api, id: &str| api.post(&format!("/api/v2/users/{id}/reset-link"), json!({})).await;
    link(&helper, &user.to_string()).await.expect(200);
    link(&owner, &helper_id).await.expect(200);
    // Nor does who is denied something walk out of it through a colleague.
    let denial = json!({ "user_id": helper_id, "permission": "audit:read", "effect": "deny" });
    grant(&server.api(), denial).await;
    let colleague = server.user("colleague@example.org", &["tenant_admin"]).await;
    assert_eq!(link(&helper, &colleague.to_string()).await.problem(403), "denied");
}

#[tokio::test]
async fn who_acts_as_somebody_gets_no_more_than_they_have() {
    let server = Server::start().await;
    let support = server.person("support@example.org", &["user"]).await;
    let owner = server.user("owner@example.org", OWNER).await;
    let user = server.user("user@example.org", &["user"]).await;
    let right = json!({ "user_id": id_of(&support).await, "permission": "platform:impersonate", "scope": "platform" });
    grant(&server.api(), right).await;
    let act = async |id: &str| {
        support.post(&format!("/api/v2/users/{id}/impersonate"), json!({ "reason": "ticket 7" })).await
    };
    assert_eq!(act(&owner.to_string()).await.problem(403), "more_than_own");
    assert_eq!(act(&id_of(&server.api()).await).await.problem(403), "more_than_own");
    act(&user.to_string()).await.expect(200);
}

#[tokio::test]
async fn a_link_does_not_outlive_the_rights_of_whoever_made_it() {
    let server = Server::start().await;
    let admin = server.api();
    let invite = async |api: &Api, email: &str| {
        let body = json!({ "email": email, "roles": ["admin"] });
        api.post("/api/v2/invitations", body).await.expect(201)["link"].clone()
    };
    let lesser = server.person("lesser@example.org", &["tenant_admin"]).await;
    let leaver = server.person("leaver@example.org", &["tenant_admin"]).await;
    let (lesser_id, leaver_id) = (id_of(&lesser).await, id_of(&leaver).await);
    let of_lesser = invite(&lesser, "one@example.org").await;
    let of_leaver = invite(&leaver, "two@example.org").await;
    let kept = invite(&admin, "three@example.org").await;
    admin.delete(&format!("/api/v2/permissions/assignments/{lesser_id}/tenant_admin")).await.expect(204);
    admin.delete(&format!("/api/v2/users/{leaver_id}")).await.expect(204);
    for link in [of_lesser, of_leaver] {
        assert_eq!(redeem(&server, &link, PASSWORD).await.problem(410), "link_ended");
    }
    redeem(&server, &kept, PASSWORD).await.expect(200);
}

#[tokio::test]
async fn an_address_that_somebody_invited_is_not_thereby_theirs() {
    let server = Server::start().await;
    let admin = server.api();
    let invited = admin.post("/api/v2/invitations", json!({ "email": "ceo@example.org" })).await.expect(201);
    redeem(&server, &invited["link"], "a password of the inviter").await.expect(200);
    let new = json!({ "slug": "board", "name": "Board", "owner_email": "ceo@example.org" });
    let refused = admin.post("/api/v2/tenants", new.clone()).await;
    assert_eq!(refused.problem(422), "invalid");
    assert!(refused.body["detail"].as_str().unwrap().contains("soma admin link"), "{}", refused.body);

    // The operator knows whom they hand a link to.
    let link = server.link("ceo@example.org");
    let body = json!({ "token": link, "password": PASSWORD });
    admin.without_key().post(REDEEM, body).await.expect(200);
    admin.post("/api/v2/tenants", new).await.expect(201);
}

#[tokio::test]
async fn who_is_denied_an_agent_meets_it_nowhere() {
    let server = Server::start().await;
    let admin = server.api();
    for slug in ["open", "hidden"] {
        let agent =
            json!({ "slug": slug, "name": slug, "tools": ["file_write"], "tools_ask": ["file_write"] });
        admin.post("/api/v2/agents", agent).await.expect(201);
    }
    let hidden = admin.get("/api/v2/agents/hidden").await.expect(200)["id"].clone();
    for slug in ["open", "hidden"] {
        let conversation = admin.conversation_with(slug).await;
        let text =
            format!(r#"pelicans of {slug} [[tool file_write {{"path": "a", "content": "b"}}]] [[say done]]"#);
        let run = admin.say(&conversation, &text).await;
        admin.stream(&run, 0).await.read_to("approval.requested").await;
    }
    let user = server.user("outer@example.org", &["tenant_admin"]).await;
    let outer = server.member("outer@example.org", &["tenant_admin"]).await;
    let approvals = outer.get("/api/v2/approvals").await.expect(200);
    let of_hidden = approvals["items"].as_array().unwrap().iter().find(|item| item["agent_id"] == hidden);
    let of_hidden = of_hidden.expect("an approval").clone();
    for permission in ["conversation:*", "agent:read", "tool:approve"] {
        let denial = json!({ "user_id": user, "permission": permission, "effect": "deny", "scope": "agent",
            "agent_id": hidden });
        grant(&admin, denial).await;
    }

    let count = async |path: &str| {
        let page = outer.get(path).await.expect(200);
        assert!(!page.to_string().contains("hidden"), "{page}");
        page["items"].as_array().unwrap().len()
    };
    assert_eq!(count("/api/v2/conversations").await, 1);
    // What was said, and the title that was made of it.
    assert_eq!(count("/api/v2/conversations/search?q=pelicans").await, 2);
    assert_eq!(count("/api/v2/agents").await, 2, "`default` and `open`");
    assert_eq!(count("/api/v2/approvals").await, 1);
    let path = format!("/api/v2/approvals/{}", of_hidden["id"].as_str().unwrap());
    assert_eq!(outer.get(&path).await.problem(403), "denied");
    let verdict = json!({ "decision": "approve", "arguments_hash": of_hidden["arguments_hash"] });
    assert_eq!(outer.post(&format!("{path}/decide"), verdict).await.problem(403), "denied");

    let ask =
        |agent: &str| json!({ "model": format!("agent/{agent}"), "input": "[[say hello]]", "store": true });
    assert_eq!(outer.post("/v1/responses", ask("hidden")).await.problem(403), "denied");
    let first = outer.post("/v1/responses", ask("open")).await.expect(200);
    let mut next = ask("hidden");
    next["previous_response_id"] = first["id"].clone();
    assert_eq!(outer.post("/v1/responses", next.clone()).await.problem(403), "denied");
    next["model"] = json!("agent/open");
    outer.post("/v1/responses", next).await.expect(200);
}
