//! What is known of every request: a span, a count, and how long it took until its answer began.

use std::time::{Duration, Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use platform::{http::Problem, telemetry::Span};
use tracing::Instrument;

pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Asked for by machines, all the time.
const UNTRACED: &[&str] = &["/health/live", "/health/ready", "/metrics"];

/// Stands for a path that no route has: names that clients make up are not counted one by one.
const NO_ROUTE: &str = "none";

/// Gives the request a span and counts it.
pub async fn observe(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = method(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let name = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let path = request.uri().path();
    let mut trace = match UNTRACED.contains(&path) {
        true => None,
        false => Some(trace_of(&request, method, name)),
    };
    let span =
        tracing::info_span!("request", method, path, request_id = text(request.headers(), &REQUEST_ID));
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    if let Some(trace) = &mut trace {
        trace.set("http.response.status_code", u64::from(status.as_u16()));
        if status.is_server_error() {
            trace.fail(status.as_str());
        }
    }
    drop(trace);
    let took = started.elapsed();
    span.in_scope(|| tracing::debug!(status = status.as_u16(), ms = took.as_millis(), "answered"));
    let route = name.to_owned();
    metrics::counter!("gateway_requests_total",
        "method" => method, "route" => route.clone(), "status" => status.as_u16().to_string())
    .increment(1);
    metrics::histogram!("gateway_request_seconds", "method" => method, "route" => route)
        .record(took.as_secs_f64());
    response
}

/// The request's span, in the client's trace where it names one.
fn trace_of(request: &Request, method: &'static str, route: &str) -> Span {
    let traceparent = text(request.headers(), &TRACEPARENT);
    let mut trace = Span::of_request(Some(traceparent), || format!("{method} {route}"));
    trace.set("http.request.method", method);
    trace.set("http.route", route);
    trace.set("url.path", request.uri().path());
    trace
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

/// Ends a request whose answer does not begin in time. What waits for a model, a socket or a file has bounds of its
/// own.
pub async fn in_time(State(bound): State<Duration>, request: Request, next: Next) -> Response {
    if takes_its_time(&request) {
        return next.run(request).await;
    }
    tokio::time::timeout(bound, next.run(request)).await.unwrap_or_else(|_| {
        let detail = format!(
            "The server did not answer within {} s. What was asked may be done all the same: ask again with the \
             same Idempotency-Key, or look.",
            bound.as_secs()
        );
        Problem::unavailable("timeout", detail).into_response()
    })
}

fn takes_its_time(request: &Request) -> bool {
    let path = request.uri().path();
    let content = text(request.headers(), &header::CONTENT_TYPE);
    let uploads = !content.is_empty() && !content.starts_with("application/json");
    path.starts_with("/v1/") || path.starts_with("/ws/") || uploads
}
