//! The one way out: every outgoing HTTP call passes here, and goes to the public internet, or where the operator
//! allowed it, or nowhere.
//!
//! - [`Egress::client_for`] is for an address that the operator configured (the model's). It calls that origin only.
//! - [`Egress::get`] is for addresses that come from outside (a model, a user, a page).
//!
//! Never used on the way: proxies from the environment, cookies, redirects that were not checked, a `Referer`,
//! credentials in an address. Nothing else in the program builds a `reqwest::Client`.

mod address;
mod allow;
mod fetch;
mod resolve;
#[cfg(test)]
mod tests;

use std::{
    error::Error as _,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use reqwest::{Certificate, Client, ClientBuilder, Proxy, Response};
use url::Url;

pub use allow::{AllowList, BadEntry};
pub use fetch::{Fetched, GetLimits};

use resolve::{Guarded, Lookup, OneOrigin, Refusal, System};

/// To a server that a tool calls.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Headers in an answer to a tool; hyper bounds their bytes (about 400 KiB) itself.
const HEADERS_MAX: usize = 100;
const USER_AGENT: &str = concat!("SomaAgent01/", env!("CARGO_PKG_VERSION"));
/// Where calls of a one-origin client are sent that go elsewhere: a name that its resolver refuses, and that exists
/// nowhere (RFC 6761).
const NOWHERE: &str = "http://egress-refused.invalid/";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this is not an address that can be called: {0}")]
    BadUrl(String),
    #[error("only http and https addresses can be called, not `{0}`")]
    Scheme(String),
    #[error("an address must not hold a user name or password; take it out")]
    UserInfo,
    #[error("the address {address} is {what}; an operator can allow it with SA01_EGRESS_ALLOW")]
    Forbidden { address: SocketAddr, what: &'static str },
    #[error("`{host}` has no address ({reason}); check its spelling")]
    NoAddress { host: String, reason: String },
    #[error("this client calls {origin} only")]
    OtherOrigin { origin: String },
    #[error("the server redirected more than {0} times")]
    TooManyRedirects(u8),
    #[error("the server redirected to something that is no address")]
    BadRedirect,
    #[error("the server sent the answer as `{0}` although it was asked not to; only plain bodies are read")]
    Encoded(String),
    #[error("no complete answer within {seconds} s")]
    TimedOut { seconds: f32 },
    #[error("`{host}` can't be reached")]
    Connect {
        host: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("the answer of `{host}` broke off or is no HTTP")]
    Broken {
        host: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("no client for outgoing calls could be made")]
    Client(#[source] reqwest::Error),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Forbidden { address, what } => Self::Forbidden { address, what },
            Refusal::NoAddress { host, reason } => Self::NoAddress { host, reason },
            Refusal::OtherOrigin { origin } => Self::OtherOrigin { origin },
        }
    }
}

impl Error {
    /// What an error of a client from here means: a refusal of this guard, or the network's fault. For the calls of
    /// [`Egress::client_for`]'s clients too.
    #[must_use]
    pub fn of_call(url: &Url, error: reqwest::Error) -> Self {
        let mut cause = error.source();
        while let Some(inner) = cause {
            if let Some(refusal) = inner.downcast_ref::<Refusal>() {
                return refusal.clone().into();
            }
            cause = inner.source();
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        let source = error.without_url();
        if source.is_connect() { Self::Connect { host, source } } else { Self::Broken { host, source } }
    }
}

/// How long a configured server may take. Neither bounds a whole answer: a stream may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientOptions {
    pub connect_timeout: Duration,
    /// The longest silence, before the answer and in it.
    pub read_timeout: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(10), read_timeout: Duration::from_secs(120) }
    }
}

/// The guard. Clones share it.
#[derive(Clone)]
pub struct Egress(Arc<Inner>);

struct Inner {
    allow: Arc<AllowList>,
    lookup: Arc<dyn Lookup>,
    /// Guarded clients for the usual ports; making one reads the system's certificates.
    http: OnceLock<Client>,
    https: OnceLock<Client>,
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Egress").field("allow", &self.0.allow).finish_non_exhaustive()
    }
}

