//! A sign-in that is under way at the provider: sealed into a cookie of the browser that began it.
//!
//! Nothing is stored for it here, so that who only begins sign-ins fills nothing. It is good for ten minutes and for one
//! answer: what has come back is written down until its time is over.

use axum::http::{HeaderMap, HeaderValue};
use data_encoding::BASE64URL_NOPAD;
use platform::{
    config::Config,
    durable::unix_ms,
    secrets::{self, SealerAway},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::identity::authenticate::{Client, cookie_values};

const COOKIE: &str = "oidc_sign_in";
const PATH: &str = "/api/v2/auth/oidc";
const LIFETIME_S: i64 = 600;
/// Of one request, that are looked into.
const COOKIES_MAX: usize = 4;

#[derive(Serialize, Deserialize)]
pub(super) struct Pending {
    state: String,
    pub nonce: String,
    verifier: String,
    pub return_to: String,
    /// Milliseconds since 1970.
    pub expires_at: i64,
}

impl Pending {
    pub(super) fn new(return_to: String) -> Self {
        let random = || secrets::random_token().expose_secret().to_owned();
        let expires_at = unix_ms().saturating_add(LIFETIME_S * 1000);
        Self { state: random(), nonce: random(), verifier: random(), return_to, expires_at }
    }

    pub(super) fn state(&self) -> &str {
        &self.state
    }

    pub(super) fn verifier(&self) -> SecretString {
        SecretString::from(self.verifier.clone())
    }

    /// What is told of the verifier before it is shown (RFC 7636, S256).
    pub(super) fn challenge(&self) -> String {
        BASE64URL_NOPAD.encode(&Sha256::digest(self.verifier.as_bytes()))
    }

    /// What is written down of it when it has come back.
    pub(super) fn hash(&self, config: &Config) -> String {
        config.keys.mac("oidc_state", &self.state)
    }

    pub(super) async fn cookie(&self, config: &Config, client: &Client) -> Result<HeaderValue, SealerAway> {
        // A structure of texts is always JSON; an empty cookie opens as none.
        let sealed = config.keys.encrypt(&serde_json::to_string(self).unwrap_or_default()).await?;
        Ok(set_cookie(&sealed, LIFETIME_S, client))
    }

    /// The one that this browser began and that this answer belongs to, unless its time is over.
    pub(super) async fn open(
        config: &Config,
        headers: &HeaderMap,
        state: &str,
    ) -> Result<Option<Self>, SealerAway> {
        for value in cookie_values(headers, COOKIE).take(COOKIES_MAX) {
            let Some(plain) = config.keys.decrypt(value).await? else { continue };
            let Ok(pending) = serde_json::from_str::<Self>(plain.expose_secret()) else { continue };
            if bool::from(pending.state.as_bytes().ct_eq(state.as_bytes())) {
                return Ok(Some(pending).filter(|pending| pending.expires_at > unix_ms()));
            }
        }
        Ok(None)
    }
}

/// A `Set-Cookie` that takes it away.
pub(super) fn clear(client: &Client) -> HeaderValue {
    set_cookie("", 0, client)
}

fn set_cookie(value: &str, max_age_s: i64, client: &Client) -> HeaderValue {
    let secure = if client.by_loopback { "" } else { "; Secure" };
    let text = format!("{COOKIE}={value}; Path={PATH}; HttpOnly; SameSite=Lax; Max-Age={max_age_s}{secure}");
    // What is sealed is base64, so this never fails; an empty header sets no cookie.
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
