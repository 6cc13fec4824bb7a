//! The routes of OpenAI's API.

use std::sync::Arc;

use axum::{Json, extract::State, http::HeaderMap, response::Response};
use platform::http::{Path, RawJson};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    error::{Error, ErrorBody},
    listing::{self, AGENT, Model, ModelList},
    pass,
};
use crate::{App, identity::Authenticated, models::Endpoint};

/// Largest body: an image or two within it.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

type Raw = RawJson<BODY_BYTES_MAX>;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(models))
        .routes(routes!(model))
        .routes(routes!(agent))
        .routes(routes!(chat_completions))
        .routes(routes!(responses))
        .routes(routes!(embeddings))
}

/// Lists the configured model and the agents that the caller may read.
#[utoipa::path(get, path = "/v1/models", tag = "openai",
    extensions(("x-soma-action" = json!("model:read"))),
    responses((status = 200, body = ModelList), (status = "default", body = ErrorBody)))]
async fn models(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
) -> Result<Json<ModelList>, Error> {
    Ok(Json(listing::all(&app, &caller).await?))
}

/// Shows a model by its name.
#[utoipa::path(get, path = "/v1/models/{model}", tag = "openai", params(("model" = String, Path)),
    extensions(("x-soma-action" = json!("model:read"))),
    responses((status = 200, body = Model), (status = "default", body = ErrorBody)))]
async fn model(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Model>, Error> {
    Ok(Json(listing::one(&app, &caller, &id).await?))
}

/// Shows an agent as a model.
#[utoipa::path(get, path = "/v1/models/agent/{agent}", tag = "openai", params(("agent" = String, Path)),
    extensions(("x-soma-action" = json!("model:read"))),
    responses((status = 200, body = Model), (status = "default", body = ErrorBody)))]
async fn agent(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(slug): Path<String>,
) -> Result<Json<Model>, Error> {
    Ok(Json(listing::one(&app, &caller, &format!("{AGENT}{slug}")).await?))
}

/// Answers a chat, by OpenAI's protocol. A model's request and answer pass unchanged, streamed or not.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "openai",
    request_body(content = serde_json::Value, content_type = "application/json"),
    extensions(("x-soma-action" = json!("model:invoke"))),
    responses((status = 200, content((serde_json::Value = "application/json"), (String = "text/event-stream"))),
        (status = "default", body = ErrorBody)))]
async fn chat_completions(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    RawJson(body): Raw,
) -> Result<Response, Error> {
    pass::forward(&app, &caller, Endpoint::ChatCompletions, &headers, body).await
}

/// Answers by OpenAI's Responses protocol, if the model's server speaks it.
#[utoipa::path(post, path = "/v1/responses", tag = "openai",
    request_body(content = serde_json::Value, content_type = "application/json"),
    extensions(("x-soma-action" = json!("model:invoke"))),
    responses((status = 200, content((serde_json::Value = "application/json"), (String = "text/event-stream"))),
        (status = "default", body = ErrorBody)))]
async fn responses(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    RawJson(body): Raw,
) -> Result<Response, Error> {
    pass::forward(&app, &caller, Endpoint::Responses, &headers, body).await
}

/// Turns texts into vectors, if the model's server does that.
#[utoipa::path(post, path = "/v1/embeddings", tag = "openai",
    request_body(content = serde_json::Value, content_type = "application/json"),
    extensions(("x-soma-action" = json!("model:invoke"))),
    responses((status = 200, body = serde_json::Value), (status = "default", body = ErrorBody)))]
async fn embeddings(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    RawJson(body): Raw,
) -> Result<Response, Error> {
    pass::forward(&app, &caller, Endpoint::Embeddings, &headers, body).await
}
