//! Signing in at an identity provider that the tests hold in their hands: who is let in, as whom, and with what. That
//! it works with a provider of the world is for `on_keycloak`.

use platform::{
    database::{Error, Sql},
    params,
};
use reqwest::Method;
use serde_json::{Value, json};
use testing::identity_provider::{IdentityProvider, SigningKey, hs256, merged, unsigned_token};
use url::Url;

use crate::harness::{ADMIN, Api, Browser, Page, Server, parameter, text, until};

const LOGIN: &str = "/api/v2/auth/oidc/login";
const CALLBACK: &str = "/api/v2/auth/oidc/callback";
const PUBLIC_URL: &str = "http://127.0.0.1:8080";
const AUDIENCE: &str = "soma-api";
const GROUPS: &str = "admins=owner,staff=member";

struct World {
    there: IdentityProvider,
    key: SigningKey,
    server: Server,
}

impl World {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let there = IdentityProvider::start();
        let key = SigningKey::rsa("one");
        there.publish(&[&key]);
        let issuer = there.issuer();
        let own = [
            ("SA01_OIDC_ISSUER", issuer.as_str()),
            ("SA01_KEYCLOAK_CLIENT_ID", "soma"),
            ("SA01_OIDC_GROUP_ROLES", GROUPS),
            ("SA01_OIDC_AUDIENCE", AUDIENCE),
            ("SA01_PUBLIC_URL", PUBLIC_URL),
        ];
        let server = Server::start_with(&[&own[..], settings].concat()).await;
        Self { there, key, server }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.base())
    }

    /// Begins to sign in; where the provider is asked.
    async fn begin(&self, browser: &mut Browser) -> Url {
        browser.open(&self.url(&format!("{LOGIN}?return_to=/c/1%3Fx%3Dy"))).await.location()
    }

    /// What the provider would say of somebody who began so, with these changes.
    fn claims(&self, asked: &Url, changes: &Value) -> Value {
        let now = platform::durable::unix_ms() / 1000;
        let good = json!({
            "iss": self.there.issuer(), "sub": "s-grace", "aud": "soma", "nonce": parameter(asked, "nonce"),
            "iat": now, "exp": now + 300, "sid": "stay-1",
            "email": "Grace@Example.org", "email_verified": true, "name": "Grace", "groups": ["/staff"],
        });
        merged(&good, changes)
    }

    /// Comes back from the provider with this answer.
    async fn come_back(&self, browser: &mut Browser, answer: &[(&str, &str)]) -> Page {
        let url = Url::parse_with_params(&self.url(CALLBACK), answer).unwrap();
        browser.open(url.as_str()).await
    }

    /// Signs in as somebody of whom the provider says that.
    async fn sign_in(&self, browser: &mut Browser, changes: Value) -> Page {
        let asked = self.begin(browser).await;
        let id_token = self.key.token(&self.claims(&asked, &changes));
        self.there
            .answer_tokens(json!({ "access_token": "a", "id_token": id_token, "token_type": "Bearer" }));
        let state = parameter(&asked, "state").unwrap();
        self.come_back(browser, &[("state", &state), ("code", "a code")]).await
    }

    /// The API for whoever signed in with this browser.
    fn api(&self, browser: &Browser) -> Api {
        let token = browser.cookie(self.server.base(), "session_id").expect("a session");
        self.server.api().with_session(token)
    }

    /// The audit's entries of one action, newest first.
    async fn audited(&self, action: &str) -> Vec<Value> {
        let page =
            self.server.api().get(&format!("/api/v2/audit?limit=200&action={action}")).await.expect(200);
        page["items"].as_array().unwrap().clone()
    }
}

/// Nobody was signed in; the code of the reason that the page will tell.
#[track_caller]
fn refused(page: &Page, browser: &Browser, base: &str) -> String {
    assert_eq!(browser.cookie(base, "session_id"), None, "{page:?}");
    let location = page.location();
    assert_eq!(location.path(), "/sign-in", "{location}");
    parameter(&location, "error").unwrap()
}

