//! GET for tools: an address that a model or a user named.

use std::{net::IpAddr, time::Duration};

use reqwest::{
    Client, Response,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, LOCATION},
};
use url::{Host, Url};

use super::{Egress, Error, body_up_to, resolve};

const URL_BYTES_MAX: usize = 8 * 1024;
const REDIRECTS_MAX: u8 = 5;

/// What one GET may take, redirects and all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetLimits {
    /// A longer body is cut here.
    pub body_bytes_max: usize,
    pub total_timeout: Duration,
}

impl Default for GetLimits {
    fn default() -> Self {
        Self { body_bytes_max: 1024 * 1024, total_timeout: Duration::from_secs(20) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub status: u16,
    /// Where the answer came from, after redirects.
    pub url: String,
    pub content_type: Option<String>,
    pub body: Vec<u8>,
    /// Whether the body was longer than the limit.
    pub truncated: bool,
    pub redirects: u8,
}

pub(super) async fn get(egress: &Egress, url: &str, limits: GetLimits) -> Result<Fetched, Error> {
    let following = follow(egress, parse(url)?, limits.body_bytes_max);
    tokio::time::timeout(limits.total_timeout, following)
        .await
        .map_err(|_| Error::TimedOut { seconds: limits.total_timeout.as_secs_f32() })?
}

async fn follow(egress: &Egress, mut url: Url, body_bytes_max: usize) -> Result<Fetched, Error> {
    for redirects in 0..=REDIRECTS_MAX {
        let client = guarded_client(egress, &url)?;
        let request = client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
        let response = request.send().await.map_err(|error| Error::of_call(&url, error))?;
        match redirect(&url, &response)? {
            Some(target) => url = target,
            None => return read(url, redirects, response, body_bytes_max).await,
        }
    }
    Err(Error::TooManyRedirects(REDIRECTS_MAX))
}

fn parse(text: &str) -> Result<Url, Error> {
    if text.len() > URL_BYTES_MAX {
        return Err(Error::BadUrl(format!("it is longer than {URL_BYTES_MAX} bytes")));
    }
    Url::parse(text).map_err(|error| Error::BadUrl(error.to_string()))
}

/// A client for exactly this scheme and port, once what can be checked before the look-up has been.
fn guarded_client(egress: &Egress, url: &Url) -> Result<Client, Error> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Error::Scheme(url.scheme().to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::UserInfo);
    }
    let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
        return Err(Error::BadUrl("it names no host".to_owned()));
    };
    // The connector doesn't look up a literal address, so it is checked here.
    let literal: Option<IpAddr> = match host {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
    };
    if let Some(ip) = literal {
        resolve::check(&egress.0.allow, (ip, port).into()).map_err(Error::from)?;
    }
    egress.guarded_client(url.scheme(), port)
}

fn redirect(from: &Url, response: &Response) -> Result<Option<Url>, Error> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = response.headers().get(LOCATION) else {
        return Ok(None);
    };
    let target = location.to_str().ok().filter(|text| text.len() <= URL_BYTES_MAX);
    let target = target.and_then(|text| from.join(text).ok());
    target.map(Some).ok_or(Error::BadRedirect)
}

async fn read(
    url: Url,
    redirects: u8,
    mut response: Response,
    body_bytes_max: usize,
) -> Result<Fetched, Error> {
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    if let Some(encoding) = header(CONTENT_ENCODING)
        && !encoding.eq_ignore_ascii_case("identity")
    {
        return Err(Error::Encoded(encoding.to_owned()));
    }
    let content_type = header(CONTENT_TYPE).map(str::to_owned);
    let status = response.status().as_u16();
    let (body, truncated) = body_up_to(&url, &mut response, body_bytes_max).await?;
    Ok(Fetched { status, url: url.into(), content_type, body, truncated, redirects })
}
