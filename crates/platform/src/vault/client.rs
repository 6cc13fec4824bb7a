//! The few calls of Vault's HTTP API that are needed, by way of the egress guard.

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use reqwest::{
    Method,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::Error;
use crate::{
    config::{Vault, VaultAuth},
    egress::{self, ClientOptions, Egress},
};

pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Without it an agent in between that asks for it refuses.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    vault: Vault,
}

/// A token, and how long it is good for if nobody renews it.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) value: SecretString,
    pub(super) renewable: bool,
    /// `None` is for ever: a root token.
    pub(super) ends: Option<Instant>,
    /// Its time when it was given.
    pub(super) lifetime: Duration,
}

#[derive(Debug)]
pub(super) struct Secret {
    pub(super) values: HashMap<String, SecretString>,
    pub(super) version: u64,
    /// When Vault itself forgets it, if it was told to.
    pub(super) ends: Option<Instant>,
}

#[derive(Deserialize)]
struct LoggedIn {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    client_token: SecretString,
    lease_duration: u64,
    renewable: bool,
}

#[derive(Deserialize)]
struct LookedUp {
    data: About,
}

#[derive(Deserialize)]
struct About {
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

#[derive(Deserialize)]
struct Read {
    data: Versioned,
}

#[derive(Deserialize)]
struct Versioned {
    data: HashMap<String, Value>,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    version: u64,
    /// Empty where it has none.
    deletion_time: String,
}

#[derive(Default, Deserialize)]
struct Faults {
    #[serde(default)]
    errors: Vec<String>,
}

impl Token {
    fn new(value: SecretString, seconds: u64, renewable: bool) -> Self {
        let lifetime = Duration::from_secs(seconds);
        let ends = if seconds == 0 { None } else { Instant::now().checked_add(lifetime) };
        Self { value, renewable, ends, lifetime }
    }
}

impl Client {
    pub(super) fn new(vault: &Vault, egress: &Egress) -> Result<Self, Error> {
        let options = ClientOptions { connect_timeout: TIMEOUT, read_timeout: TIMEOUT };
        let http = match &vault.authority {
            Some(file) => {
                let failed = |error| Error::File { file: file.display().to_string(), error };
                let authority = std::fs::read(file).map_err(failed)?;
                egress.client_trusting(&vault.address, options, &authority)?
            }
            None => egress.client_for(&vault.address, options)?,
        };
        Ok(Self { http, vault: vault.clone() })
    }

    pub(super) async fn log_in(&self) -> Result<Token, Error> {
        let (mount, body) = match &self.vault.auth {
            VaultAuth::Token { file } => {
                let token = Token::new(text_of(file)?, 0, false);
                return self.look_up(token).await;
            }
            VaultAuth::AppRole { mount, role_id, secret_id_file } => {
                let secret_id = text_of(secret_id_file)?;
                (mount, json!({ "role_id": role_id, "secret_id": secret_id.expose_secret() }))
            }
            VaultAuth::Kubernetes { mount, role, token_file } => {
                (mount, json!({ "role": role, "jwt": text_of(token_file)?.expose_secret() }))
            }
        };
        let path = format!("auth/{mount}/login");
        let LoggedIn { auth } = self.call("login", Method::POST, &path, None, Some(&body)).await?;
        Ok(Token::new(auth.client_token, auth.lease_duration, auth.renewable))
    }

    /// The same token with the time that it has left.
    async fn look_up(&self, token: Token) -> Result<Token, Error> {
        let about = self.about(&token).await?;
        Ok(Token::new(token.value, about.ttl, about.renewable))
    }

    /// Whether a token is good.
    pub(super) async fn check(&self, token: &Token) -> Result<(), Error> {
        self.about(token).await.map(drop)
    }

    async fn about(&self, token: &Token) -> Result<About, Error> {
        let path = "auth/token/lookup-self";
        let LookedUp { data } = self.call("token", Method::GET, path, Some(&token.value), None).await?;
        Ok(data)
    }

    /// Gives the token its whole time again, or as much as it may still have; when it ends then.
    pub(super) async fn renew(&self, token: &Token) -> Result<Option<Instant>, Error> {
        let path = "auth/token/renew-self";
        let body = json!({});
        let LoggedIn { auth } =
            self.call("token's renewal", Method::POST, path, Some(&token.value), Some(&body)).await?;
        Ok(Token::new(auth.client_token, auth.lease_duration, auth.renewable).ends)
    }

    pub(super) async fn read(&self, token: &Token) -> Result<Secret, Error> {
        let Vault { mount, path, .. } = &self.vault;
        let at = format!("{mount}/data/{path}");
        let Read { data } = self.call("secret", Method::GET, &at, Some(&token.value), None).await?;
        let mut values = HashMap::new();
        for (name, value) in data.data {
            let Value::String(text) = value else { return Err(Error::NoText(name)) };
            values.insert(name, SecretString::from(text));
        }
        let ends = match data.metadata.deletion_time.as_str() {
            "" => None,
            time => Some(instant_of(time).ok_or(Error::Shape("secret"))?),
        };
        Ok(Secret { values, version: data.metadata.version, ends })
    }

    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        what: &'static str,
        method: Method,
        path: &str,
        token: Option<&SecretString>,
        body: Option<&Value>,
    ) -> Result<T, Error> {
        let mut url = self.vault.address.clone();
        let before = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{before}/v1/{path}"));
        let mut request = self.http.request(method, url.clone()).headers(self.headers(token)?);
        if let Some(body) = body {
            request = request.json(body);
        }
        let calling = async {
            let mut response = request.send().await.map_err(|error| egress::Error::of_call(&url, error))?;
            let (body, _) = egress::body_up_to(&url, &mut response, ANSWER_BYTES_MAX).await?;
            Ok::<_, Error>((response.status().as_u16(), body))
        };
        let (status, body) = tokio::time::timeout(TIMEOUT, calling).await.map_err(|_| Error::TimedOut)??;
        match status {
            200 => serde_json::from_slice(&body).map_err(|_| Error::Shape(what)),
            400 | 403 => {
                let faults: Faults = serde_json::from_slice(&body).unwrap_or_default();
                Err(Error::Refused { what, status, said: faults.errors.join("; ") })
            }
            404 => Err(Error::NoSecret(path.to_owned())),
            429 | 472 | 473 | 503 => Err(Error::Sealed),
            status => Err(Error::Status { what, status }),
        }
    }

    fn headers(&self, token: Option<&SecretString>) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST, HeaderValue::from_static("true"));
        if let Some(namespace) = &self.vault.namespace {
            let value = HeaderValue::from_str(namespace).map_err(|_| Error::Shape("namespace"))?;
            headers.insert(NAMESPACE, value);
        }
        if let Some(token) = token {
            let mut value =
                HeaderValue::from_str(token.expose_secret()).map_err(|_| Error::Shape("token"))?;
            value.set_sensitive(true);
            headers.insert(TOKEN, value);
        }
        Ok(headers)
    }
}

/// The first line: an editor ends a file with a newline.
fn text_of(file: &Path) -> Result<SecretString, Error> {
    let failed = |error| Error::File { file: file.display().to_string(), error };
    let text = std::fs::read_to_string(file).map(SecretString::from).map_err(failed)?;
    Ok(SecretString::from(text.expose_secret().trim().to_owned()))
}

/// When a time of RFC 3339 comes, or now if it has passed.
fn instant_of(time: &str) -> Option<Instant> {
    let time: SystemTime = time.parse::<jiff::Timestamp>().ok()?.into();
    let left = time.duration_since(SystemTime::now()).unwrap_or_default();
    Instant::now().checked_add(left)
}
