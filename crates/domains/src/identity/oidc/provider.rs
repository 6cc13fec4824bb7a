//! The identity provider from here: its description, its keys, and the exchange of a code for tokens.
//!
//! One origin is called, the issuer's, by the egress guard's client for it. What is fetched is named by the provider's
//! own description, never by a token.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use platform::{
    config::Oidc,
    durable::unix_ms,
    egress::{self, ClientOptions, Egress},
};
use reqwest::{Client, RequestBuilder, StatusCode, header::ACCEPT};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use url::{Url, form_urlencoded};

use super::{
    claims::{self, Ended, Person},
    kept::{Kept, TooSoon},
    keys::{KeySet, Published},
    token::{Refused, Unverified, Verified},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One call, all in all.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Characters of a provider's error that go to the log.
const ERROR_CHARS_MAX: usize = 200;
const DISCOVERY: &str = "/.well-known/openid-configuration";
const SCOPE: &str = "openid profile email";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Refused(#[from] Refused),
    #[error("the identity provider refused: {0}")]
    Rejected(String),
    #[error("the identity provider can't be reached: {0}")]
    Unreachable(#[from] egress::Error),
    #[error("the identity provider did not answer within {} s", CALL_TIMEOUT.as_secs())]
    TimedOut,
    #[error("the identity provider could not be reached a moment ago")]
    TooSoon,
    #[error("the identity provider answers what can't be used: {0}")]
    Unusable(String),
}

impl From<TooSoon> for Error {
    fn from(_: TooSoon) -> Self {
        Self::TooSoon
    }
}

/// What the provider says of itself (OpenID Connect Discovery 1.0, 3).
#[derive(Debug, Deserialize)]
pub(super) struct Description {
    issuer: String,
    authorization_endpoint: Url,
    token_endpoint: Url,
    jwks_uri: Url,
    end_session_endpoint: Option<Url>,
    code_challenge_methods_supported: Option<Vec<String>>,
    /// Whether answers to a sign-in name their issuer (RFC 9207).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

/// What a code was exchanged for.
#[derive(Deserialize)]
struct Tokens {
    access_token: SecretString,
    id_token: SecretString,
    token_type: String,
}

#[derive(Deserialize)]
struct TokenError {
    error: String,
    #[serde(default)]
    error_description: String,
}

/// What a sign-in is begun with.
pub(super) struct Asked<'a> {
    pub redirect_uri: &'a str,
    pub state: &'a str,
    pub nonce: &'a str,
    /// SHA-256 of the verifier, in base64 (RFC 7636).
    pub challenge: &'a str,
}

/// What comes back of it.
pub(super) struct Answered<'a> {
    pub code: &'a str,
    pub redirect_uri: &'a str,
    pub verifier: &'a SecretString,
    pub nonce: &'a str,
}

/// The provider. Nothing is fetched before it is needed. Clones share what was fetched.
#[derive(Debug, Clone)]
pub struct Provider {
    pub(super) oidc: Arc<Oidc>,
    client: Client,
    description: Arc<Kept<Description>>,
    keys: Arc<Kept<KeySet>>,
}

impl Provider {
    pub fn new(oidc: Oidc, egress: &Egress) -> Result<Self, egress::Error> {
        let options = ClientOptions { connect_timeout: CONNECT_TIMEOUT, read_timeout: CALL_TIMEOUT };
        Ok(Self {
            client: egress.client_for(&oidc.url, options)?,
            oidc: Arc::new(oidc),
            description: Arc::default(),
            keys: Arc::default(),
        })
    }

    pub(super) async fn description(&self) -> Result<Arc<Description>, Error> {
        self.description
            .get(
                Instant::now(),
                |_| true,
                || {
                    let this = self.clone();
                    async move {
                        let text = format!("{}{DISCOVERY}", this.oidc.issuer.trim_end_matches('/'));
                        let url = Url::parse(&text)
                            .map_err(|_| Error::Unusable("the issuer is no address".into()))?;
                        let description: Description = this.get(&url).await?;
                        description.check(&this.oidc)?;
                        Ok(description)
                    }
                },
            )
            .await
    }

    /// Where a browser begins to sign in.
    pub(super) async fn authorization_url(&self, asked: &Asked<'_>) -> Result<Url, Error> {
        let mut url = self.description().await?.authorization_endpoint.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.oidc.client_id)
            .append_pair("redirect_uri", asked.redirect_uri)
            .append_pair("scope", SCOPE)
            .append_pair("state", asked.state)
            .append_pair("nonce", asked.nonce)
            .append_pair("code_challenge", asked.challenge)
            .append_pair("code_challenge_method", "S256");
        Ok(url)
    }

    /// Where a browser ends its stay at the provider (OpenID Connect RP-Initiated Logout 1.0), if that can be.
    pub(super) async fn end_session_url(&self, id_token: &SecretString, back_to: &str) -> Option<Url> {
        let mut url = self.description().await.ok()?.end_session_endpoint.clone()?;
        url.query_pairs_mut()
            .append_pair("id_token_hint", id_token.expose_secret())
            .append_pair("client_id", &self.oidc.client_id)
            .append_pair("post_logout_redirect_uri", back_to);
        Some(url)
    }

    /// Exchanges a code: who signed in, and the ID token that says so.
    pub(super) async fn exchange(&self, answered: &Answered<'_>) -> Result<(Person, SecretString), Error> {
        let description = self.description().await?;
        let url = &description.token_endpoint;
        let mut request = self.client.post(url.clone());
        request =
            request.header("content-type", "application/x-www-form-urlencoded").body(self.form_of(answered));
        if let Some(secret) = &self.oidc.client_secret {
            // Both are encoded as in a form before they are put together (RFC 6749, 2.3.1).
            let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            request =
                request.basic_auth(encoded(&self.oidc.client_id), Some(encoded(secret.expose_secret())));
        }
        let (status, body) = call(url, request).await?;
        if status != StatusCode::OK {
            let said = serde_json::from_slice::<TokenError>(&body).map_or_else(
                |_| status.to_string(),
                |said| format!("{} {}", said.error, said.error_description),
            );
            return Err(Error::Rejected(said.chars().take(ERROR_CHARS_MAX).collect()));
        }
        let tokens: Tokens = serde_json::from_slice(&body)
            .map_err(|_| Error::Unusable("its answer to a code has no tokens".into()))?;
        if !tokens.token_type.eq_ignore_ascii_case("bearer") {
            return Err(Error::Unusable("its access token is no bearer token".into()));
        }
        let verified = self.verify(tokens.id_token.expose_secret()).await?;
        let access_token = tokens.access_token.expose_secret();
        let person = claims::id_token(verified, &self.oidc, answered.nonce, access_token, now_s())?;
        Ok((person, tokens.id_token))
    }

    fn form_of(&self, answered: &Answered<'_>) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", answered.code)
            .append_pair("redirect_uri", answered.redirect_uri)
            .append_pair("code_verifier", answered.verifier.expose_secret());
        if self.oidc.client_secret.is_none() {
            form.append_pair("client_id", &self.oidc.client_id);
        }
        form.finish()
    }

    /// Whom an access token acts for, and when it ends, in seconds since 1970. None is taken without an audience.
    pub(super) async fn access_token(&self, token: &str) -> Result<(String, i64), Error> {
        let audience = self.oidc.audience.as_deref().ok_or(Refused::Audience)?;
        let verified = self.verify(token).await?;
        Ok(claims::access_token(verified, &self.oidc, audience, now_s())?)
    }

    /// Whose stay at the provider has ended.
    pub(super) async fn logout_token(&self, token: &str) -> Result<Ended, Error> {
        let verified = self.verify(token).await?;
        Ok(claims::logout_token(verified, &self.oidc, now_s())?)
    }

    /// Checks the form and the signature. The provider is asked for its keys when there are none, they are old, or the
    /// token's is not among them; each only as often as [`Kept`] allows.
    async fn verify(&self, token: &str) -> Result<Verified, Error> {
        let token = Unverified::parse(token, &self.oidc.algorithms)?;
        let known = |keys: &KeySet| keys.has(&token.key_id, token.algorithm);
        let this = self.clone();
        let keys = self.keys.get(Instant::now(), known, || async move {
            let url = this.description().await?.jwks_uri.clone();
            let published: Published = this.get(&url).await?;
            Ok::<_, Error>(KeySet::from(published))
        });
        let keys = keys.await?;
        Ok(token.verify(&keys)?)
    }

    async fn get<T: DeserializeOwned>(&self, url: &Url) -> Result<T, Error> {
        let (status, body) = call(url, self.client.get(url.clone())).await?;
        if status != StatusCode::OK {
            return Err(Error::Unusable(format!("{} answers {status}", url.path())));
        }
        serde_json::from_slice(&body)
            .map_err(|error| Error::Unusable(format!("{} answers no such JSON: {error}", url.path())))
    }
}

