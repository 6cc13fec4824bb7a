//! What the gateway says before any route: TLS, whose word about a client counts, which pages may call, and how often
//! anybody may ask.

use std::fs;

use reqwest::{Method, Version, tls::Certificate};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::{
    edge::{closed, connect, counter},
    harness::{Api, Reply, Server, good_settings, run_in, text, until},
};

fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.headers.get(name).and_then(|value| value.to_str().ok())
}

/// A new certificate for loopback and its key, in PEM.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[expect(clippy::disallowed_methods, reason = "a test's own client of a server on loopback")]
fn trusting(certificate: &str) -> reqwest::Client {
    let certificate = Certificate::from_pem(certificate.as_bytes()).unwrap();
    reqwest::Client::builder().tls_certs_only([certificate]).build().unwrap()
}

#[tokio::test]
async fn https_is_served_from_files_that_are_read_again_when_they_change() {
    let mut server = Server::installed(&[]);
    let files = ["cert.pem", "key.pem"].map(|name| server.folder().join(name));
    let write = |(certificate, key): &(String, String)| {
        fs::write(&files[0], certificate).unwrap();
        fs::write(&files[1], key).unwrap();
    };
    let (first, second) = (certificate(), certificate());
    write(&first);
    for (name, file) in ["SA01_TLS_CERT", "SA01_TLS_KEY"].into_iter().zip(&files) {
        server.settings.insert(name.to_owned(), file.display().to_string());
    }
    server.restart().await;
    assert!(server.base().starts_with("https://127.0.0.1:"), "{}", server.base());

    let api = server.api().with_client(trusting(&first.0));
    let response = api.request(Method::GET, "/api/v2/me").send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, Version::HTTP_2));
    assert!(response.headers()["strict-transport-security"].to_str().unwrap().starts_with("max-age="));
    let conversation = api.conversation().await;
    assert_eq!(api.turn(&conversation, "[[say private]]").await.answer(), "private");
    let mut plain = connect(&server, "127.0.0.1").await;
    plain.write_all(b"GET /health/live HTTP/1.1\r\nhost: soma\r\n\r\n").await.unwrap();
    assert!(!text(&closed(plain).await).contains("HTTP/1.1"), "there is nothing to hear without TLS");

    fs::write(&files[0], "no certificate").unwrap();
    until("the log says that the file can't be used", async || {
        server.log().contains("SA01_TLS_CERT").then_some(())
    })
    .await;
    assert_eq!(server.api().with_client(trusting(&first.0)).get("/health/live").await.status, 200);
    write(&second);
    until("new connections get the new certificate", async || {
        let client = trusting(&second.0);
        server.api().with_client(client).request(Method::GET, "/health/live").send().await.ok()
    })
    .await;
}

#[tokio::test]
async fn tls_files_that_cannot_be_used_are_named_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (certificate(), certificate());
    for (name, content) in [("one.pem", &one.0), ("key.pem", &one.1), ("other.pem", &other.1)] {
        fs::write(folder.path().join(name), content).unwrap();
    }
    for (certificate, key, said) in [
        ("absent.pem", "key.pem", "SA01_TLS_CERT: absent.pem can't be read"),
        ("key.pem", "key.pem", "SA01_TLS_CERT: key.pem holds no certificate"),
        ("one.pem", "one.pem", "SA01_TLS_KEY: one.pem holds no unencrypted private key"),
        ("one.pem", "other.pem", "SA01_TLS_CERT and SA01_TLS_KEY: "),
    ] {
        let mut settings = good_settings(folder.path());
        settings.insert("SA01_TLS_CERT".into(), certificate.into());
        settings.insert("SA01_TLS_KEY".into(), key.into());
        let output = run_in(folder.path(), &settings, &["serve", "--listen=127.0.0.1:0"]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}: {error}");
        assert!(error.contains(said), "{said}: {error}");
        let check = text(&run_in(folder.path(), &settings, &["check", "--deploy"]).stdout);
        assert!(
            check.lines().any(|line| line.starts_with("FAIL  deploy: TLS") && line.contains(said)),
            "{check}"
        );
    }
}