#[tokio::test]
async fn somebody_of_the_provider_becomes_a_member_with_the_roles_of_their_groups() {
    let world = World::start(&[("SA01_OIDC_NAME", "Acme")]).await;
    let methods = world.server.api().without_key().get("/api/v2/auth/methods").await.expect(200);
    assert_eq!(methods["oidc"], json!({ "name": "Acme" }));

    let mut browser = Browser::new();
    let page = world.sign_in(&mut browser, json!({})).await;
    assert_eq!(page.location().as_str(), world.url("/c/1?x=y"));
    assert_eq!(browser.cookie(world.server.base(), "oidc_sign_in"), None, "it is used up");
    let me = world.api(&browser).get("/api/v2/me").await.expect(200);
    assert_eq!(
        (&me["email"], &me["name"], &me["roles"], &me["tenant"]["slug"]),
        (&json!("grace@example.org"), &json!("Grace"), &json!(["user"]), &json!("default"))
    );
    world.api(&browser).conversation().await;

    // A role by hand stays; those of the groups follow the groups.
    let given = json!({ "user_id": me["user_id"], "role": "viewer" });
    world.server.api().post("/api/v2/permissions/assignments", given).await.expect(201);
    for (groups, roles) in [
        (
            json!(["admins", "unknown"]),
            json!(["billing_admin", "security_auditor", "tenant_admin", "viewer"]),
        ),
        (json!(["unknown"]), json!(["viewer"])),
        (json!("admins"), json!(["viewer"])),
        (json!(["staff"]), json!(["user", "viewer"])),
    ] {
        let mut other = Browser::new();
        world.sign_in(&mut other, json!({ "groups": groups, "email": "other@example.org" })).await.location();
        let api = world.api(&other);
        let me = api.get("/api/v2/me").await.expect(200);
        assert_eq!((&me["roles"], &me["email"]), (&roles, &json!("grace@example.org")), "{groups}");
    }
    // A role that groups gave too is by hand once somebody gives it.
    let given = json!({ "user_id": me["user_id"], "role": "member" });
    world.server.api().post("/api/v2/permissions/assignments", given).await.expect(201);
    world.sign_in(&mut browser, json!({ "groups": [] })).await.location();
    let now = world.api(&browser).get("/api/v2/me").await.expect(200);
    assert_eq!(now["roles"], json!(["user", "viewer"]));

    let signed_in = world.audited("session:create").await;
    assert_eq!(signed_in.len(), 6);
    assert!(signed_in.iter().all(|entry| entry["reason"] == "oidc" && entry["actor_id"] == me["user_id"]));
    let made = world.audited("user:create").await;
    assert_eq!((made.len(), &made[0]["details"]["subject"]), (1, &json!("s-grace")));
    let changed = world.audited("user:assign_roles").await;
    let by_groups: Vec<_> = changed.iter().filter(|entry| entry["reason"] == "oidc_groups").collect();
    assert_eq!(by_groups.len(), 4);
    assert_eq!(by_groups[3]["details"], json!({ "given": ["user"], "withdrawn": [], "kept": [] }));
}

#[tokio::test]
async fn whom_the_provider_signs_in_is_asked_for_a_second_factor_there_and_not_here() {
    let world = World::start(&[]).await;
    let setting = "/api/v2/settings/tenant/mfa_policy";
    world.server.api().put(setting, json!({ "value": "required" })).await.expect(204);
    let mut browser = Browser::new();
    world.sign_in(&mut browser, json!({})).await.location();
    world.api(&browser).conversation().await;
    assert_eq!(world.api(&browser).get("/api/v2/me").await.expect(200)["totp_required"], false);
}

