//! Tokens, good and forged, against a provider that publishes its keys: what is taken, what is refused and why, and
//! what was fetched meanwhile.

use std::collections::BTreeMap;

use platform::{
    config::{Algorithm, Oidc},
    durable::unix_ms,
    egress::{AllowList, Egress},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use testing::identity_provider::{IdentityProvider, SigningKey, hs256, merged, unsigned_token};
use url::Url;

use super::{
    claims::{Ended, Person},
    provider::{Answered, Asked, Error, Provider},
    token::Refused,
};

const CLIENT: &str = "soma";
const AUDIENCE: &str = "soma-api";
const NONCE: &str = "n-0S6_WzA2Mj";
const ACCESS_TOKEN: &str = "an access token";

struct World {
    there: IdentityProvider,
    key: SigningKey,
    provider: Provider,
}

fn oidc(there: &IdentityProvider) -> Oidc {
    Oidc {
        issuer: there.issuer(),
        url: Url::parse(&there.issuer()).unwrap(),
        client_id: CLIENT.into(),
        client_secret: Some(SecretString::from("of the client, with a + in it")),
        name: "Test".into(),
        tenant: "default".into(),
        group_roles: BTreeMap::new(),
        audience: Some(AUDIENCE.into()),
        algorithms: vec![Algorithm::Rs256, Algorithm::Es256],
        leeway_s: 30,
        link_by_email: false,
    }
}

fn provider(oidc: Oidc) -> Provider {
    Provider::new(oidc, &Egress::new(AllowList::default())).unwrap()
}

impl World {
    fn new(key: SigningKey) -> Self {
        let there = IdentityProvider::start();
        there.publish(&[&key]);
        let provider = provider(oidc(&there));
        Self { there, key, provider }
    }

    /// An ID token's claims, with these changes.
    fn id(&self, changes: Value) -> Value {
        let now = now_s();
        let good = json!({
            "iss": self.there.issuer(), "sub": "ada", "aud": CLIENT, "azp": CLIENT, "nonce": NONCE, "typ": "ID",
            "iat": now, "exp": now + 300,
        });
        merged(&good, &changes)
    }

    /// An access token's claims, as Keycloak's are, with these changes.
    fn access(&self, changes: Value) -> Value {
        let now = now_s();
        let good = json!({
            "iss": self.there.issuer(), "sub": "ada", "aud": [AUDIENCE, "account"], "azp": "another", "typ": "Bearer",
            "iat": now, "exp": now + 300,
        });
        merged(&good, &changes)
    }

    /// Exchanges a code for this ID token.
    async fn exchange(&self, id_token: &str) -> Result<Person, Error> {
        self.there.answer_tokens(
            json!({ "access_token": ACCESS_TOKEN, "id_token": id_token, "token_type": "Bearer" }),
        );
        let verifier = SecretString::from("verifier");
        let answered =
            Answered { code: "a code", redirect_uri: "http://x/y", verifier: &verifier, nonce: NONCE };
        self.provider.exchange(&answered).await.map(|(person, _)| person)
    }

    fn keys_fetched(&self) -> u64 {
        self.there.seen().get("/keys").copied().unwrap_or_default()
    }
}

fn now_s() -> i64 {
    unix_ms() / 1000
}

#[track_caller]
fn refusal<T: std::fmt::Debug>(result: Result<T, Error>, of: &str) -> Refused {
    match result {
        Err(Error::Refused(refused)) => refused,
        other => panic!("{of}: {other:?}"),
    }
}

#[tokio::test]
async fn a_code_is_exchanged_for_who_signed_in() {
    for key in [SigningKey::rsa("one"), SigningKey::p256("two")] {
        let world = World::new(key);
        let claims = world.id(json!({
            "sid": "s1", "email": "ada@example.org", "email_verified": true, "name": "Ada", "groups": ["/a", 1, "b"],
            // The left half of the SHA-256 of the access token.
            "at_hash": "FPlcM-1UXiivOYozpUrp7Q",
        }));
        let person = world.exchange(&world.key.token(&claims)).await.unwrap();
        let expected = Person {
            subject: "ada".into(),
            email: Some("ada@example.org".into()),
            name: "Ada".into(),
            groups: vec!["/a".into(), "b".into()],
            session: Some("s1".into()),
        };
        assert_eq!(person, expected);
        let seen = [("/.well-known/openid-configuration", 1), ("/keys", 1), ("/token", 1)];
        assert_eq!(world.there.seen(), seen.map(|(path, times)| (path.to_owned(), times)).into());
        assert_eq!(
            world.there.forms(),
            [
                "grant_type=authorization_code&code=a+code&redirect_uri=http%3A%2F%2Fx%2Fy&code_verifier=verifier"
            ]
        );
    }
}

#[tokio::test]
async fn an_address_counts_only_when_the_provider_says_that_it_verified_it() {
    let world = World::new(SigningKey::rsa("one"));
    for verified in [json!(null), json!(false), json!("true"), json!(1)] {
        let claims = world.id(json!({ "email": "ada@example.org", "email_verified": verified }));
        let person = world.exchange(&world.key.token(&claims)).await.unwrap();
        assert_eq!(person.email, None, "{verified}");
    }
}

#[tokio::test]
async fn an_id_token_that_is_not_exactly_right_is_refused() {
    let world = World::new(SigningKey::rsa("one"));
    let now = now_s();
    for (changes, expected) in [
        (json!({ "iss": "https://evil.example" }), Refused::Issuer),
        (json!({ "iss": format!("{}/", world.there.issuer()) }), Refused::Issuer),
        (json!({ "iss": null }), Refused::Malformed),
        (json!({ "sub": null }), Refused::Subject),
        (json!({ "sub": "" }), Refused::Subject),
        (json!({ "sub": "x".repeat(256) }), Refused::Subject),
        (json!({ "sub": 7 }), Refused::Malformed),
        (json!({ "aud": "another" }), Refused::Audience),
        (json!({ "aud": ["another"] }), Refused::Audience),
        (json!({ "aud": [] }), Refused::Audience),
        (json!({ "aud": { "a": CLIENT } }), Refused::Malformed),
        (json!({ "azp": "another" }), Refused::AuthorizedParty),
        (json!({ "aud": [CLIENT, "another"], "azp": null }), Refused::AuthorizedParty),
        (json!({ "exp": now - 31 }), Refused::Ended),
        (json!({ "exp": null }), Refused::Malformed),
        (json!({ "exp": (now + 300).to_string() }), Refused::Malformed),
        (json!({ "exp": 1.5 }), Refused::Malformed),
        (json!({ "exp": 1e300 }), Refused::Malformed),
        (json!({ "exp": u64::MAX }), Refused::Malformed),
        (json!({ "exp": i64::MAX }), Refused::TooLong),
        (json!({ "exp": now + 2 * 24 * 60 * 60 }), Refused::TooLong),
        (json!({ "iat": null }), Refused::Malformed),
        (json!({ "iat": now.to_string() }), Refused::Malformed),
        (json!({ "iat": now + 60 }), Refused::NotYet),
        (json!({ "iat": now - 60 * 60 }), Refused::TooLong),
        (json!({ "iat": i64::MIN }), Refused::TooLong),
        (json!({ "nbf": now + 60 }), Refused::NotYet),
        (json!({ "nbf": "0" }), Refused::Malformed),
        (json!({ "nonce": null }), Refused::Nonce),
        (json!({ "nonce": "another" }), Refused::Nonce),
        (json!({ "at_hash": "AAAAAAAAAAAAAAAAAAAAAA" }), Refused::AccessToken),
        (json!({ "typ": "Bearer" }), Refused::Kind),
        (json!({ "events": {} }), Refused::Kind),
    ] {
        let token = world.key.token(&world.id(changes.clone()));
        assert_eq!(refusal(world.exchange(&token).await, &changes.to_string()), expected, "{changes}");
    }
    for changes in [
        json!({}),
        json!({ "azp": null, "typ": null }),
        json!({ "aud": [CLIENT, "another"] }),
        json!({ "exp": now - 25 }),
        json!({ "iat": now + 25, "nbf": now + 25 }),
    ] {
        let token = world.key.token(&world.id(changes.clone()));
        assert_eq!(world.exchange(&token).await.unwrap().subject, "ada", "{changes}");
    }
    let twice = world.id(json!({})).to_string().replacen('{', r#"{"sub":"eve","#, 1);
    let token = world.key.signed(r#"{"alg":"RS256","kid":"one"}"#, &twice);
    assert_eq!(refusal(world.exchange(&token).await, "a claim twice"), Refused::Malformed);
}

#[tokio::test]
async fn a_forged_token_is_refused_and_nothing_is_fetched_for_it() {
    let world = World::new(SigningKey::rsa("one"));
    let own = SigningKey::rsa("one");
    let other = SigningKey::p256("one");
    let good = world.access(json!({}));
    assert_eq!(world.provider.access_token(&world.key.token(&good)).await.unwrap().0, "ada");
    let before = world.there.seen();
    let evil = world.there.issuer();
    let header = |changes: Value| world.key.token_with(&changes, &good);
    let whole = world.key.token(&good);
    let public = world.key.public_bytes();
    let jwk = world.key.jwk().to_string();
    for (of, token, expected) in [
        ("none", unsigned_token("none", &good), Refused::Algorithm),
        ("None", unsigned_token("None", &good), Refused::Algorithm),
        ("no algorithm", unsigned_token("", &good), Refused::Algorithm),
        ("no signature", unsigned_token("RS256", &good), Refused::UnknownKey),
        ("a cut signature", whole.rsplit_once('.').unwrap().0.to_owned() + ".", Refused::Signature),
        ("HS256 with the public key", hs256(&public, &json!({ "kid": "one" }), &good), Refused::Algorithm),
        ("HS256 with the JWK", hs256(jwk.as_bytes(), &json!({ "kid": "one" }), &good), Refused::Algorithm),
        (
            "HS256 that says RS256",
            hs256(&public, &json!({ "alg": "RS256", "kid": "one" }), &good),
            Refused::Signature,
        ),
        ("RS512", header(json!({ "alg": "RS512" })), Refused::Algorithm),
        ("an algorithm that is no text", header(json!({ "alg": ["RS256"] })), Refused::Malformed),
        ("somebody's key under this id", own.token(&good), Refused::Signature),
        ("another algorithm under this id", other.token(&good), Refused::UnknownKey),
        ("an embedded key", own.token_with(&json!({ "jwk": own.jwk() }), &good), Refused::Header),
        ("an embedded key beside a good one", header(json!({ "jwk": world.key.jwk() })), Refused::Header),
        ("jku", header(json!({ "jku": format!("{evil}/jku") })), Refused::Header),
        ("x5u", header(json!({ "x5u": format!("{evil}/x5u") })), Refused::Header),
        ("x5c", header(json!({ "x5c": ["AAAA"] })), Refused::Header),
        ("crit", header(json!({ "crit": ["exp"] })), Refused::Header),
        ("no id of a key", header(json!({ "kid": null })), Refused::UnknownKey),
        ("an id that is no text", header(json!({ "kid": 1 })), Refused::Malformed),
        ("an id as a path", header(json!({ "kid": "../../../../dev/null" })), Refused::UnknownKey),
        ("an id as SQL", header(json!({ "kid": "x' UNION SELECT 'k' --" })), Refused::UnknownKey),
        ("an id as an address", header(json!({ "kid": format!("{evil}/kid") })), Refused::UnknownKey),
        ("an id of another case", header(json!({ "kid": "ONE" })), Refused::UnknownKey),
        ("an id that is too long", header(json!({ "kid": "x".repeat(300) })), Refused::UnknownKey),
        (
            "a header twice",
            world.key.signed(r#"{"alg":"none","alg":"RS256","kid":"one"}"#, &good.to_string()),
            Refused::Malformed,
        ),
        (
            "claims that are no object",
            world.key.signed(r#"{"alg":"RS256","kid":"one"}"#, "[]"),
            Refused::Malformed,
        ),
        ("four parts", format!("{whole}.e30"), Refused::Malformed),
        ("padding", format!("{whole}="), Refused::Malformed),
        (
            "a token that is too long",
            world.key.token(&world.access(json!({ "x": "x".repeat(16_384) }))),
            Refused::Malformed,
        ),
        ("nothing", String::new(), Refused::Malformed),
        ("dots", "..".to_owned(), Refused::Malformed),
    ] {
        assert_eq!(refusal(world.provider.access_token(&token).await, of), expected, "{of}");
    }
    assert_eq!(world.there.seen(), before, "nothing was fetched");
}

#[tokio::test]
async fn an_access_token_is_one_for_this_api_and_no_other_token() {
    let world = World::new(SigningKey::rsa("one"));
    let now = now_s();
    for (header, claims, expected) in [
        (json!({}), world.id(json!({})), Refused::Kind),
        (json!({}), world.id(json!({ "aud": AUDIENCE })), Refused::Kind),
        (json!({}), world.id(json!({ "aud": AUDIENCE, "typ": null, "nonce": null })), Refused::Kind),
        (json!({}), world.access(json!({ "typ": "Refresh" })), Refused::Kind),
        (json!({}), world.access(json!({ "typ": null })), Refused::Kind),
        (json!({}), world.access(json!({ "at_hash": "x" })), Refused::Kind),
        (json!({ "typ": "at+jwt" }), world.access(json!({ "typ": "ID" })), Refused::Kind),
        (json!({ "typ": "logout+jwt" }), world.access(json!({})), Refused::Kind),
        (json!({}), world.access(json!({ "aud": CLIENT })), Refused::Audience),
        (json!({}), world.access(json!({ "iss": "https://evil.example" })), Refused::Issuer),
        (json!({}), world.access(json!({ "exp": now - 31 })), Refused::Ended),
        (json!({}), world.access(json!({ "exp": "9999999999" })), Refused::Malformed),
        (json!({}), world.access(json!({ "exp": 9_999_999_999_i64 })), Refused::TooLong),
        (json!({}), world.access(json!({ "nbf": now + 60 })), Refused::NotYet),
        (json!({}), world.access(json!({ "sub": null })), Refused::Subject),
    ] {
        let token = world.key.token_with(&header, &claims);
        let of = format!("{header} {claims}");
        assert_eq!(refusal(world.provider.access_token(&token).await, &of), expected, "{of}");
    }
    for (header, changes) in [
        (json!({}), json!({ "exp": now + 100 })),
        (json!({ "typ": null }), json!({ "exp": now + 100 })),
        (json!({ "typ": "at+JWT" }), json!({ "exp": now + 100, "typ": null, "aud": AUDIENCE })),
    ] {
        let token = world.key.token_with(&header, &world.access(changes));
        assert_eq!(world.provider.access_token(&token).await.unwrap(), ("ada".to_owned(), now + 100));
    }
    let closed = provider(Oidc { audience: None, ..oidc(&world.there) });
    let token = world.key.token(&world.access(json!({})));
    assert_eq!(refusal(closed.access_token(&token).await, "no audience"), Refused::Audience);
}

#[tokio::test]
async fn an_algorithm_is_the_operators_choice() {
    let world = World::new(SigningKey::p256("one"));
    let token = world.key.token(&world.access(json!({})));
    assert!(world.provider.access_token(&token).await.is_ok());
    let narrow = provider(Oidc { algorithms: vec![Algorithm::Rs256], ..oidc(&world.there) });
    assert_eq!(refusal(narrow.access_token(&token).await, "ES256"), Refused::Algorithm);
}

#[tokio::test]
async fn keys_that_can_not_be_used_are_left_out() {
    let world = World::new(SigningKey::rsa("one"));
    let token = world.key.token(&world.access(json!({})));
    for (of, changes) in [
        ("for encryption", json!({ "use": "enc" })),
        ("of another algorithm", json!({ "alg": "RS512" })),
        ("without an id", json!({ "kid": null })),
        ("too small", json!({ "n": "AQAB" })),
        ("a shared secret", json!({ "kty": "oct", "k": "AAAA" })),
        ("no number", json!({ "n": "!" })),
    ] {
        world.there.publish_raw(vec![merged(&world.key.jwk(), &changes)]);
        let fresh = provider(oidc(&world.there));
        assert!(
            matches!(refusal(fresh.access_token(&token).await, of), Refused::UnknownKey | Refused::Signature),
            "{of}"
        );
    }
}

#[tokio::test]
async fn a_key_that_is_not_known_makes_the_keys_be_fetched_once_for_everybody() {
    let world = World::new(SigningKey::rsa("one"));
    let strangers = (0..20).map(|number| {
        let header = json!({ "kid": format!("unknown-{number}") });
        let token = world.key.token_with(&header, &world.access(json!({})));
        async {
            refusal(
                {
                    let token = token;
                    world.provider.access_token(&token).await
                },
                "unknown",
            )
        }
    });
    let refused = futures::future::join_all(strangers).await;
    assert!(refused.iter().all(|refused| *refused == Refused::UnknownKey), "{refused:?}");
    assert_eq!(world.keys_fetched(), 1);
}

#[tokio::test]
async fn a_provider_that_is_not_the_one_that_was_named_is_not_used() {
    let world = World::new(SigningKey::rsa("one"));
    let asked = Asked { redirect_uri: "http://x/y", state: "s", nonce: "n", challenge: "c" };
    for changes in [
        json!({ "issuer": "https://evil.example" }),
        json!({ "token_endpoint": "https://evil.example/token" }),
        json!({ "jwks_uri": "http://127.0.0.1:9/keys" }),
        json!({ "jwks_uri": null }),
        json!({ "authorization_endpoint": "javascript:alert(1)" }),
        json!({ "code_challenge_methods_supported": ["plain"] }),
    ] {
        world.there.describe(changes.clone());
        let fresh = provider(oidc(&world.there));
        let got = fresh.authorization_url(&asked).await;
        assert!(matches!(got, Err(Error::Unusable(_))), "{changes}: {got:?}");
    }
    world.there.describe(json!({}));
    let url = provider(oidc(&world.there)).authorization_url(&asked).await.unwrap();
    let expected = format!(
        "{}/authorize?response_type=code&client_id=soma&redirect_uri=http%3A%2F%2Fx%2Fy&\
         scope=openid+profile+email&state=s&nonce=n&code_challenge=c&code_challenge_method=S256",
        world.there.issuer()
    );
    assert_eq!(url.as_str(), expected);
    world.there.set_broken(true);
    let broken = provider(oidc(&world.there));
    assert!(matches!(broken.authorization_url(&asked).await, Err(Error::Unusable(_))));
    assert!(
        matches!(broken.authorization_url(&asked).await, Err(Error::TooSoon)),
        "it is not asked again at once"
    );
}

#[tokio::test]
async fn only_a_logout_token_says_that_a_stay_has_ended() {
    let world = World::new(SigningKey::rsa("one"));
    let event = json!({ "http://schemas.openid.net/event/backchannel-logout": {} });
    let good = |changes: Value| {
        let base = world.id(json!({ "nonce": null, "typ": "Logout", "events": event, "sid": "s1" }));
        world.key.token_with(&json!({ "typ": "logout+jwt" }), &merged(&base, &changes))
    };
    let ended = world.provider.logout_token(&good(json!({}))).await.unwrap();
    assert_eq!(ended, Ended { subject: Some("ada".into()), session: Some("s1".into()) });
    let ended = world.provider.logout_token(&good(json!({ "sub": null }))).await.unwrap();
    assert_eq!(ended, Ended { subject: None, session: Some("s1".into()) });
    for (changes, expected) in [
        (json!({ "events": null }), Refused::Kind),
        (json!({ "events": { "another": {} } }), Refused::Kind),
        (json!({ "nonce": NONCE }), Refused::Kind),
        (json!({ "aud": "another", "azp": null }), Refused::Audience),
        (json!({ "iss": "https://evil.example" }), Refused::Issuer),
        (json!({ "sub": null, "sid": null }), Refused::Subject),
        (json!({ "iat": now_s() - 60 * 60 }), Refused::TooLong),
    ] {
        let refused = refusal(world.provider.logout_token(&good(changes.clone())).await, "logout");
        assert_eq!(refused, expected, "{changes}");
    }
    let id = world.key.token(&world.id(json!({})));
    assert_eq!(refusal(world.provider.logout_token(&id).await, "an ID token"), Refused::Kind);
}

#[tokio::test]
async fn leaving_the_provider_too_is_asked_of_it_by_the_browser() {
    let world = World::new(SigningKey::rsa("one"));
    let hint = SecretString::from("hint");
    let url = world.provider.end_session_url(&hint, "http://x/").await.unwrap();
    let expected = format!(
        "{}/logout?id_token_hint={}&client_id=soma&post_logout_redirect_uri=http%3A%2F%2Fx%2F",
        world.there.issuer(),
        hint.expose_secret()
    );
    assert_eq!(url.as_str(), expected);
}
