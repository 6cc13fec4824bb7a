//! Headers of every answer: what a browser may do with it, and which other sites' pages may read it.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use platform::http::ClientAddress;

/// Answers for programs, which no browser should keep, frame or run.
const PROGRAMS: &[&str] = &["/api", "/v1", "/ws", "/health", "/metrics"];
/// What pages of other sites may call.
const CALLABLE: &[&str] = &["/api", "/v1"];

const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");
const NOTHING: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
/// A year.
const TLS_ONLY: HeaderValue = HeaderValue::from_static("max-age=31536000");

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
/// How long a browser may keep the answer to its question, in seconds.
const ASKED_FOR: HeaderValue = HeaderValue::from_static("600");
const READABLE: HeaderValue =
    HeaderValue::from_static("x-request-id, retry-after, ratelimit, ratelimit-policy, location");

fn under(path: &str, prefixes: &[&str]) -> bool {
    prefixes
        .iter()
        .any(|prefix| path.strip_prefix(*prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// Adds what protects a browser. A route that says something else about an answer of its own is left alone.
pub async fn secure(request: Request, next: Next) -> Response {
    let program = under(request.uri().path(), PROGRAMS);
    let tls = request.extensions().get::<ClientAddress>().is_some_and(|client| client.secure);
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(NOSNIFF);
    headers.entry(header::REFERRER_POLICY).or_insert(NO_REFERRER);
    if program {
        headers.entry(header::CACHE_CONTROL).or_insert(NO_STORE);
        headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(NOTHING);
    }
    if tls {
        headers.entry(header::STRICT_TRANSPORT_SECURITY).or_insert(TLS_ONLY);
    }
    response
}

/// Lets pages of these origins call the API with a key of their own. Cookies stay at home: the answer never allows
/// credentials, so no origin acts as whoever is signed in.
pub async fn cross_origin(State(origins): State<Arc<Vec<String>>>, request: Request, next: Next) -> Response {
    if origins.is_empty() || !under(request.uri().path(), CALLABLE) {
        return next.run(request).await;
    }
    let origin = request.headers().get(header::ORIGIN).cloned();
    let origin =
        origin.filter(|origin| origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()));
    let asks = request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match (&origin, request.method()) {
        (Some(_), &Method::OPTIONS) if asks => preflight(request.headers()),
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, READABLE);
    }
    response
}

/// The answer to a browser that asks before it calls. Any header may be sent: none of them is a credential that the
/// page does not have itself.
fn preflight(asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, ASKED_FOR);
    if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    response
}