#[tokio::test]
async fn groups_never_take_away_a_tenants_last_administrator() {
    let world = World::start(&[]).await;
    let mut browser = Browser::new();
    let me = async |browser: &Browser| world.api(browser).get("/api/v2/me").await.expect(200);
    world.sign_in(&mut browser, json!({ "groups": ["admins"] })).await.location();
    let grace = me(&browser).await["user_id"].clone();
    for assignment in
        world.server.api().get("/api/v2/permissions/assignments").await.expect(200).as_array().unwrap()
    {
        if assignment["role"] == "tenant_admin" && assignment["user_id"] != grace {
            let user = assignment["user_id"].as_str().unwrap();
            let path = format!("/api/v2/permissions/assignments/{user}/tenant_admin");
            world.server.api().delete(&path).await.expect(204);
        }
    }
    world.sign_in(&mut browser, json!({ "groups": ["staff"] })).await.location();
    assert_eq!(me(&browser).await["roles"], json!(["tenant_admin", "user"]));
    let noted = world.audited("user:assign_roles").await;
    assert_eq!(
        noted[0]["details"],
        json!({ "given": ["user"], "withdrawn": ["billing_admin", "security_auditor"], "kept": ["tenant_admin"] })
    );

    let other = world.server.user("other@example.org", &[]).await;
    let given = json!({ "user_id": other, "role": "owner" });
    world.server.api().post("/api/v2/permissions/assignments", given).await.expect(201);
    world.sign_in(&mut browser, json!({ "groups": ["staff"] })).await.location();
    assert_eq!(me(&browser).await["roles"], json!(["user"]));
}

#[tokio::test]
async fn a_sign_in_comes_back_once_to_the_browser_that_began_it() {
    let world = World::start(&[]).await;
    let base = world.server.base();
    let mut browser = Browser::new();
    let asked = world.begin(&mut browser).await;
    let state = parameter(&asked, "state").unwrap();
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "soma"),
        ("code_challenge_method", "S256"),
        ("redirect_uri", &format!("{PUBLIC_URL}{CALLBACK}")),
        ("scope", "openid profile email"),
    ] {
        assert_eq!(parameter(&asked, name).as_deref(), Some(value));
    }
    let id_token = world.key.token(&world.claims(&asked, &json!({})));
    world.there.answer_tokens(json!({ "access_token": "a", "id_token": id_token, "token_type": "Bearer" }));
    let good = [("state", state.as_str()), ("code", "a code")];

    let mut other = Browser::new();
    world.begin(&mut other).await;
    assert_eq!(refused(&world.come_back(&mut other, &good).await, &other, base), "sign_in_ended");
    let mut none = Browser::new();
    assert_eq!(refused(&world.come_back(&mut none, &good).await, &none, base), "sign_in_ended");
    for wrong in [&[("state", "x"), ("code", "a code")][..], &[("code", "a code")], &[]] {
        let mut copy = browser.clone();
        assert_eq!(refused(&world.come_back(&mut copy, wrong).await, &copy, base), "sign_in_ended");
    }
    // A program gets the problem itself.
    let reply = Api::reply(world.server.api().without_key().request(Method::GET, CALLBACK)).await;
    assert_eq!(reply.problem(400), "sign_in_ended");
    assert!(world.there.forms().is_empty(), "no code was exchanged");

    let mut copy = browser.clone();
    world.come_back(&mut browser, &good).await.location();
    world.api(&browser).get("/api/v2/me").await.expect(200);
    assert_eq!(refused(&world.come_back(&mut copy, &good).await, &copy, base), "sign_in_ended", "once");
    let forms = world.there.forms();
    assert_eq!(forms.len(), 1);
    assert!(forms[0].contains("code_verifier=") && forms[0].contains("client_id=soma"), "{forms:?}");
}

