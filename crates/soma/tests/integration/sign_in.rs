//! Signing in: by a link and a password, within bounds, with a cookie that no other site can use.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{ADMIN, Api, PASSWORD, Reply, Server, every_file, text, until};

const LOGIN: &str = "/api/v2/auth/login";
const REDEEM: &str = "/api/v2/auth/links/redeem";
const INSPECT: &str = "/api/v2/auth/links/inspect";

async fn login(server: &Server, email: &str, password: &str) -> Reply {
    let body = json!({ "email": email, "password": password });
    server.api().without_key().post(LOGIN, body).await
}

/// The audit's latest rows of one action, newest first.
async fn audited(server: &Server, action: &str) -> Vec<Value> {
    let page = server.api().get("/api/v2/audit?limit=200").await.expect(200);
    let entries = page["items"].as_array().unwrap().clone();
    entries.into_iter().filter(|entry| entry["action"] == action).collect()
}

#[tokio::test]
async fn the_first_administrator_signs_in_by_a_link_that_works_once() {
    let server = Server::start().await;
    let api = server.api().without_key();
    assert_eq!(login(&server, ADMIN, PASSWORD).await.problem(401), "bad_credentials");
    let token = server.link(ADMIN);

    let shown = api.post(INSPECT, json!({ "token": token })).await.expect(200);
    assert_eq!((&shown["purpose"], &shown["email"]), (&json!("setup"), &json!(ADMIN)));
    assert_eq!(shown["tenant"], "Default");
    let weak = api.post(REDEEM, json!({ "token": token, "password": "too short" })).await;
    assert_eq!((weak.problem(422), &weak.body["errors"][0]["field"]), ("invalid", &json!("password")));

    let given = json!({ "token": token, "password": PASSWORD, "name": "Ada" });
    let redeemed = api.post(REDEEM, given.clone()).await;
    let ada = api.in_session(&redeemed);
    let me = ada.get("/api/v2/me").await.expect(200);
    assert_eq!(redeemed.body, me, "the answer to signing in is who one is");
    assert_eq!(
        (&me["email"], &me["name"], &me["credential"]),
        (&json!(ADMIN), &json!("Ada"), &json!("session"))
    );
    assert_eq!((&me["impersonator"], &me["totp"]), (&Value::Null, &json!(false)));
    assert_eq!(me["tenants"], json!([me["tenant"]]));
    let by_key = server.api().get("/api/v2/me").await.expect(200);
    assert_eq!((&me["roles"], &me["user_id"]), (&by_key["roles"], &by_key["user_id"]));
    ada.conversation().await;

    assert_eq!(api.post(REDEEM, given).await.problem(410), "link_ended");
    assert_eq!(api.post(INSPECT, json!({ "token": token })).await.problem(410), "link_ended");
    let cookie = login(&server, ADMIN, PASSWORD).await.headers["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("session_id=") && cookie.contains("; HttpOnly; SameSite=Lax"), "{cookie}");
    assert!(cookie.contains("; Path=/;") && !cookie.contains("Secure"), "loopback by plain HTTP: {cookie}");
    assert_eq!(audited(&server, "link:redeem").await.len(), 1);
    assert_eq!(audited(&server, "session:create").await.len(), 2);
}

#[tokio::test]
async fn a_link_is_refused_alike_when_it_was_replaced_or_never_was() {
    let server = Server::start().await;
    let api = server.api().without_key();
    let (first, second) = (server.link(ADMIN), server.link(ADMIN));
    let session = api.in_session(&api.post(REDEEM, json!({ "token": second, "password": PASSWORD })).await);
    let of_session = session.cookie().split_once('=').unwrap().1.to_owned();
    let key = server.api_key().to_owned();
    let mut answers = Vec::new();
    for token in [first, second, of_session, key, String::new(), "x".repeat(100_000), "\u{1f600}".into()] {
        let inspected = api.post(INSPECT, json!({ "token": token })).await;
        assert_eq!(inspected.problem(410), "link_ended", "{token:.60}");
        answers.push(inspected.body);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
    let printed = server.run(&["admin", "link", "--email", ADMIN, "--if-no-password"]);
    assert!(printed.status.success() && printed.stdout.is_empty(), "there is a password");
    let nobody = server.run(&["admin", "link", "--email", "nobody@example.org"]);
    assert!(!nobody.status.success() && nobody.stdout.is_empty());
}

#[tokio::test]
async fn a_reset_ends_every_session_and_the_old_password() {
    let server = Server::start().await;
    let ada = server.person(ADMIN, &[]).await;
    let api = server.api().without_key();
    let token = server.link(ADMIN);
    let shown = api.post(INSPECT, json!({ "token": token })).await.expect(200);
    assert_eq!(shown["purpose"], "reset");
    let redeemed = api.post(REDEEM, json!({ "token": token, "password": "another long password" })).await;
    assert_eq!(ada.get("/api/v2/me").await.problem(401), "unauthenticated", "at once");
    api.in_session(&redeemed).get("/api/v2/me").await.expect(200);
    assert_eq!(login(&server, ADMIN, PASSWORD).await.problem(401), "bad_credentials");
    assert_eq!(login(&server, &ADMIN.to_uppercase(), "another long password").await.status, 200);
}

#[tokio::test]
async fn five_failures_lock_an_account_and_nothing_tells_whether_there_is_one() {
    let server = Server::start().await;
    server.person(ADMIN, &[]).await;
    let known = |password: &'static str| login(&server, ADMIN, password);
    for _ in 0..4 {
        assert_eq!(known("a wrong password").await.problem(401), "bad_credentials");
    }
    assert_eq!(known(PASSWORD).await.status, 200, "four failures do not lock, and success forgets them");

    let mut server = server;
    // Attempts of one address are counted in the process.
    server.restart().await;
    let mut answers = Vec::new();
    for email in [ADMIN, "nobody@example.org"] {
        let mut seen = Vec::new();
        for _ in 0..5 {
            let refused = login(&server, email, "a wrong password").await;
            assert_eq!(refused.problem(401), "bad_credentials");
            seen.push(refused.body);
        }
        answers.push(seen);
    }
    assert_eq!(answers[0], answers[1]);
    server.restart().await;
    for email in [ADMIN, "nobody@example.org"] {
        let locked = login(&server, email, PASSWORD).await;
        assert_eq!(locked.problem(423), "locked");
        let seconds: u64 = locked.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((840..=901).contains(&seconds), "{seconds}");
    }
    let users = server.api().get("/api/v2/users").await.expect(200);
    let ada = users["items"].as_array().unwrap().iter().find(|user| user["email"] == ADMIN).unwrap().clone();
    assert_eq!(ada["locked"], true);
    let unlock = format!("/api/v2/users/{}/unlock", ada["id"].as_str().unwrap());
    server.api().post(&unlock, json!({})).await.expect(204);
    assert_eq!(login(&server, ADMIN, PASSWORD).await.status, 200, "an administrator unlocks");

    let locked = until("the lock is in the audit", || async {
        let rows = audited(&server, "session:lock").await;
        (!rows.is_empty()).then_some(rows)
    });
    assert_eq!(locked.await.len(), 1, "the known one");
    assert_eq!(audited(&server, "session:refuse").await.len(), 9);
}

#[tokio::test]
async fn guesses_sent_side_by_side_are_counted_like_guesses_one_after_another() {
    let server = Server::start().await;
    server.person(ADMIN, &[]).await;
    let guesses = (0..9).map(|_| login(&server, ADMIN, "a wrong password"));
    let answers = futures::future::join_all(guesses).await;
    let looked_at = answers.iter().filter(|answer| answer.status == 401).count();
    let locked = answers.iter().filter(|answer| answer.status == 423).count();
    assert_eq!((looked_at, locked), (5, 4));
}

#[tokio::test]
async fn one_address_has_ten_attempts_a_minute() {
    let server = Server::start().await;
    for number in 0..10 {
        let reply = login(&server, &format!("{number}@example.org"), "a wrong password").await;
        assert_eq!(reply.problem(401), "bad_credentials");
    }
    let refused = login(&server, ADMIN, PASSWORD).await;
    assert_eq!(refused.problem(429), "too_many_attempts");
    let seconds: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn another_site_gets_nothing_done_with_the_cookie() {
    let server = Server::start().await;
    let ada = server.person(ADMIN, &[]).await;
    let bare = server.api().without_key();
    let post = |site: &[(&str, &str)]| {
        let mut request = bare.request(Method::POST, "/api/v2/conversations").header("cookie", ada.cookie());
        for (name, value) in site {
            request = request.header(*name, *value);
        }
        Api::reply(request.json(&json!({ "agent": "default" })))
    };
    for site in [
        vec![],
        vec![("origin", "http://evil.test")],
        vec![("origin", "null")],
        vec![("sec-fetch-site", "cross-site")],
        vec![("sec-fetch-site", "same-site"), ("origin", server.base())],
    ] {
        assert_eq!(post(&site).await.problem(403), "cross_site", "{site:?}");
    }
    assert_eq!(post(&[("sec-fetch-site", "same-origin")]).await.status, 201);
    assert_eq!(post(&[("origin", server.base())]).await.status, 201);
    let body = json!({ "email": ADMIN, "password": PASSWORD });
    let elsewhere = bare.request(Method::POST, LOGIN).header("origin", "http://evil.test").json(&body);
    assert_eq!(Api::reply(elsewhere).await.problem(403), "cross_site", "nobody is signed in by another site");
    let upgrade = bare.request(Method::GET, "/ws/v2/chat").header("cookie", ada.cookie());
    let upgrade = upgrade.header("upgrade", "websocket").header("origin", "http://evil.test");
    assert_eq!(Api::reply(upgrade).await.problem(403), "cross_site");
    assert_eq!(ada.get("/api/v2/conversations").await.expect(200)["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn of_two_credentials_the_key_counts_and_garbage_is_none() {
    let server = Server::start().await;
    let bob = server.person("bob@example.org", &["user"]).await;
    let bob_id = bob.get("/api/v2/me").await.expect(200)["user_id"].clone();
    let both = |key: &str| {
        let request = server.api().without_key().request(Method::GET, "/api/v2/me");
        Api::reply(request.header("cookie", bob.cookie()).bearer_auth(key))
    };
    let me = both(server.api_key()).await.expect(200);
    assert_ne!(me["user_id"], bob_id);
    assert_eq!(me["credential"], "api_key");
    for bad in ["soma_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "x", ""] {
        assert_eq!(both(bad).await.problem(401), "unauthenticated", "no fall back to the cookie");
    }
    let token = bob.cookie().split_once('=').unwrap().1;
    for cookie in [
        String::new(),
        "session_id".into(),
        format!("session_id={}", &token[1..]),
        format!("session_id={token}x"),
        format!("session_id={}", token.to_lowercase()),
        format!("session_id={}", "A".repeat(43)),
        format!("session_id={token}; session_id={}", "A".repeat(43)),
        format!("access_token={token}"),
        format!("session_id={}", "x".repeat(4000)),
    ] {
        let request = server.api().without_key().request(Method::GET, "/api/v2/me").header("cookie", &cookie);
        assert_eq!(Api::reply(request).await.problem(401), "unauthenticated", "{cookie:.60}");
    }
    assert_eq!(server.api().with_key(token).get("/api/v2/me").await.status, 401, "a token is no key");
}

#[tokio::test]
async fn a_session_ends_when_it_is_left_alone_or_signed_out_of() {
    let server = Server::start_with(&[("SA01_SESSION_IDLE", "5")]).await;
    let ada = server.person(ADMIN, &[]).await;
    let other = server.api().in_session(&login(&server, ADMIN, PASSWORD).await);
    let out = ada.post("/api/v2/auth/logout", json!({})).await;
    assert_eq!(out.status, 204);
    let cleared = text(out.headers["set-cookie"].as_bytes());
    assert!(cleared.starts_with("session_id=;") && cleared.contains("Max-Age=0"), "{cleared}");
    assert_eq!(ada.get("/api/v2/me").await.problem(401), "unauthenticated", "at once");
    assert_eq!(ada.post("/api/v2/auth/logout", json!({})).await.status, 204, "leaving twice is leaving");

    let used_for = std::time::Instant::now();
    until("it was used for longer than it may be idle", || async {
        other.get("/api/v2/me").await.expect(200);
        (used_for.elapsed() > Duration::from_secs(6)).then_some(())
    })
    .await;
    let left_at = std::time::Instant::now();
    until("the idle time is over", || async { (left_at.elapsed() > Duration::from_secs(6)).then_some(()) })
        .await;
    assert_eq!(other.get("/api/v2/me").await.problem(401), "unauthenticated");
    assert_eq!(audited(&server, "session:delete").await.len(), 1);
}

#[tokio::test]
async fn a_session_that_is_used_all_the_time_ends_too() {
    let server = Server::start_with(&[("SA01_SESSION_MAX", "2")]).await;
    let ada = server.person(ADMIN, &[]).await;
    let since = std::time::Instant::now();
    until("the session ends", || async { (ada.get("/api/v2/me").await.status == 401).then_some(()) }).await;
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
}

#[tokio::test]
async fn an_administrator_gives_a_link_to_a_password_and_the_one_before_ends() {
    let server = Server::start().await;
    let bob = server.user("bob@example.org", &["user"]).await;
    let path = format!("/api/v2/users/{bob}/reset-link");
    let token = |made: Value| made["link"].as_str().unwrap().split_once('#').unwrap().1.to_owned();
    let first = token(server.api().post(&path, json!({})).await.expect(200));
    let second = token(server.api().post(&path, json!({})).await.expect(200));
    let api = server.api().without_key();
    let given = |token: &str| json!({ "token": token, "password": PASSWORD });
    assert_eq!(api.post(REDEEM, given(&first)).await.problem(410), "link_ended");
    let me = api.in_session(&api.post(REDEEM, given(&second)).await).get("/api/v2/me").await.expect(200);
    assert_eq!(me["user_id"], json!(bob));
    let both = futures::future::join_all([0, 1].map(|_| {
        let (api, body) = (api.clone(), given(&server.link("bob@example.org")));
        async move { api.post(REDEEM, body).await.status }
    }));
    assert_eq!(
        both.await.iter().filter(|status| **status == 200).count(),
        1,
        "two links: the last one counts"
    );
}

#[tokio::test]
async fn what_is_no_sign_in_is_refused_and_nothing_secret_reaches_log_or_disk() {
    let server = Server::start().await;
    server.person("z\u{fc}rich\u{1f600}@example.org", &["user"]).await;
    assert_eq!(login(&server, "Z\u{dc}RICH\u{1f600}@example.org", PASSWORD).await.status, 200);
    let long = "x".repeat(1025);
    assert_eq!(login(&server, ADMIN, &long).await.problem(422), "invalid");
    for email in ["", "no address", "a@b@c", &"x".repeat(100_000), "a\u{0}@b"] {
        assert_eq!(login(&server, email, PASSWORD).await.problem(401), "bad_credentials", "{email:.20}");
    }
    let extra = json!({ "email": ADMIN, "password": PASSWORD, "tenant_id": "x" });
    assert_eq!(server.api().without_key().post(LOGIN, extra).await.problem(422), "invalid");
    every_file(&server.data(), &mut |path, bytes| {
        assert!(!text(bytes).contains(PASSWORD), "the password is in {}", path.display());
    });
    assert!(!server.log().contains(PASSWORD));
}