#[tokio::test]
async fn a_proxys_word_counts_only_where_it_is_trusted() {
    for (trusted, secure) in [("127.0.0.0/8", true), ("10.0.0.0/8", false)] {
        let server = Server::start_with(&[("SA01_TRUSTED_PROXIES", trusted)]).await;
        let request = server.api().request(Method::GET, "/health/live").header("x-forwarded-proto", "https");
        let reply = Api::reply(request).await;
        assert_eq!(header(&reply, "strict-transport-security").is_some(), secure, "{trusted}");
    }
}

#[tokio::test]
async fn answers_say_that_no_browser_may_keep_sniff_or_frame_them() {
    let server = Server::start().await;
    for path in ["/api/v2/me", "/api/v2/nothing", "/health/live"] {
        let reply = server.api().get(path).await;
        assert_eq!(header(&reply, "x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(header(&reply, "cache-control"), Some("no-store"), "{path}");
        assert!(
            header(&reply, "content-security-policy").unwrap().contains("frame-ancestors 'none'"),
            "{path}"
        );
        assert_eq!(header(&reply, "strict-transport-security"), None, "{path}");
    }
}

#[tokio::test]
async fn only_pages_of_a_named_origin_may_read_answers_and_never_with_cookies() {
    let server = Server::start_with(&[("SA01_CORS_ORIGINS", "https://app.example.org")]).await;
    let call = async |method: Method, origin: &str| {
        let request = server.api().request(method, "/api/v2/me").header("origin", origin);
        Api::reply(request).await
    };
    let asks = async |api: Api, origin: &str| {
        let request = api
            .request(Method::OPTIONS, "/api/v2/conversations")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type");
        Api::reply(request).await
    };

    let preflight = asks(server.api().without_key(), "https://app.example.org").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(header(&preflight, "access-control-allow-origin"), Some("https://app.example.org"));
    assert_eq!(header(&preflight, "access-control-allow-headers"), Some("authorization,content-type"));
    let answer = call(Method::GET, "https://app.example.org").await;
    assert_eq!((answer.status, header(&answer, "vary")), (200, Some("origin")));
    assert_eq!(header(&answer, "access-control-allow-origin"), Some("https://app.example.org"));
    assert_eq!(header(&answer, "access-control-allow-credentials"), None);
    for origin in ["https://evil.example.org", "https://app.example.org.evil.com", "null"] {
        assert_eq!(asks(server.api().without_key(), origin).await.status, 401, "{origin}");
        assert_eq!(header(&call(Method::GET, origin).await, "access-control-allow-origin"), None, "{origin}");
    }
}

#[tokio::test]
async fn a_key_and_a_user_have_their_requests_a_minute_and_others_are_not_touched() {
    let server = Server::start_with(&[("SA01_RATE_LIMIT_KEY", "5"), ("SA01_RATE_LIMIT_USER", "8")]).await;
    let tenant = server.default_tenant().await;
    let user = server.user("busy@example.org", &["tenant_admin"]).await;
    let first = server.api().with_key(&server.key(tenant, user, Default::default()).await);
    let second = server.api().with_key(&server.key(tenant, user, Default::default()).await);
    for left in (0..5).rev() {
        let reply = first.get("/api/v2/me").await;
        assert_eq!(reply.status, 200);
        assert_eq!(
            header(&reply, "ratelimit-policy"),
            Some(r#""key";q=5;w=60, "user";q=8;w=60, "tenant";q=60000;w=60"#)
        );
        let limit = header(&reply, "ratelimit").unwrap();
        assert!(limit.starts_with(&format!("\"key\";r={left};t=")), "{limit}");
    }
    let refused = first.get("/api/v2/me").await;
    assert_eq!(refused.problem(429), "rate_limited");
    let wait: u32 = header(&refused, "retry-after").unwrap().parse().unwrap();
    assert!((1..=12).contains(&wait), "{wait}");
    assert!(header(&refused, "ratelimit").unwrap().starts_with("\"key\";r=0;"));
    for _ in 0..3 {
        assert_eq!(
            second.get("/api/v2/me").await.status,
            200,
            "what was refused was not taken from the user"
        );
    }
    let refused = second.get("/api/v2/me").await;
    assert_eq!(refused.problem(429), "rate_limited");
    assert!(refused.body["detail"].as_str().unwrap().contains("of this user"), "{}", refused.body);

    let other = server.api();
    for scope in ["scope=\"key\"", "scope=\"user\""] {
        assert_eq!(counter(&other, "rate_limit_rejections_total", scope).await, 1, "{scope}");
    }
}

#[tokio::test]
async fn a_tenant_has_its_requests_a_minute_whoever_makes_them() {
    let server = Server::start_with(&[("SA01_RATE_LIMIT_TENANT", "4")]).await;
    let (ada, bob) = (server.api(), server.member("bob@example.org", &["user"]).await);
    for api in [&ada, &bob, &ada, &bob] {
        assert_eq!(api.get("/api/v2/me").await.status, 200);
    }
    for api in [&ada, &bob] {
        assert_eq!(api.get("/api/v2/me").await.problem(429), "rate_limited");
    }
    assert_eq!(server.stranger().await.get("/api/v2/me").await.status, 200);
}

#[tokio::test]
async fn a_denied_request_takes_nothing_of_its_callers_quota_and_who_goes_on_guessing_is_refused() {
    let server = Server::start_with(&[("SA01_RATE_LIMIT_KEY", "3")]).await;
    let viewer = server.member("viewer@example.org", &["viewer"]).await;
    let forbidden = async || viewer.post("/api/v2/agents", json!({ "slug": "a", "name": "A" })).await;
    for _ in 0..2 {
        let denied = forbidden().await;
        assert_eq!((denied.problem(403), header(&denied, "ratelimit")), ("denied", None));
    }
    for left in (0..3).rev() {
        let reply = viewer.get("/api/v2/agents").await;
        assert_eq!(reply.status, 200);
        let limit = header(&reply, "ratelimit").unwrap();
        assert!(limit.starts_with(&format!("\"key\";r={left};t=")), "{limit}");
    }
    assert_eq!(forbidden().await.problem(403), "denied", "the permission is asked before the quota");
    let refused = forbidden().await;
    assert_eq!(refused.problem(429), "rate_limited");
    assert!(refused.body["detail"].as_str().unwrap().contains("denied or can't be read"), "{}", refused.body);
    assert_eq!(viewer.get("/api/v2/agents").await.problem(429), "rate_limited", "whatever it asks for");
    let admin = server.api();
    admin.get("/api/v2/agents").await.expect(200);
    let denials = admin.get("/api/v2/audit?action=agent:create&effect=deny").await.expect(200);
    assert_eq!(denials["items"].as_array().unwrap().len(), 3, "what was refused so is not audited");
}

#[tokio::test]
async fn what_cannot_be_read_is_counted_as_a_request_in_vain() {
    let server = Server::start_with(&[("SA01_RATE_LIMIT_KEY", "3")]).await;
    let api = server.member("admin@example.org", &["tenant_admin"]).await;
    for _ in 0..3 {
        assert_eq!(api.post("/api/v2/agents", json!({ "slug": 1 })).await.problem(422), "invalid");
    }
    assert_eq!(api.post("/api/v2/agents", json!({ "slug": 1 })).await.problem(429), "rate_limited");
}

#[tokio::test]
async fn a_tenant_lowers_its_own_limit_at_once_and_never_raises_the_installs() {
    let server = Server::start_with(&[("SA01_RATE_LIMIT_TENANT", "50")]).await;
    let (eve, other) = (server.stranger().await, server.api());
    let setting = "/api/v2/settings/tenant/api_requests_per_minute";
    let policy_of = async |api: &Api| {
        let reply = api.get("/api/v2/me").await;
        header(&reply, "ratelimit-policy").unwrap().rsplit(", ").next().unwrap().to_owned()
    };
    eve.put(setting, json!({ "value": 500 })).await.expect(204);
    assert_eq!(policy_of(&eve).await, r#""tenant";q=50;w=60"#);
    eve.put(setting, json!({ "value": 2 })).await.expect(204);
    assert_eq!(policy_of(&eve).await, r#""tenant";q=2;w=60"#);
    let mut answered = 0;
    let refused = loop {
        let reply = eve.get("/api/v2/agents").await;
        if reply.status == 429 {
            break reply;
        }
        answered += 1;
        assert!(answered < 3, "two a minute, and what was left of fifty");
    };
    assert!(
        refused.body["detail"].as_str().unwrap().contains("More than 2 requests a minute of this tenant")
    );
    assert_eq!(policy_of(&other).await, r#""tenant";q=50;w=60"#);
}

#[tokio::test]
async fn an_address_that_guesses_is_refused_and_who_was_let_in_there_goes_on() {
    let server = Server::start_with(&[("SA01_RATE_LIMIT_ADDRESS", "6")]).await;
    let (api, late) = (server.api(), server.member("late@example.org", &["user"]).await);
    assert_eq!(api.get("/api/v2/me").await.status, 200);
    let guess = server.api().with_key(&format!("soma_{}", "A".repeat(43)));
    for _ in 0..6 {
        assert_eq!(guess.get("/api/v2/me").await.status, 401);
    }
    assert_eq!(guess.get("/api/v2/me").await.problem(429), "rate_limited");
    assert_eq!(guess.without_key().get("/health/live").await.problem(429), "rate_limited");
    assert_eq!(late.get("/api/v2/me").await.problem(429), "rate_limited");
    for _ in 0..10 {
        assert_eq!(api.get("/api/v2/me").await.status, 200);
    }
    let mut elsewhere = connect(&server, "127.0.0.2").await;
    elsewhere
        .write_all(b"GET /health/live HTTP/1.1\r\nhost: soma\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    assert!(text(&closed(elsewhere).await).starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up() {
    let server = Server::start_with(&[("SA01_REQUEST_TIMEOUT", "1")]).await;
    let mut stream = connect(&server, "127.0.0.1").await;
    let head = format!(
        "POST /api/v2/conversations HTTP/1.1\r\nhost: soma\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\n\r\n{{",
        server.api_key()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = text(&closed(stream).await);
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"code\":\"timeout\""), "{answer}");
}

#[tokio::test]
async fn requests_are_counted_by_their_route_and_not_by_what_clients_make_up() {
    let server = Server::start().await;
    let api = server.api();
    for number in 0..3 {
        api.get(&format!("/api/v2/runs/made-up-{number}")).await.problem(404);
        api.get(&format!("/api/made-up-{number}")).await.problem(404);
    }
    api.post("/api/v2/conversations", json!({ "agent": "default" })).await.expect(201);
    for (labels, count) in [
        (r#"{method="GET",route="/api/v2/runs/{id}",status="404"}"#, 3),
        (r#"{method="GET",route="none",status="404"}"#, 3),
        (r#"{method="POST",route="/api/v2/conversations",status="201"}"#, 1),
    ] {
        assert_eq!(counter(&api, "gateway_requests_total", labels).await, count, "{labels}");
    }
    let metrics = api.get("/metrics").await.expect(200);
    let metrics = metrics.as_str().unwrap();
    assert!(metrics.contains("gateway_request_seconds_bucket{") && !metrics.contains("made-up"), "{metrics}");
}
