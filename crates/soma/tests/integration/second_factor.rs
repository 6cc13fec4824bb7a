//! Authenticators: their codes and the backup codes work once, and nothing goes around them.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};

use crate::harness::{ADMIN, Api, PASSWORD, Reply, Server, every_file, run_in, text};

/// What an authenticator app shows: RFC 6238 with its defaults. `later` steps of 30 s ahead.
pub fn code(secret: &str, later: u64) -> String {
    let key = data_encoding::BASE32_NOPAD.decode(secret.as_bytes()).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(&key).unwrap();
    mac.update(&(now / 30 + later).to_be_bytes());
    let digest = mac.finalize().into_bytes();
    let at = usize::from(digest[19] & 15);
    let number = u32::from_be_bytes(digest[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

pub async fn login(server: &Server, code: Option<&str>) -> Reply {
    let body = json!({ "email": ADMIN, "password": PASSWORD, "code": code });
    server.api().without_key().post("/api/v2/auth/login", body).await
}

/// Sets an authenticator up; its secret and the backup codes.
pub async fn set_up(person: &Api) -> (String, Vec<String>) {
    let begun = person.post("/api/v2/me/totp", json!({})).await.expect(200);
    let secret = begun["secret"].as_str().unwrap().to_owned();
    let uri = begun["uri"].as_str().unwrap();
    assert!(
        uri.starts_with("otpauth://totp/SomaAgent01:") && uri.contains(&format!("secret={secret}")),
        "{uri}"
    );
    let confirmed =
        person.post("/api/v2/me/totp/confirm", json!({ "code": code(&secret, 0) })).await.expect(200);
    let codes = confirmed["backup_codes"].as_array().unwrap();
    (secret, codes.iter().map(|code| code.as_str().unwrap().to_owned()).collect())
}

#[tokio::test]
async fn signing_in_takes_a_code_that_works_once() {
    let server = Server::start().await;
    let ada = server.person(ADMIN, &[]).await;
    let begun = ada.post("/api/v2/me/totp", json!({})).await.expect(200);
    assert_eq!(login(&server, None).await.status, 200, "not before a code was confirmed");
    let wrong = ada.post("/api/v2/me/totp/confirm", json!({ "code": "000000x" })).await;
    assert_eq!(wrong.problem(422), "bad_code");
    let (secret, codes) = set_up(&ada).await;
    assert_ne!(begun["secret"], secret, "a new secret takes an unconfirmed one's place");
    assert_eq!(codes.len(), 10);
    assert_eq!(ada.post("/api/v2/me/totp", json!({})).await.problem(409), "totp_on");
    assert_eq!(ada.get("/api/v2/me").await.expect(200)["totp"], true);

    assert_eq!(login(&server, None).await.problem(401), "totp_required");
    let next = code(&secret, 1);
    assert_eq!(login(&server, Some(&next)).await.status, 200, "a clock may be a step ahead");
    assert_eq!(login(&server, Some(&next)).await.problem(401), "bad_code");
    assert_eq!(login(&server, Some(&code(&secret, 0))).await.problem(401), "bad_code", "nor an earlier one");

    assert_eq!(login(&server, Some(&codes[0].to_lowercase())).await.status, 200, "a backup code");
    assert_eq!(login(&server, Some(&codes[0])).await.problem(401), "bad_code");
}

#[tokio::test]
async fn keys_can_be_replaced_once_what_they_encrypted_is_encrypted_anew() {
    let mut server = Server::start().await;
    let ada = server.person(ADMIN, &[]).await;
    let (secret, _) = set_up(&ada).await;
    server.kill().await;
    let setting = "SA01_CRYPTO_FERNET_KEY";
    let old = server.settings[setting].clone();
    let new = "A".repeat(43) + "=";
    let reencrypt = |server: &Server| run_in(server.folder(), &server.settings, &["admin", "reencrypt"]);
    // Without the earlier key nothing can be read, and nothing is touched.
    server.settings.insert(setting.into(), new.clone());
    let refused = reencrypt(&server);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("1 were made by none of today's keys"), "{refused:?}");

    server.settings.insert(setting.into(), format!("{new},{old}"));
    let done = reencrypt(&server);
    assert!(text(&done.stderr).contains("1 secrets were encrypted anew"), "{done:?}");
    server.settings.insert(setting.into(), new);
    server.restart().await;

    assert_eq!(login(&server, Some(&code(&secret, 1))).await.status, 200);
}

#[tokio::test]
async fn no_link_goes_around_the_authenticator_and_only_a_code_or_an_administrator_takes_it_away() {
    let server = Server::start().await;
    let ada = server.person(ADMIN, &[]).await;
    let (_, codes) = set_up(&ada).await;
    let api = server.api().without_key();
    let redeem = |token: &str, code: Value| {
        let body = json!({ "token": token, "password": "another long password", "code": code });
        let api = api.clone();
        async move { api.post("/api/v2/auth/links/redeem", body).await }
    };
    let token = server.link(ADMIN);
    assert_eq!(redeem(&token, Value::Null).await.problem(401), "totp_required");
    assert_eq!(redeem(&token, json!("AAAA-AAAA-AAAA-AAAA")).await.problem(401), "bad_code");
    let again = api.in_session(&redeem(&token, json!(codes[0])).await);

    assert_eq!(
        again.post("/api/v2/me/totp/disable", json!({ "code": codes[0] })).await.problem(422),
        "bad_code"
    );
    assert_eq!(again.post("/api/v2/me/totp/disable", json!({ "code": codes[1] })).await.status, 204);
    assert_eq!(again.get("/api/v2/me").await.expect(200)["totp"], false);

    set_up(&again).await;
    let id = again.get("/api/v2/me").await.expect(200)["user_id"].as_str().unwrap().to_owned();
    let path = format!("/api/v2/users/{id}/totp");
    let owner = server.member("owner@example.org", &["tenant_admin"]).await;
    assert_eq!(
        owner.delete(&path).await.problem(403),
        "denied",
        "the platform's administrator is not a tenant's"
    );
    server.api().delete(&path).await.expect(204);
    assert_eq!(server.api().delete(&path).await.problem(404), "not_found");
}

#[tokio::test]
async fn codes_are_guessed_no_more_often_than_passwords() {
    let server = Server::start().await;
    let ada = server.person(ADMIN, &[]).await;
    let (secret, _) = set_up(&ada).await;
    for _ in 0..4 {
        assert_eq!(login(&server, Some("12345x")).await.problem(401), "bad_code");
    }
    assert_eq!(login(&server, None).await.problem(401), "totp_required", "which forgets no failure");
    assert_eq!(
        ada.post("/api/v2/me/totp/disable", json!({ "code": "12345x" })).await.problem(422),
        "bad_code"
    );
    assert_eq!(login(&server, Some(&code(&secret, 1))).await.problem(423), "locked");
}

#[tokio::test]
async fn the_secret_is_nowhere_on_disk_in_clear() {
    let server = Server::start().await;
    let ada = server.person(ADMIN, &[]).await;
    let (secret, codes) = set_up(&ada).await;
    every_file(&server.data(), &mut |path, bytes| {
        let text = text(bytes);
        let clear = text.contains(&secret) || codes.iter().any(|code| text.contains(code));
        assert!(!clear, "a secret is in {}", path.display());
    });
}

const POLICY: &str = "/api/v2/settings/tenant/mfa_policy";
/// Something that a member may do.
const ELSEWHERE: &str = "/api/v2/conversations";

#[tokio::test]
async fn where_a_tenant_asks_for_a_second_factor_who_has_none_can_only_set_one_up_and_leave() {
    let server = Server::start().await;
    let bob = server.person("bob@example.org", &["user"]).await;
    let program = server.member("bob@example.org", &["user"]).await;
    bob.get(ELSEWHERE).await.expect(200);
    server.api().put(POLICY, json!({ "value": "required" })).await.expect(204);

    let refused = bob.get(ELSEWHERE).await;
    assert_eq!(refused.problem(403), "totp_required_by_tenant");
    assert!(refused.body["detail"].as_str().unwrap().contains("POST /api/v2/me/totp"), "{}", refused.body);
    for path in ["/api/v2/me/sessions", "/api/v2/settings", "/v1/models", "/api/v2/nothing"] {
        assert_eq!(bob.get(path).await.status, 403, "{path}");
    }
    assert_eq!(
        bob.patch("/api/v2/me", json!({ "name": "Bob" })).await.problem(403),
        "totp_required_by_tenant"
    );
    assert_eq!(bob.get("/api/v2/me").await.expect(200)["totp_required"], true);
    program.get(ELSEWHERE).await.expect(200);
    assert_eq!(program.get("/api/v2/me").await.expect(200)["totp_required"], false);

    let (_, codes) = set_up(&bob).await;
    bob.get(ELSEWHERE).await.expect(200);
    assert_eq!(bob.get("/api/v2/me").await.expect(200)["totp_required"], false);
    bob.post("/api/v2/me/totp/disable", json!({ "code": codes[0] })).await.expect(204);
    assert_eq!(bob.get(ELSEWHERE).await.problem(403), "totp_required_by_tenant");
    bob.post("/api/v2/auth/logout", json!({})).await.expect(204);
    assert_eq!(bob.get("/api/v2/me").await.status, 401);

    // Signing in is possible, and comes to no more than that.
    let body = json!({ "email": "bob@example.org", "password": PASSWORD });
    let signed_in = server.api().without_key().post("/api/v2/auth/login", body).await;
    assert_eq!(signed_in.body["totp_required"], true, "{}", signed_in.body);
    let again = server.api().without_key().in_session(&signed_in);
    assert_eq!(again.get(ELSEWHERE).await.problem(403), "totp_required_by_tenant");
    server.api().delete(POLICY).await.expect(204);
    again.get(ELSEWHERE).await.expect(200);
}

#[tokio::test]
async fn where_a_tenant_wants_no_second_factors_none_is_set_up_and_one_that_is_there_still_counts() {
    let server = Server::start().await;
    let (ada, bob) = (server.person(ADMIN, &[]).await, server.person("bob@example.org", &["user"]).await);
    let (secret, _) = set_up(&ada).await;
    server.api().put(POLICY, json!({ "value": "off" })).await.expect(204);
    assert_eq!(bob.post("/api/v2/me/totp", json!({})).await.problem(409), "totp_not_allowed");
    assert_eq!(login(&server, None).await.problem(401), "totp_required");
    assert_eq!(login(&server, Some(&code(&secret, 1))).await.status, 200);

    let of_platform = "/api/v2/settings/platform/mfa_policy";
    server.api().put(of_platform, json!({ "value": "required" })).await.expect(204);
    assert_eq!(bob.get(ELSEWHERE).await.problem(403), "totp_required_by_tenant", "a tenant asks for no less");
    set_up(&bob).await;
    bob.get(ELSEWHERE).await.expect(200);
}
