//! People and programs of a tenant: inviting, removing, acting as somebody, service accounts and their keys.

use std::time::Duration;

use serde_json::{Value, json};
use testing::MailServer;

use crate::harness::{ADMIN, Api, PASSWORD, PATIENCE, Server, text, until};

const REDEEM: &str = "/api/v2/auth/links/redeem";

fn token(link: &Value) -> String {
    link.as_str().expect("a link").split_once("/link#").expect("a token").1.to_owned()
}

async fn redeem(server: &Server, link: &Value, password: &str) -> crate::harness::Reply {
    let body = json!({ "token": token(link), "password": password });
    server.api().without_key().post(REDEEM, body).await
}

async fn id_of(api: &Api) -> String {
    api.get("/api/v2/me").await.expect(200)["user_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_invitation_brings_somebody_in_with_its_roles_and_no_more() {
    let server = Server::start().await;
    let admin = server.api();
    let body = json!({ "email": "Bob@Example.org", "roles": ["member"] });
    let replaced = admin.post("/api/v2/invitations", body.clone()).await.expect(201);
    let invited = admin.post("/api/v2/invitations", body).await.expect(201);
    assert_eq!((&invited["email"], &invited["roles"]), (&json!("bob@example.org"), &json!(["user"])));
    let listed = admin.get("/api/v2/invitations").await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    assert!(!listed.to_string().contains(&token(&invited["link"])), "a link is shown once");

    assert_eq!(redeem(&server, &replaced["link"], PASSWORD).await.problem(410), "link_ended");
    let bob = server.api().in_session(&redeem(&server, &invited["link"], PASSWORD).await);
    assert_eq!(bob.get("/api/v2/me").await.expect(200)["roles"], json!(["user"]));
    assert_eq!(redeem(&server, &invited["link"], PASSWORD).await.problem(410), "link_ended");
    let again = admin.post("/api/v2/invitations", json!({ "email": "bob@example.org" })).await;
    assert_eq!(again.problem(409), "already_member");

    let manager = server.member("manager@example.org", &["tenant_manager"]).await;
    let made = manager.post("/api/v2/invitations", json!({ "email": "carol@example.org" })).await.expect(201);
    assert_eq!(made["roles"], json!([]));
    let raised = json!({ "email": "dan@example.org", "roles": ["tenant_manager"] });
    assert_eq!(manager.post("/api/v2/invitations", raised).await.problem(403), "denied");
    for role in ["saas_super_admin", "emperor"] {
        let body = json!({ "email": "dan@example.org", "roles": [role] });
        let refused = admin.post("/api/v2/invitations", body).await;
        assert_eq!((refused.problem(422), &refused.body["errors"][0]["field"]), ("invalid", &json!("roles")));
    }
    let path = format!("/api/v2/invitations/{}", made["id"].as_str().unwrap());
    admin.delete(&path).await.expect(204);
    assert_eq!(admin.delete(&path).await.problem(404), "not_found");
    assert_eq!(redeem(&server, &made["link"], PASSWORD).await.problem(410), "link_ended");
}

#[tokio::test]
async fn another_tenants_administrator_gets_no_hold_on_an_account() {
    let server = Server::start().await;
    let stranger = server.stranger().await;
    let ada = server.person(ADMIN, &[]).await;
    let id = id_of(&ada).await;
    let invited = stranger.post("/api/v2/invitations", json!({ "email": ADMIN })).await.expect(201);
    let stolen = redeem(&server, &invited["link"], "a password of the stranger").await;
    assert_eq!(stolen.problem(401), "bad_credentials", "an invitation sets no password of an account");
    ada.get("/api/v2/me").await.expect(200);

    let there = server.api().in_session(&redeem(&server, &invited["link"], PASSWORD).await);
    let me = there.get("/api/v2/me").await.expect(200);
    assert_eq!((&me["user_id"], me["tenants"].as_array().unwrap().len()), (&json!(id), 2));
    assert_eq!(me["tenant"]["slug"], "elsewhere");
    for (method, path) in [("POST", "reset-link"), ("DELETE", "totp")] {
        let path = format!("/api/v2/users/{id}/{path}");
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        assert_eq!(stranger.call(method, &path, None).await.problem(403), "denied", "{path}");
    }
    assert_eq!(
        stranger.get(&format!("/api/v2/users/{id}/sessions")).await.expect(200)["items"][0]["how"],
        "link"
    );
    stranger.delete(&format!("/api/v2/users/{id}/sessions")).await.expect(204);
    assert_eq!(there.get("/api/v2/me").await.problem(401), "unauthenticated");
    ada.get("/api/v2/me").await.expect(200);

    let other = me["tenant_id"].clone();
    let moved = ada.post("/api/v2/me/tenant", json!({ "tenant_id": other })).await.expect(200);
    assert_eq!(moved["tenant"]["slug"], "elsewhere");
    stranger.delete(&format!("/api/v2/users/{id}")).await.expect(204);
    assert_eq!(ada.get("/api/v2/me").await.problem(401), "unauthenticated", "removed there, at once");
}

#[tokio::test]
async fn who_is_removed_is_out_at_once_with_keys_and_sessions() {
    let server = Server::start().await;
    let admin = server.api();
    let bob = server.person("bob@example.org", &["user", "tenant_admin"]).await;
    let made = bob.post("/api/v2/api-keys", json!({ "name": "bob's" })).await.expect(201);
    let key = admin.with_key(made["key"].as_str().unwrap());
    key.get("/api/v2/me").await.expect(200);
    let id = id_of(&bob).await;
    let user = admin.get(&format!("/api/v2/users/{id}")).await.expect(200);
    assert_eq!(user["roles"], json!(["tenant_admin", "user"]));
    assert_eq!(
        (&user["kind"], &user["locked"], &user["totp"]),
        (&json!("person"), &json!(false), &json!(false))
    );
    assert_eq!(bob.delete(&format!("/api/v2/users/{id}")).await.problem(409), "yourself");

    admin.delete(&format!("/api/v2/users/{id}")).await.expect(204);

    assert_eq!(bob.get("/api/v2/me").await.status, 401);
    assert_eq!(key.get("/api/v2/me").await.status, 401);
    assert_eq!(admin.get(&format!("/api/v2/users/{id}")).await.problem(404), "not_found");
    let invited = admin.post("/api/v2/invitations", json!({ "email": "bob@example.org" })).await.expect(201);
    let back = admin.in_session(&redeem(&server, &invited["link"], PASSWORD).await);
    assert_eq!(back.get("/api/v2/me").await.expect(200)["roles"], json!([]), "old roles don't come back");
    assert_eq!(key.get("/api/v2/me").await.status, 401, "nor do old keys");
}

#[tokio::test]
async fn a_password_is_changed_by_who_knows_it_and_ends_the_other_sessions() {
    let server = Server::start().await;
    let ada = server.person(ADMIN, &[]).await;
    let login = |password: &'static str| {
        let body = json!({ "email": ADMIN, "password": password });
        let api = server.api().without_key();
        async move { api.post("/api/v2/auth/login", body).await }
    };
    let other = server.api().in_session(&login(PASSWORD).await);
    let listed = ada.get("/api/v2/me/sessions").await.expect(200);
    let current: Vec<&Value> =
        listed["items"].as_array().unwrap().iter().map(|item| &item["current"]).collect();
    assert_eq!(current, [&json!(true), &json!(false)]);
    let change = |current: &str, new: &str| json!({ "current": current, "new": new });
    let path = "/api/v2/me/password";
    assert_eq!(
        ada.post(path, change("not my password", "a third password")).await.problem(422),
        "bad_credentials"
    );
    assert_eq!(ada.post(path, change(PASSWORD, "short")).await.problem(422), "invalid");
    let by_key = server.api().post(path, change(PASSWORD, "a third password")).await;
    assert_eq!(by_key.problem(403), "session_required");

    ada.post(path, change(PASSWORD, "a third password")).await.expect(204);

    ada.get("/api/v2/me").await.expect(200);
    assert_eq!(other.get("/api/v2/me").await.problem(401), "unauthenticated");
    assert_eq!(login(PASSWORD).await.problem(401), "bad_credentials");
    let third = server.api().in_session(&login("a third password").await);
    let sessions = third.get("/api/v2/me/sessions").await.expect(200);
    let first = sessions["items"][0]["id"].as_str().unwrap();
    third.delete(&format!("/api/v2/me/sessions/{first}")).await.expect(204);
    assert_eq!(ada.get("/api/v2/me").await.problem(401), "unauthenticated");
    assert_eq!(third.delete(&format!("/api/v2/me/sessions/{first}")).await.problem(404), "not_found");
    third.delete("/api/v2/me/sessions").await.expect(204);
    third.get("/api/v2/me").await.expect(200);
}

