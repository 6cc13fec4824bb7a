//! Health and metrics.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use contracts::{events::BusError, policy::Resource};
use platform::{http::Problem, outbox, telemetry::Metrics};
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{App, authority, identity::Authenticated};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready)).routes(routes!(metrics))
}

/// The state of each part that requests need.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Readiness {
    pub ready: bool,
    /// `ok`, or what is wrong, by engine.
    pub engines: BTreeMap<&'static str, String>,
}

/// Answers while the process lives.
#[utoipa::path(get, path = "/health/live", tag = "operations", security(()),
    extensions(("x-soma-action" = json!("public"))),
    responses((status = 200, body = String)))]
async fn live() -> &'static str {
    "ok"
}

/// Answers 200 when every engine works that requests need, else 503 and which one does not.
#[utoipa::path(get, path = "/health/ready", tag = "operations", security(()),
    extensions(("x-soma-action" = json!("public"))),
    responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
async fn ready(State(app): State<Arc<App>>) -> (StatusCode, Json<Readiness>) {
    let said = |result: Result<(), String>| result.err().unwrap_or_else(|| "ok".to_owned());
    let workflows = match app.engine() {
        Some(engine) => engine.ready().await.map_err(|error| error.to_string()),
        None => Err("not started".to_owned()),
    };
    let database = app.database.ready().await.map_err(|error| {
        tracing::error!(%error, "the database is not ready");
        "does not answer".to_owned()
    });
    let mut engines = BTreeMap::from([
        ("database", said(database)),
        ("workflows", said(workflows)),
        ("policy", said(app.policy.ready().await)),
    ]);
    if let Some(secrets) = &app.secrets {
        engines.insert("vault", secrets.problem().unwrap_or("ok").to_owned());
    }
    let ready = engines.values().all(|state| state == "ok");
    // Told, and not waited for: without it everything works, only with narrower limits and slower streams.
    if let Some(redis) = &app.redis {
        let state = if redis.ready().await.is_ok() { "ok" } else { "does not answer" };
        engines.insert("redis", state.to_owned());
    }
    // Told, and not waited for: events are kept in the outbox until it is there again.
    if let Some(bus) = &app.bus {
        let state = match bus.ready().await {
            Ok(()) => "ok".to_owned(),
            Err(error) => {
                // Anybody may ask this; the log says more.
                let what = match error {
                    BusError::Refused(_) => "does not let this program in",
                    BusError::Away(_) | BusError::Impossible(_) => "does not answer",
                };
                match outbox::waiting(&app.database).await {
                    Ok(waiting) => format!("{what}; {waiting} events wait"),
                    Err(_) => what.to_owned(),
                }
            }
        };
        engines.insert("kafka", state);
    }
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, engines }))
}

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    extensions(("x-soma-action" = json!("infra:view"))),
    responses((status = 200, content_type = "text/plain", body = String), (status = "default", body = Problem)))]
async fn metrics(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
) -> Result<impl IntoResponse, Problem> {
    authority::require(&app, &caller, "infra:view", Resource::any("metrics")).await?;
    let text = app.metrics.as_ref().map(Metrics::render).unwrap_or_default();
    Ok(([("content-type", "text/plain; version=0.0.4")], text))
}