#[tokio::test]
async fn nobody_is_let_in_by_an_answer_that_is_not_right() {
    let world = World::start(&[]).await;
    let base = world.server.base();
    for (changes, code) in [
        (json!({ "nonce": "another" }), "provider_refused"),
        (json!({ "aud": "another" }), "provider_refused"),
        (json!({ "iss": "https://evil.example" }), "provider_refused"),
        (json!({ "email_verified": false }), "email_not_verified"),
        (json!({ "email": null }), "email_not_verified"),
        (json!({ "email": "no address" }), "email_not_verified"),
    ] {
        let mut browser = Browser::new();
        let page = world.sign_in(&mut browser, changes.clone()).await;
        assert_eq!(refused(&page, &browser, base), code, "{changes}");
    }
    let mut browser = Browser::new();
    for answer in [
        &[("error", "access_denied")][..],
        &[("code", "a code"), ("iss", "https://evil.example")],
        &[("code", "")],
    ] {
        let asked = world.begin(&mut browser).await;
        let state = parameter(&asked, "state").unwrap();
        let answer = [&[("state", state.as_str())], answer].concat();
        let page = world.come_back(&mut browser, &answer).await;
        assert_eq!(refused(&page, &browser, base), "not_signed_in", "{answer:?}");
    }
    world.there.answer_tokens(json!({ "error": "invalid_grant" }));
    let asked = world.begin(&mut browser).await;
    let state = parameter(&asked, "state").unwrap();
    let answer = [("state", state.as_str()), ("code", "used before")];
    let page = world.come_back(&mut browser, &answer).await;
    assert_eq!(refused(&page, &browser, base), "provider_unavailable", "an answer without tokens");
    assert!(world.audited("user:create").await.is_empty());
}

#[tokio::test]
async fn an_account_that_is_here_is_linked_only_where_the_operator_allows_it() {
    let world = World::start(&[]).await;
    let mut browser = Browser::new();
    let page = world.sign_in(&mut browser, json!({ "email": ADMIN })).await;
    assert_eq!(refused(&page, &browser, world.server.base()), "account_exists");
    let refusals = world.audited("session:refuse").await;
    assert_eq!((refusals.len(), &refusals[0]["reason"]), (1, &json!("oidc_not_linked")));

    let world = World::start(&[("SA01_OIDC_LINK_EMAIL", "true")]).await;
    let mut browser = Browser::new();
    world.sign_in(&mut browser, json!({ "email": ADMIN, "groups": [] })).await.location();
    let me = world.api(&browser).get("/api/v2/me").await.expect(200);
    let admin = world.server.api().get("/api/v2/me").await.expect(200);
    assert_eq!(
        (&me["user_id"], &me["roles"]),
        (&admin["user_id"], &admin["roles"]),
        "what was by hand stays"
    );
    assert_eq!(world.audited("external_identity:create").await.len(), 1);

    // Whoever was invited under somebody else's address loses the account to its owner.
    let api = world.server.api();
    let invited = api.post("/api/v2/invitations", json!({ "email": "ceo@example.org" })).await.expect(201);
    let token = invited["link"].as_str().unwrap().split_once("/link#").unwrap().1;
    let taken = json!({ "token": token, "password": "a password of the inviter" });
    let taken = api.without_key().post("/api/v2/auth/links/redeem", taken).await;
    let inviter = api.in_session(&taken);
    inviter.get("/api/v2/me").await.expect(200);
    let mut owner = Browser::new();
    world
        .sign_in(&mut owner, json!({ "email": "ceo@example.org", "sub": "s-ceo", "groups": [] }))
        .await
        .location();
    world.api(&owner).get("/api/v2/me").await.expect(200);
    assert_eq!(inviter.get("/api/v2/me").await.problem(401), "unauthenticated");
    let again = json!({ "email": "ceo@example.org", "password": "a password of the inviter" });
    assert_eq!(api.without_key().post("/api/v2/auth/login", again).await.problem(401), "bad_credentials");

    // One with a second factor is not: it would be passed by.
    let careful = world.server.person("careful@example.org", &["user"]).await;
    careful.post("/api/v2/me/totp", json!({})).await.expect(200);
    let sql = "UPDATE totp_devices SET confirmed_at = 1";
    let database = world.server.database().await;
    let confirmed = database.write(move |tx| Box::pin(async move { tx.run(sql, params![]).await }));
    assert_eq!(confirmed.await.unwrap_or_else(|error: Error| panic!("{error}")), 1);
    let mut other = Browser::new();
    let page = world.sign_in(&mut other, json!({ "email": "careful@example.org", "sub": "s-careful" })).await;
    assert_eq!(refused(&page, &other, world.server.base()), "account_exists");
}