#[tokio::test]
async fn acting_as_somebody_is_for_the_platforms_administrators_and_marks_each_row_of_the_audit() {
    let server = Server::start().await;
    let ada = server.person(ADMIN, &[]).await;
    let bob = server.person("bob@example.org", &["user"]).await;
    let owner = server.person("owner@example.org", &["tenant_admin"]).await;
    let (ada_id, bob_id) = (id_of(&ada).await, id_of(&bob).await);
    let path = format!("/api/v2/users/{bob_id}/impersonate");
    let reason = json!({ "reason": "ticket 7" });
    assert_eq!(owner.post(&path, reason.clone()).await.problem(403), "denied");
    assert_eq!(ada.post(&path, json!({ "reason": "  " })).await.problem(422), "invalid");

    let begun = ada.post(&path, reason.clone()).await;
    let as_bob = ada.in_session(&begun);
    let me = as_bob.get("/api/v2/me").await.expect(200);
    assert_eq!((&me["user_id"], &me["roles"]), (&json!(bob_id), &json!(["user"])));
    assert_eq!(me["impersonator"], json!({ "user_id": ada_id, "email": ADMIN }));
    let conversation = as_bob.conversation().await;
    as_bob.turn(&conversation, "[[tool timestamp]] [[say {result}]]").await;
    let listed = bob.get("/api/v2/me/sessions").await.expect(200);
    assert!(listed["items"].as_array().unwrap().iter().any(|session| session["impersonator_id"] == ada_id));
    for (method, path, body) in [
        ("POST", "/api/v2/me/password", json!({ "current": "x", "new": "a long password" })),
        ("POST", "/api/v2/me/totp", json!({})),
        ("PATCH", "/api/v2/me", json!({ "name": "Mallory" })),
        ("DELETE", "/api/v2/me/sessions", json!({})),
    ] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        assert_eq!(as_bob.call(method, path, Some(&body)).await.problem(403), "impersonating", "{path}");
    }

    let audit = server.api().get("/api/v2/audit").await.expect(200);
    let entries = audit["items"].as_array().unwrap();
    let of = |action: &str| entries.iter().find(|entry| entry["action"] == action).expect("an entry").clone();
    for action in ["session:create", "conversation:create", "conversation:send_message", "tool:execute"] {
        let done = of(action);
        let both = (&done["actor_id"], &done["impersonator_id"]);
        assert_eq!(both, (&json!(bob_id), &json!(ada_id)), "{action}");
    }
    let began = of("platform:impersonate");
    assert_eq!((&began["actor_id"], &began["details"]["reason"]), (&json!(ada_id), &json!("ticket 7")));

    let ended = as_bob.delete("/api/v2/me/impersonation").await;
    assert_eq!(ended.status, 204);
    assert_eq!(as_bob.get("/api/v2/me").await.problem(401), "unauthenticated");
    let cookie = text(ended.headers["set-cookie"].as_bytes());
    assert!(!cookie.contains("Max-Age=0"), "back in the session before: {cookie}");
    let request = server.api().without_key().request(reqwest::Method::GET, "/api/v2/me");
    let back = Api::reply(request.header("cookie", cookie.split(';').next().unwrap())).await.expect(200);
    assert_eq!((&back["user_id"], &back["impersonator"]), (&json!(ada_id), &Value::Null));
    assert_eq!(ada.get("/api/v2/me").await.status, 401, "by a token that is no longer the old one");
}

