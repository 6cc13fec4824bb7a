//! Signing in at a real Keycloak: through its login form, by a realm of each test's own.
//!
//! `scripts/engines` starts the server, unless it is up, and leaves it up for the next run. A test that can't have it
//! fails.

use std::sync::LazyLock;

use contracts::RunId;
use reqwest::Method;
use serde_json::{Value, json};
use testing::engines::{Printed, engines};
use url::{Url, form_urlencoded};

use crate::harness::{Api, Browser, Page, Reply, Server, parameter, until};

const LOGIN: &str = "/api/v2/auth/oidc/login";
const LOGOUT: &str = "/api/v2/auth/oidc/logout";
const BACK_CHANNEL: &str = "/api/v2/auth/oidc/back-channel-logout";
const PUBLIC_URL: &str = "http://127.0.0.1:8080";
const AUDIENCE: &str = "soma-api";
const PERSON: &str = "grace";
const EMAIL: &str = "grace@example.org";

/// What `scripts/engines` prints of the server that the tests share.
static SERVER: LazyLock<Printed> = LazyLock::new(|| engines(&["up", "keycloak"]));

fn printed(name: &str) -> &'static str {
    SERVER.setting(name)
}

/// A realm with one person in the groups `admins` and `other`, a client for the server, and the server.
struct Realm {
    name: String,
    secret: String,
    password: String,
    server: Server,
}

impl Realm {
    async fn start() -> Self {
        let random = || RunId::new().to_string();
        let (name, secret, password) = (random(), random(), random());
        let server = Server::start_with(&[
            ("SA01_KEYCLOAK_URL", printed("SA01_KEYCLOAK_URL")),
            ("SA01_KEYCLOAK_REALM", &name),
            ("SA01_KEYCLOAK_CLIENT_ID", "soma"),
            ("SA01_KEYCLOAK_CLIENT_SECRET", &secret),
            ("SA01_OIDC_GROUP_ROLES", "admins=owner,staff=member"),
            ("SA01_OIDC_AUDIENCE", AUDIENCE),
            ("SA01_PUBLIC_URL", PUBLIC_URL),
        ])
        .await;
        let realm = Self { name, secret, password, server };
        let mapper = |name: &str, kind: &str, config: Value| json!({ "name": name, "protocol": "openid-connect", "protocolMapper": kind, "config": config });
        let groups = mapper(
            "groups",
            "oidc-group-membership-mapper",
            json!({ "claim.name": "groups", "full.path": "true", "id.token.claim": "true", "access.token.claim": "true" }),
        );
        let audience = mapper(
            "audience",
            "oidc-audience-mapper",
            json!({ "included.custom.audience": AUDIENCE, "access.token.claim": "true", "id.token.claim": "false" }),
        );
        let client = |id: &str, mappers: Value| {
            json!({
                "clientId": id, "secret": realm.secret, "publicClient": false, "protocol": "openid-connect",
                "standardFlowEnabled": true, "directAccessGrantsEnabled": true,
                "redirectUris": [format!("{PUBLIC_URL}/*")], "protocolMappers": mappers,
                "attributes": {
                    "pkce.code.challenge.method": "S256",
                    "post.logout.redirect.uris": "+",
                    "backchannel.logout.url": format!("{}{BACK_CHANNEL}", realm.server.base()),
                    "backchannel.logout.session.required": "true",
                },
            })
        };
        let made = json!({
            "realm": realm.name, "enabled": true,
            "groups": [{ "name": "admins" }, { "name": "staff" }, { "name": "other" }],
            "clients": [client("soma", json!([groups, audience])), client("another", json!([]))],
            "users": [{
                "username": PERSON, "enabled": true, "email": EMAIL, "emailVerified": true,
                "firstName": "Grace", "lastName": "Hopper", "groups": ["/admins", "/other"],
                "credentials": [{ "type": "password", "value": realm.password, "temporary": false }],
            }],
        });
        assert_eq!(admin(Method::POST, "", Some(&made)).await.status, 201);
        realm
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.base())
    }

    fn address(&self, path: &str) -> String {
        format!("{}/realms/{}/protocol/openid-connect/{path}", printed("SA01_KEYCLOAK_URL"), self.name)
    }

    /// Begins to sign in, up to Keycloak's answer to the browser.
    async fn ask(&self, browser: &mut Browser) -> Page {
        let asked = browser.open(&self.url(&format!("{LOGIN}?return_to=/c/1"))).await.location();
        assert!(asked.as_str().starts_with(&self.address("auth")), "{asked}");
        browser.open(asked.as_str()).await
    }

    /// The address of this server that Keycloak sends the browser back to, once its form was filled in.
    async fn sign_in_there(&self, browser: &mut Browser) -> String {
        let action = self.ask(browser).await.form_action();
        let fields = [("username", PERSON), ("password", self.password.as_str())];
        let back = browser.submit(&action, &fields).await.location();
        assert!(back.as_str().starts_with(PUBLIC_URL), "{back}");
        // The server listens elsewhere than where people are said to reach it.
        self.url(&back.as_str()[PUBLIC_URL.len()..])
    }

    async fn sign_in(&self, browser: &mut Browser) -> Api {
        let back = self.sign_in_there(browser).await;
        let page = browser.open(&back).await;
        assert_eq!(page.location().as_str(), self.url("/c/1"), "{page:?}");
        self.api(browser)
    }

    fn api(&self, browser: &Browser) -> Api {
        let token = browser.cookie(self.server.base(), "session_id").expect("a session");
        self.server.api().with_session(token)
    }

    /// The id of the person, as Keycloak knows them.
    async fn person(&self) -> String {
        let found =
            admin(Method::GET, &format!("/{}/users?username={PERSON}", self.name), None).await.expect(200);
        found[0]["id"].as_str().expect("an id").to_owned()
    }

    /// Puts the person into a group, or takes them out of it.
    async fn set_member(&self, group: &str, member: bool) {
        let groups =
            admin(Method::GET, &format!("/{}/groups?search={group}", self.name), None).await.expect(200);
        let group = groups[0]["id"].as_str().expect("an id");
        let path = format!("/{}/users/{}/groups/{group}", self.name, self.person().await);
        let method = if member { Method::PUT } else { Method::DELETE };
        assert_eq!(admin(method, &path, None).await.status, 204);
    }

    /// Tokens of the person for a client, as a program would get them.
    async fn tokens(&self, client: &str) -> Value {
        token(
            &self.address("token"),
            &[
                ("grant_type", "password"),
                ("client_id", client),
                ("client_secret", &self.secret),
                ("username", PERSON),
                ("password", &self.password),
                ("scope", "openid"),
            ],
        )
        .await
    }
}