#[tokio::test]
async fn the_provider_ends_sessions_and_a_session_ends_at_the_provider() {
    let world = World::start(&[]).await;
    let mut browser = Browser::new();
    world.sign_in(&mut browser, json!({})).await.location();
    let api = world.api(&browser);
    let left = api.post("/api/v2/auth/oidc/logout", json!({})).await.expect(200);
    let location = Url::parse(left["location"].as_str().unwrap()).unwrap();
    assert_eq!(location.path(), "/logout");
    assert!(parameter(&location, "id_token_hint").unwrap().starts_with("ey"));
    assert_eq!(parameter(&location, "post_logout_redirect_uri").unwrap(), format!("{PUBLIC_URL}/"));
    assert_eq!(api.get("/api/v2/me").await.problem(401), "unauthenticated");
    let again = api.post("/api/v2/auth/oidc/logout", json!({})).await.expect(200);
    assert_eq!(again, json!({ "location": null }));

    let mut stays = Vec::new();
    for stay in ["stay-1", "stay-2"] {
        world.sign_in(&mut browser, json!({ "sid": stay })).await.location();
        stays.push(world.api(&browser));
    }
    let event = json!({ "http://schemas.openid.net/event/backchannel-logout": {} });
    let now = platform::durable::unix_ms() / 1000;
    let claims = json!({
        "iss": world.there.issuer(), "aud": "soma", "sub": "s-grace", "sid": "stay-1", "iat": now, "exp": now + 60,
        "jti": "1", "events": event,
    });
    let says = async |token: String| {
        let form = format!("logout_token={token}");
        let path = "/api/v2/auth/oidc/back-channel-logout";
        let request = world.server.api().without_key().request(Method::POST, path);
        Api::reply(request.header("content-type", "application/x-www-form-urlencoded").body(form)).await
    };
    for forged in [
        world.key.token(&merged(&claims, &json!({ "events": null }))),
        world.key.token(&merged(&claims, &json!({ "aud": "another" }))),
        SigningKey::rsa("one").token(&claims),
        unsigned_token("none", &claims),
        String::new(),
    ] {
        assert_eq!(says(forged).await.problem(403), "provider_refused");
    }
    stays[0].get("/api/v2/me").await.expect(200);
    assert_eq!(says(world.key.token(&claims)).await.status, 200);
    assert_eq!(stays[0].get("/api/v2/me").await.problem(401), "unauthenticated");
    stays[1].get("/api/v2/me").await.expect(200);
    let all = merged(&claims, &json!({ "sid": null }));
    assert_eq!(says(world.key.token(&all)).await.status, 200);
    assert_eq!(stays[1].get("/api/v2/me").await.problem(401), "unauthenticated");
    let ended = world.audited("session:delete").await;
    assert_eq!(ended.iter().filter(|entry| entry["reason"] == "oidc_provider").count(), 2);
}

