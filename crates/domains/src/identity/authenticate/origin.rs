//! Refuses what another site made a browser send.
//!
//! A browser says where a request comes from: by `Sec-Fetch-Site`, and older ones by `Origin`. A request that brings the
//! session's cookie and changes something must come from this server's own pages; so must one that opens a WebSocket.
//! Who sends a key in `Authorization` is no page of another site.

use std::net::IpAddr;

use axum::{
    extract::Request,
    http::{HeaderMap, Method, StatusCode, Uri, header},
};
use platform::http::Problem;
use url::Url;

use super::cookie;

/// Where a request comes from, as its browser tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Site {
    Here,
    Elsewhere,
    /// Nothing tells: no browser, or an old one.
    Unknown,
}

/// `signing_in`: about to get a cookie, so that one from elsewhere could sign somebody in as somebody else.
pub(super) fn check(request: &Request, public_url: &Url, signing_in: bool) -> Result<(), Problem> {
    let headers = request.headers();
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if (safe && !headers.contains_key(header::UPGRADE)) || headers.contains_key(header::AUTHORIZATION) {
        return Ok(());
    }
    let by_cookie = cookie::is_there(headers);
    match from(headers, request.uri(), public_url) {
        Site::Elsewhere if by_cookie || signing_in => Err(cross_site()),
        Site::Unknown if by_cookie => Err(cross_site()),
        Site::Here | Site::Elsewhere | Site::Unknown => Ok(()),
    }
}

fn cross_site() -> Problem {
    let detail =
        "This request came from another site. A program sends an API key: `Authorization: Bearer KEY`.";
    Problem::new(StatusCode::FORBIDDEN, "cross_site", detail)
}

fn from(headers: &HeaderMap, uri: &Uri, public_url: &Url) -> Site {
    if let Some(site) = headers.get("sec-fetch-site") {
        let here = matches!(site.as_bytes(), b"same-origin" | b"none");
        return if here { Site::Here } else { Site::Elsewhere };
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Site::Unknown };
    let origin = origin.to_str().unwrap_or_default();
    let own_host = origin
        .split_once("://")
        .zip(host(headers, uri))
        .is_some_and(|((_, origin), host)| origin.eq_ignore_ascii_case(host));
    if own_host || origin == public_url.origin().ascii_serialization() { Site::Here } else { Site::Elsewhere }
}

/// The host that the client named, with its port if that is not the usual one.
pub(super) fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let named = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    named.or_else(|| uri.authority().map(axum::http::uri::Authority::as_str))
}

/// Whether a host is this machine's own name for itself.
pub(super) fn is_loopback(host: &str) -> bool {
    let Ok(url) = Url::parse(&format!("http://{host}/")) else { return false };
    match url.host() {
        Some(url::Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
        Some(url::Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http};

    use super::*;

    const COOKIE: (&str, &str) = ("cookie", "session_id=x");

    fn refused(method: Method, headers: &[(&str, &str)], signing_in: bool) -> bool {
        let mut request =
            http::Request::builder().method(method).uri("/api/v2/me").header("host", "a.test:8080");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        check(&request, &Url::parse("https://agents.test").unwrap(), signing_in).is_err()
    }

    #[test]
    fn a_change_with_the_cookie_comes_from_here_or_not_at_all() {
        for (headers, expected) in [
            (vec![], true),
            (vec![("sec-fetch-site", "same-origin")], false),
            (vec![("sec-fetch-site", "none")], false),
            (vec![("sec-fetch-site", "same-site")], true),
            (vec![("sec-fetch-site", "cross-site"), ("origin", "http://a.test:8080")], true),
            (vec![("origin", "http://a.test:8080")], false),
            (vec![("origin", "http://A.TEST:8080")], false),
            (vec![("origin", "https://agents.test")], false),
            (vec![("origin", "http://agents.test")], true),
            (vec![("origin", "http://a.test")], true),
            (vec![("origin", "http://a.test:8080.evil.test")], true),
            (vec![("origin", "null")], true),
            (vec![("origin", "http://evil.test")], true),
            (vec![("origin", "http://evil.test"), ("authorization", "Bearer soma_x")], false),
        ] {
            let with_cookie: Vec<_> = headers.iter().copied().chain([COOKIE]).collect();
            assert_eq!(refused(Method::POST, &with_cookie, false), expected, "{headers:?}");
            assert!(!refused(Method::GET, &with_cookie, false), "a read: {headers:?}");
        }
    }

    #[test]
    fn a_websocket_with_the_cookie_comes_from_here() {
        let upgrade = [COOKIE, ("upgrade", "websocket"), ("origin", "http://evil.test")];
        assert!(refused(Method::GET, &upgrade, false));
        assert!(!refused(
            Method::GET,
            &[COOKIE, ("upgrade", "websocket"), ("origin", "http://a.test:8080")],
            false
        ));
    }

    #[test]
    fn no_other_site_signs_anyone_in_and_a_program_without_a_cookie_is_let_through() {
        assert!(refused(Method::POST, &[("origin", "http://evil.test")], true));
        assert!(!refused(Method::POST, &[("origin", "http://evil.test")], false));
        assert!(!refused(Method::POST, &[], true));
    }

    #[test]
    fn loopback_is_told_from_what_only_looks_like_it() {
        for (host, expected) in [
            ("127.0.0.1:8080", true),
            ("localhost", true),
            ("[::1]:8080", true),
            ("agents.localhost:1", true),
            ("localhost.evil.test", false),
            ("127.0.0.1.evil.test", false),
            ("192.168.0.1:8080", false),
            ("", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }
}