#[tokio::test]
async fn who_may_no_longer_act_as_somebody_stops_within_a_second() {
    let server = Server::start().await;
    let ada = server.person(ADMIN, &[]).await;
    let bob = server.person("bob@example.org", &["user"]).await;
    let path = format!("/api/v2/users/{}/impersonate", id_of(&bob).await);
    let as_bob = ada.in_session(&ada.post(&path, json!({ "reason": "ticket 7" })).await);
    as_bob.get("/api/v2/me").await.expect(200);
    let ada_id = id_of(&ada).await;
    let database = server.database().await;
    database
        .write(move |tx| {
            Box::pin(async move {
                use platform::database::Sql;
                let sql = "DELETE FROM role_assignments WHERE scope = 'platform' AND user_id = $1";
                tx.run(sql, platform::params![ada_id]).await
            })
        })
        .await
        .map(|changed: u64| assert_eq!(changed, 1))
        .map_err(|error: platform::database::Error| error.to_string())
        .unwrap();
    let since = std::time::Instant::now();
    until("it stops", || async { (as_bob.get("/api/v2/me").await.status == 401).then_some(()) }).await;
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    bob.get("/api/v2/me").await.expect(200);
}

#[tokio::test]
async fn a_service_account_has_keys_and_never_signs_in() {
    let server = Server::start().await;
    let admin = server.api();
    let robot = admin.post("/api/v2/service-accounts", json!({ "name": "ci", "roles": ["viewer"] })).await;
    let robot = robot.expect(201);
    assert_eq!(
        (&robot["kind"], &robot["name"], &robot["roles"]),
        (&json!("service"), &json!("ci"), &json!(["viewer"]))
    );
    let made = admin.post("/api/v2/api-keys", json!({ "user_id": robot["id"] })).await.expect(201);
    assert_eq!(made["user_id"], robot["id"]);
    let key = admin.with_key(made["key"].as_str().unwrap());
    assert_eq!(key.get("/api/v2/me").await.expect(200)["roles"], json!(["viewer"]));
    assert_eq!(key.get("/api/v2/agents/default").await.status, 200);
    assert_eq!(key.post("/api/v2/conversations", json!({ "agent": "default" })).await.problem(403), "denied");

    let id = robot["id"].as_str().unwrap();
    assert_eq!(
        admin.post(&format!("/api/v2/users/{id}/reset-link"), json!({})).await.problem(409),
        "service_account"
    );
    let output = server.run(&["admin", "link", "--email", robot["email"].as_str().unwrap()]);
    assert!(!output.status.success() && output.stdout.is_empty());
    let person = server.user("bob@example.org", &["user"]).await;
    let body = json!({ "user_id": person });
    let refused = admin.post("/api/v2/api-keys", body).await;
    assert_eq!((refused.problem(422), &refused.body["errors"][0]["field"]), ("invalid", &json!("user_id")));
}

