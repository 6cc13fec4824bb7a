//! The routes of all domains, and the layers that every request passes.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::Request,
    http::{HeaderName, StatusCode},
    middleware,
    routing::get,
};
use domains::{App, DOMAINS, identity, openai};
use platform::http::Problem;
use tower_http::{
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    trace::TraceLayer,
};

use crate::{commands::Failure, web};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Every route, each behind the credential check but for the public few.
pub fn router(app: Arc<App>) -> Result<Router, Failure> {
    let assembled = domains::assemble(DOMAINS).map_err(Failure::failed)?;
    let document = Arc::new(assembled.openapi);
    let openapi = get(move || {
        let document = Arc::clone(&document);
        async move { Json(document) }
    });
    Ok(assembled
        .router
        .route("/api/openapi.json", openapi)
        .fallback(web::serve)
        .method_not_allowed_fallback(|| async {
            let detail = "This path does not take this method; /api/openapi.json lists what it takes.";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&app), identity::require_caller))
        .layer(CatchPanicLayer::custom(|_| {
            axum::response::IntoResponse::into_response(Problem::internal(&"a handler panicked"))
        }))
        .layer(middleware::from_fn(openai::in_openais_shape))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID.clone()))
        .layer(TraceLayer::new_for_http().make_span_with(|request: &Request| {
            let header = |name: &HeaderName| {
                request
                    .headers()
                    .get(name)
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or_default()
                    .to_owned()
            };
            let traceparent = header(&HeaderName::from_static("traceparent"));
            tracing::info_span!("request", method = %request.method(), path = request.uri().path(),
                request_id = header(&REQUEST_ID), traceparent)
        }))
        .layer(SetRequestIdLayer::new(REQUEST_ID.clone(), MakeRequestUuid))
        .with_state(app))
}
