//! The routes of all domains, and the layers that every request passes.

use std::sync::Arc;

use axum::{
    Json, Router,
    http::StatusCode,
    middleware::{from_fn, from_fn_with_state},
    routing::get,
};
use domains::{App, Domain, identity, openai};
use platform::http::Problem;
use tower_http::{
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
};

use super::{
    headers,
    observe::{self, REQUEST_ID},
    rates::{self, Addresses, Callers},
};
use crate::{commands::Failure, web};

/// Every route of these domains, each behind the credential check but for the public few.
pub fn router(app: Arc<App>, domains: &[Domain]) -> Result<Router, Failure> {
    let assembled = domains::assemble(domains).map_err(Failure::failed)?;
    let callers = Callers::new(Arc::clone(&app), assembled.asking());
    let document = Arc::new(assembled.openapi);
    let openapi = get(move || {
        let document = Arc::clone(&document);
        async move { Json(document) }
    });
    let settings = &app.config.gateway;
    let addresses = Addresses::new(settings.rates.address);
    // The last layer is the first that a request meets.
    Ok(assembled
        .router
        .route("/api/openapi.json", openapi)
        .fallback(web::serve)
        .method_not_allowed_fallback(|| async {
            let detail = "This path does not take this method; /api/openapi.json lists what it takes.";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
        })
        .layer(from_fn_with_state(callers, rates::of_caller))
        .layer(from_fn_with_state(Arc::clone(&app), identity::require_caller))
        .layer(from_fn_with_state(addresses, rates::of_address))
        .layer(from_fn_with_state(settings.connections.request_timeout, observe::in_time))
        .layer(CatchPanicLayer::custom(|_| {
            axum::response::IntoResponse::into_response(Problem::internal(&"a handler panicked"))
        }))
        .layer(from_fn(openai::in_openais_shape))
        .layer(from_fn_with_state(Arc::new(settings.cors_origins.clone()), headers::cross_origin))
        .layer(from_fn(headers::secure))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID.clone()))
        .layer(from_fn(observe::observe))
        .layer(SetRequestIdLayer::new(REQUEST_ID.clone(), MakeRequestUuid))
        .with_state(app))
}