#[tokio::test]
async fn a_key_is_rotated_with_an_overlap_by_its_own_user() {
    let server = Server::start().await;
    let admin = server.api();
    let old =
        admin.post("/api/v2/api-keys", json!({ "name": "ci", "scopes": ["agent:read"] })).await.expect(201);
    let path = |id: &Value| format!("/api/v2/api-keys/{}/rotate", id.as_str().unwrap());
    let new = admin.post(&path(&old["id"]), json!({ "overlap_s": 60 })).await.expect(201);
    assert_eq!((&new["name"], &new["scopes"]), (&old["name"], &old["scopes"]));
    assert_ne!(new["key"], old["key"]);
    for key in [&old, &new] {
        assert_eq!(
            admin.with_key(key["key"].as_str().unwrap()).get("/api/v2/agents/default").await.status,
            200
        );
    }
    let listed = admin.get("/api/v2/api-keys").await.expect(200);
    let shown = listed["items"].as_array().unwrap().iter().find(|key| key["id"] == old["id"]).unwrap();
    assert_eq!(shown["replaced_by"], new["id"]);
    assert!(shown["expires_at"].is_string());
    assert_eq!(admin.post(&path(&old["id"]), json!({ "overlap_s": 60 })).await.problem(409), "replaced");
    let last = admin.post(&path(&new["id"]), json!({ "overlap_s": 0 })).await.expect(201);
    assert_eq!(admin.with_key(new["key"].as_str().unwrap()).get("/api/v2/me").await.status, 401, "at once");
    let owner = server.member("owner@example.org", &["tenant_admin"]).await;
    assert_eq!(owner.post(&path(&last["id"]), json!({ "overlap_s": 0 })).await.problem(403), "not_own");
    assert_eq!(
        admin.post(&path(&last["id"]), json!({ "overlap_s": 2_592_001 })).await.problem(422),
        "invalid"
    );
}