impl Egress {
    #[must_use]
    pub fn new(allow: AllowList) -> Self {
        Self::with_lookup(allow, Arc::new(System))
    }

    fn with_lookup(allow: AllowList, lookup: Arc<dyn Lookup>) -> Self {
        Self(Arc::new(Inner {
            allow: Arc::new(allow),
            lookup,
            http: OnceLock::new(),
            https: OnceLock::new(),
        }))
    }

    /// A client that calls the origin (scheme, host and port) of `base` wherever that is, and no other. Redirects
    /// come back as answers. Connections are kept for the next call.
    pub fn client_for(&self, base: &Url, options: ClientOptions) -> Result<Client, Error> {
        self.build(base, options, |builder| builder)
    }

    fn build(
        &self,
        base: &Url,
        options: ClientOptions,
        more: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> Result<Client, Error> {
        if !matches!(base.scheme(), "http" | "https") {
            return Err(Error::Scheme(base.scheme().to_owned()));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(Error::UserInfo);
        }
        let (Some(host), Some(port)) = (base.host_str(), base.port_or_known_default()) else {
            return Err(Error::BadUrl("it names no host".to_owned()));
        };
        let origin = base.origin();
        let resolver = OneOrigin {
            lookup: Arc::clone(&self.0.lookup),
            host: host.to_owned(),
            port,
            origin: origin.ascii_serialization(),
        };
        // A resolver sees neither literal addresses nor ports, but this hook sees each connection to be made.
        let elsewhere = Proxy::custom(move |url| (url.origin() != origin).then_some(NOWHERE));
        more(builder())
            .proxy(elsewhere)
            .dns_resolver(resolver)
            .connect_timeout(options.connect_timeout)
            .read_timeout(options.read_timeout)
            .build()
            .map_err(Error::Client)
    }

    /// The same, to a server whose certificate is from an authority of the operator's (PEM).
    pub fn client_trusting(
        &self,
        base: &Url,
        options: ClientOptions,
        authority: &[u8],
    ) -> Result<Client, Error> {
        let certificates = Certificate::from_pem_bundle(authority).map_err(Error::Client)?;
        self.build(base, options, |builder| builder.tls_certs_merge(certificates))
    }

    /// GETs an address that somebody named. Each redirect is checked like the first address. No answer of the server
    /// is an error, whatever its status.
    pub async fn get(&self, url: &str, limits: GetLimits) -> Result<Fetched, Error> {
        fetch::get(self, url, limits).await
    }

    /// For calls with this scheme to this port, of any name whose addresses are all allowed. The caller checks
    /// literal addresses.
    fn guarded_client(&self, scheme: &str, port: u16) -> Result<Client, Error> {
        let kept = match (scheme, port) {
            ("http", 80) => Some(&self.0.http),
            ("https", 443) => Some(&self.0.https),
            _ => None,
        };
        if let Some(client) = kept.and_then(OnceLock::get) {
            return Ok(client.clone());
        }
        let resolver = Guarded { allow: Arc::clone(&self.0.allow), lookup: Arc::clone(&self.0.lookup), port };
        let mut builder = builder()
            .dns_resolver(resolver)
            .connect_timeout(CONNECT_TIMEOUT)
            // Each call looks its name up and is checked.
            .pool_max_idle_per_host(0)
            .http1_only()
            .http1_max_headers(HEADERS_MAX);
        if scheme == "http" {
            // Saves reading the certificates; without any, https fails, should it be tried all the same.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(Error::Client)?;
        Ok(match kept {
            Some(kept) => kept.get_or_init(|| client).clone(),
            None => client,
        })
    }
}

/// The body of an answer as far as `bytes_max`, and whether there was more of it.
pub async fn body_up_to(
    url: &Url,
    response: &mut Response,
    bytes_max: usize,
) -> Result<(Vec<u8>, bool), Error> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| Error::of_call(url, error))? {
        let room = bytes_max - body.len();
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            return Ok((body, true));
        }
    }
    Ok((body, false))
}

/// What all clients have in common.
#[expect(clippy::disallowed_methods, reason = "this is the egress guard: the one place that makes clients")]
fn builder() -> ClientBuilder {
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .user_agent(USER_AGENT)
}
