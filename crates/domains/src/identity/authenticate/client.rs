//! Where a request comes from: what a session keeps of it, and what attempts to sign in are counted by.

use std::{convert::Infallible, net::IpAddr};

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use platform::http::ClientAddress;

use super::origin;

/// Characters of a browser's name that are kept.
const USER_AGENT_CHARS: usize = 256;

#[derive(Debug, Clone)]
pub struct Client {
    /// Absent where the server did not say.
    pub ip: Option<IpAddr>,
    pub user_agent: String,
    /// Whether the client speaks plain HTTP to this machine itself, where a browser may not take a `Secure` cookie.
    pub by_loopback: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let address = parts.extensions.get::<ClientAddress>();
        let plain = address.is_none_or(|address| !address.secure);
        let user_agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        Ok(Self {
            ip: address.map(|address| address.ip),
            user_agent: user_agent.unwrap_or_default().chars().take(USER_AGENT_CHARS).collect(),
            by_loopback: plain && origin::host(&parts.headers, &parts.uri).is_some_and(origin::is_loopback),
        })
    }
}