async fn token(url: &str, form: &[(&str, &str)]) -> Value {
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let url = Url::parse(url).unwrap();
    let api = Api::new(&url.origin().ascii_serialization(), None);
    let request = api.request(Method::POST, url.path());
    Api::reply(request.header("content-type", "application/x-www-form-urlencoded").body(form))
        .await
        .expect(200)
}

/// Keycloak's own interface, for realms.
async fn admin(method: Method, path: &str, body: Option<&Value>) -> Reply {
    let base = printed("SA01_KEYCLOAK_URL");
    let form = [
        ("grant_type", "password"),
        ("client_id", "admin-cli"),
        ("username", printed("KEYCLOAK_ADMIN")),
        ("password", printed("KEYCLOAK_ADMIN_PASSWORD")),
    ];
    let tokens = token(&format!("{base}/realms/master/protocol/openid-connect/token"), &form).await;
    let api = Api::new(base, tokens["access_token"].as_str());
    api.call(method, &format!("/admin/realms{path}"), body).await
}

/// Nobody was signed in; the code of the reason.
#[track_caller]
fn refused(page: &Page, browser: &Browser, realm: &Realm) -> String {
    assert_eq!(browser.cookie(realm.server.base(), "session_id"), None);
    parameter(&page.location(), "error").unwrap()
}

#[tokio::test]
async fn somebody_signs_in_and_has_the_roles_of_their_groups_while_they_are_in_them() {
    let realm = Realm::start().await;
    let mut browser = Browser::new();
    let wrong = realm.ask(&mut browser).await.form_action();
    let page = browser.submit(&wrong, &[("username", PERSON), ("password", "wrong")]).await;
    assert_eq!(page.status, 200, "Keycloak asks again");

    let api = realm.sign_in(&mut browser).await;
    let me = api.get("/api/v2/me").await.expect(200);
    assert_eq!(
        (&me["email"], &me["name"], &me["roles"]),
        (
            &json!(EMAIL),
            &json!("Grace Hopper"),
            &json!(["billing_admin", "security_auditor", "tenant_admin"])
        )
    );
    api.conversation().await;

    realm.set_member("admins", false).await;
    realm.set_member("staff", true).await;
    let later = realm.sign_in(&mut Browser::new()).await;
    assert_eq!(later.get("/api/v2/me").await.expect(200)["roles"], json!(["user"]));
    assert_eq!(api.get("/api/v2/audit").await.problem(403), "denied", "in the session of before, too");

    let audit = realm.server.api().get("/api/v2/audit?limit=200&action=session:create").await.expect(200);
    let signed_in = audit["items"].as_array().unwrap();
    assert_eq!(signed_in.len(), 2);
    assert!(signed_in.iter().all(|entry| entry["reason"] == "oidc" && entry["actor_id"] == me["user_id"]));
}