#[tokio::test]
async fn letters_bring_links_and_tell_nobody_who_has_an_account() {
    let mail = MailServer::start();
    let url = format!("smtp://soma:canary-of-mail@{}", mail.address());
    let settings = [
        ("SA01_SMTP_URL", url.as_str()),
        ("SA01_MAIL_FROM", "Agents <agents@example.org>"),
        ("SA01_PUBLIC_URL", "https://agents.example.org/base/"),
    ];
    let server = Server::start_with(&settings).await;
    let api = server.api().without_key();
    assert_eq!(
        api.get("/api/v2/auth/methods").await.expect(200),
        json!({ "password": true, "oidc": null, "mail": true })
    );
    server.person(ADMIN, &[]).await;

    let answers = [ADMIN, "nobody@example.org", "no address", ADMIN].map(|email| json!({ "email": email }));
    for body in answers {
        assert_eq!(api.post("/api/v2/auth/reset", body).await.status, 202);
    }
    let invited =
        server.api().post("/api/v2/invitations", json!({ "email": "bob@example.org" })).await.expect(201);
    assert_eq!(invited.get("link"), None, "it was mailed");
    let letters = mail.wait_for(2, PATIENCE);
    assert_eq!(letters.len(), 2, "{letters:?}");
    let to = |address: &str| letters.iter().find(|letter| letter.to == [address]).expect("a letter").clone();
    for (letter, password) in [(to(ADMIN), "another long password"), (to("bob@example.org"), PASSWORD)] {
        assert_eq!(letter.from, "agents@example.org");
        assert_eq!(letter.credentials.as_deref(), Some("AHNvbWEAY2FuYXJ5LW9mLW1haWw="));
        let text = letter.plain();
        let link = text.lines().find(|line| line.starts_with("https://agents.example.org/base/link#"));
        let link = json!(link.expect("a link"));
        assert_eq!(redeem(&server, &link, password).await.status, 200, "{text}");
    }
    mail.refuse();
    let invited =
        server.api().post("/api/v2/invitations", json!({ "email": "carol@example.org" })).await.expect(201);
    assert_eq!(
        redeem(&server, &invited["link"], PASSWORD).await.status,
        200,
        "what can't be mailed is shown"
    );
    assert!(!server.log().contains("canary-of-mail"));
}

#[tokio::test]
async fn a_cookie_is_secure_but_on_loopback() {
    let server = Server::start().await;
    server.person(ADMIN, &[]).await;
    let login = |host: &str| {
        let body = json!({ "email": ADMIN, "password": PASSWORD });
        let request = server.api().without_key().request(reqwest::Method::POST, "/api/v2/auth/login");
        Api::reply(request.header("host", host).json(&body))
    };
    for (host, secure) in
        [("agents.example.org", true), ("localhost:8080", false), ("127.0.0.1.example.org", true)]
    {
        let reply = login(host).await;
        assert_eq!(text(reply.headers["set-cookie"].as_bytes()).contains("; Secure"), secure, "{host}");
    }
}