#[tokio::test]
async fn a_forged_token_opens_nothing_and_makes_nothing_be_fetched() {
    let world = World::start(&[]).await;
    let mut browser = Browser::new();
    world.sign_in(&mut browser, json!({})).await.location();
    let now = platform::durable::unix_ms() / 1000;
    let claims = |changes: Value| {
        let good = json!({
            "iss": world.there.issuer(), "sub": "s-grace", "aud": AUDIENCE, "azp": "a-program", "typ": "Bearer",
            "iat": now, "exp": now + 300,
        });
        merged(&good, &changes)
    };
    let me = async |token: &str| world.server.api().with_key(token).get("/api/v2/me").await;
    let good = me(&world.key.token(&claims(json!({})))).await.expect(200);
    assert_eq!((&good["email"], &good["credential"]), (&json!("grace@example.org"), &json!("access_token")));

    let before = world.there.seen();
    let there = world.there.issuer();
    let stranger = SigningKey::rsa("one");
    let public = world.key.public_bytes();
    let with = |header: Value| world.key.token_with(&header, &claims(json!({})));
    let says = |changes: Value| world.key.token(&claims(changes));
    for (of, token) in [
        ("none", unsigned_token("none", &claims(json!({})))),
        ("HS256 with the public key", hs256(&public, &json!({ "kid": "one" }), &claims(json!({})))),
        ("another's key", stranger.token(&claims(json!({})))),
        ("kid as a path", with(json!({ "kid": "../../etc/passwd" }))),
        ("kid as SQL", with(json!({ "kid": "one' OR '1'='1" }))),
        ("kid as an address", with(json!({ "kid": format!("{there}/kid") }))),
        ("an embedded key", stranger.token_with(&json!({ "jwk": stranger.jwk() }), &claims(json!({})))),
        ("jku", with(json!({ "jku": format!("{there}/jku") }))),
        ("x5u", with(json!({ "x5u": format!("{there}/x5u") }))),
        ("another issuer", says(json!({ "iss": "https://evil.example" }))),
        ("another audience", says(json!({ "aud": "account" }))),
        ("exp as text", says(json!({ "exp": "9999999999" }))),
        ("a huge exp", says(json!({ "exp": 1e30 }))),
        ("a far exp", says(json!({ "exp": 9_999_999_999_i64 }))),
        ("ended", says(json!({ "exp": now - 60 }))),
        ("an ID token", says(json!({ "typ": "ID", "nonce": "n", "aud": "soma" }))),
        ("an ID token for the API", says(json!({ "typ": null, "aud": ["soma", AUDIENCE] }))),
        ("a refresh token", says(json!({ "typ": "Refresh" }))),
        ("somebody unknown", says(json!({ "sub": "s-eve" }))),
    ] {
        let reply = me(&token).await;
        assert_eq!(reply.problem(401), "unauthenticated", "{of}");
        assert_eq!(reply.headers["www-authenticate"], "Bearer", "{of}");
    }
    assert_eq!(world.there.seen(), before, "nothing was fetched");
    assert_eq!(before.get("/keys"), Some(&1));
}

#[tokio::test]
async fn without_a_provider_there_is_nothing_and_with_a_bad_one_the_program_says_so() {
    let server = Server::start().await;
    let api = server.api().without_key();
    assert_eq!(api.get("/api/v2/auth/methods").await.expect(200)["oidc"], Value::Null);
    for path in [LOGIN, CALLBACK] {
        assert_eq!(api.get(path).await.problem(404), "not_found", "{path}");
    }
    for (settings, named) in [
        (
            &[("SA01_OIDC_ISSUER", "http://id.example.org"), ("SA01_KEYCLOAK_CLIENT_ID", "soma")][..],
            "SA01_OIDC_ISSUER",
        ),
        (&[("SA01_KEYCLOAK_URL", "https://id.example.org")], "SA01_KEYCLOAK_REALM"),
        (
            &[
                ("SA01_OIDC_ISSUER", "https://id.example.org"),
                ("SA01_KEYCLOAK_CLIENT_ID", "soma"),
                ("SA01_OIDC_GROUP_ROLES", "admins=saas_super_admin"),
            ],
            "saas_super_admin",
        ),
    ] {
        let output = Server::installed(settings).run(&["serve", "--listen", "127.0.0.1:0"]);
        assert!(!output.status.success());
        let said = text(&output.stderr);
        assert!(said.contains(named), "{said}");
    }
    // One that is away is no reason not to start, and is found when it is back.
    let world = World::start(&[]).await;
    world.there.set_broken(true);
    let mut browser = Browser::new();
    let page = browser.open(&world.url(LOGIN)).await;
    assert_eq!(refused(&page, &browser, world.server.base()), "provider_unavailable");
    world.there.set_broken(false);
    until("the provider is asked again", || async {
        let mut browser = Browser::new();
        let page = browser.open(&world.url(LOGIN)).await;
        (page.location().path() == "/authorize").then_some(())
    })
    .await;
}