/// Sends a request; its whole answer within bounds.
async fn call(url: &Url, request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), Error> {
    let calling = async {
        let of_call = |error| Error::Unreachable(egress::Error::of_call(url, error));
        let mut response = request.header(ACCEPT, "application/json").send().await.map_err(of_call)?;
        let body = egress::body_up_to(url, &mut response, ANSWER_BYTES_MAX).await;
        let (body, more) = body.map_err(Error::Unreachable)?;
        if more {
            return Err(Error::Unusable(format!("{} answers too much", url.path())));
        }
        Ok((response.status(), body))
    };
    tokio::time::timeout(CALL_TIMEOUT, calling).await.map_err(|_| Error::TimedOut)?
}

impl Description {
    /// It describes this issuer, keeps what the server calls on the issuer's origin, and knows PKCE.
    fn check(&self, oidc: &Oidc) -> Result<(), Error> {
        if self.issuer != oidc.issuer {
            return Err(Error::Unusable(format!("it calls itself `{}`, not `{}`", self.issuer, oidc.issuer)));
        }
        for url in [&self.token_endpoint, &self.jwks_uri] {
            if url.origin() != oidc.url.origin() {
                return Err(Error::Unusable(format!("{url} is not on the issuer's origin")));
            }
        }
        let for_browsers = [Some(&self.authorization_endpoint), self.end_session_endpoint.as_ref()];
        for url in for_browsers.into_iter().flatten() {
            if url.scheme() != "https" && url.scheme() != oidc.url.scheme() {
                return Err(Error::Unusable(format!("{url} is not on https")));
            }
        }
        let methods = self.code_challenge_methods_supported.as_ref();
        if methods.is_some_and(|methods| !methods.iter().any(|method| method == "S256")) {
            return Err(Error::Unusable("it does not take PKCE with S256".into()));
        }
        Ok(())
    }
}

fn now_s() -> i64 {
    unix_ms() / 1000
}