#[tokio::test]
async fn a_wrong_state_another_browser_or_a_code_that_was_used_signs_nobody_in() {
    let realm = Realm::start().await;
    let mut browser = Browser::new();
    let back = realm.sign_in_there(&mut browser).await;
    let url = Url::parse(&back).unwrap();
    let (code, issuer) = (parameter(&url, "code").unwrap(), parameter(&url, "iss").unwrap());

    let mut other = Browser::new();
    realm.ask(&mut other).await;
    assert_eq!(refused(&other.open(&back).await, &other, &realm), "sign_in_ended");
    let wrong = back.replace("state=", "state=x");
    let mut copy = browser.clone();
    assert_eq!(refused(&copy.open(&wrong).await, &copy, &realm), "sign_in_ended");

    let mut copy = browser.clone();
    browser.open(&back).await.location();
    realm.api(&browser).get("/api/v2/me").await.expect(200);
    assert_eq!(refused(&copy.open(&back).await, &copy, &realm), "sign_in_ended", "the same answer twice");

    // The code in another sign-in's answer: Keycloak has given it out once, and to another challenge.
    let asked = other.open(&realm.url(LOGIN)).await.location();
    let state = parameter(&asked, "state").unwrap();
    let answer = [("state", state.as_str()), ("code", &code), ("iss", &issuer)];
    let replayed = Url::parse_with_params(&realm.url(url.path()), answer).unwrap();
    assert_eq!(refused(&other.open(replayed.as_str()).await, &other, &realm), "provider_refused");
}

#[tokio::test]
async fn leaving_ends_the_stay_there_and_its_end_there_ends_the_session_here() {
    let realm = Realm::start().await;
    let mut browser = Browser::new();
    let api = realm.sign_in(&mut browser).await;
    let again = realm.ask(&mut browser).await;
    assert_eq!(again.status, 302, "Keycloak knows the browser: {}", again.body);

    let left = api.post(LOGOUT, json!({})).await.expect(200);
    assert_eq!(api.get("/api/v2/me").await.problem(401), "unauthenticated");
    let gone = browser.open(left["location"].as_str().unwrap()).await.location();
    assert_eq!(gone.as_str(), format!("{PUBLIC_URL}/"));
    realm.ask(&mut browser).await.form_action();

    let api = realm.sign_in(&mut browser).await;
    api.get("/api/v2/me").await.expect(200);
    let path = format!("/{}/users/{}/logout", realm.name, realm.person().await);
    assert_eq!(admin(Method::POST, &path, None).await.status, 204);
    until("Keycloak's word ends the session", || async {
        (api.get("/api/v2/me").await.status == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn its_access_token_opens_the_api_and_its_other_tokens_do_not() {
    let realm = Realm::start().await;
    let tokens = realm.tokens("soma").await;
    let me = async |tokens: &Value, name: &str| {
        let token = tokens[name].as_str().expect("a token");
        realm.server.api().with_key(token).get("/api/v2/me").await
    };
    let unknown = me(&tokens, "access_token").await;
    assert_eq!(unknown.problem(401), "unauthenticated", "somebody who was never here");

    realm.sign_in(&mut Browser::new()).await;
    let known = me(&tokens, "access_token").await.expect(200);
    assert_eq!(
        (&known["email"], &known["credential"], &known["roles"]),
        (
            &json!(EMAIL),
            &json!("access_token"),
            &json!(["billing_admin", "security_auditor", "tenant_admin"])
        )
    );
    assert_eq!(me(&tokens, "id_token").await.problem(401), "unauthenticated");
    assert_eq!(me(&tokens, "refresh_token").await.problem(401), "unauthenticated");
    let elsewhere = realm.tokens("another").await;
    assert_eq!(me(&elsewhere, "access_token").await.problem(401), "unauthenticated", "not meant for the API");
}
