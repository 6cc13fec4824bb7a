//! The routes of OpenAI's API.

use std::sync::Arc;

use axum::{Json, extract::State, http::HeaderMap, response::Response};
use contracts::Caller;
use platform::{
    http::{Path, RawJson},
    idempotency::{Guard, IdempotencyKey},
};
use sha2::{Digest, Sha256};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    agent, embedded,
    error::{Error, ErrorBody},
    listing::{self, AGENT, Model, ModelList},
    pass::{self, Head},
    request::ChatRequest,
    responding,
    responses::{self, ResponsesRequest},
};
use crate::{App, identity::Authenticated, models::Endpoint};

/// Largest body: an image or two within it.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A request that may come again.
fn guard(key: IdempotencyKey, caller: &Caller, operation: &str, body: &[u8]) -> Guard {
    Guard::new(key, caller, operation.to_owned(), hex::encode(Sha256::digest(body)))
}

type Raw = RawJson<BODY_BYTES_MAX>;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(models))
        .routes(routes!(model))
        .routes(routes!(agent_model))
        .routes(routes!(chat_completions))
        .routes(routes!(respond))
        .routes(routes!(response))
        .routes(routes!(cancel_response))
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
async fn agent_model(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(slug): Path<String>,
) -> Result<Json<Model>, Error> {
    Ok(Json(listing::one(&app, &caller, &format!("{AGENT}{slug}")).await?))
}

/// Answers a chat, by OpenAI's protocol, streamed or not.
///
/// `model` is a model's name, whose request and answer pass unchanged; or `agent/SLUG`, which runs that agent (for that
/// `conversation:create` and `conversation:send_message` are asked of the policy): the last user message is its
/// question, earlier ones are context, system messages are added after its prompt. Nothing is kept unless `store` is
/// true. A client that goes away stops the run. With `store` and an `Idempotency-Key` it goes on, and the same request,
/// sent again within 24 hours, is answered by the same run. Chunks may have a field `soma` with an event of the run.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "openai",
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body(content = serde_json::Value, content_type = "application/json"),
    extensions(("x-soma-action" = json!("model:invoke"))),
    responses((status = 200, content((serde_json::Value = "application/json"), (String = "text/event-stream"))),
        (status = "default", body = ErrorBody)))]
async fn chat_completions(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    key: IdempotencyKey,
    RawJson(body): Raw,
) -> Result<Response, Error> {
    let head = Head::read(&body)?;
    if let Some(agent) = agent::find(&app, &caller, &head.model).await? {
        let guard = guard(key, &caller, "POST /v1/chat/completions", &body);
        return agent::chat(&app, &caller, agent, ChatRequest::read(&body)?.check()?, guard).await;
    }
    if app.model_server.is_none() && head.model == app.model.profile().name {
        return embedded::chat(&app, &caller, ChatRequest::read(&body)?.check()?).await;
    }
    pass::forward(&app, &caller, Endpoint::ChatCompletions, &headers, head, body).await
}

/// Answers by OpenAI's Responses protocol, streamed or not: an agent, or a model whose server speaks it.
///
/// Of an agent's response nothing is kept unless `store` is true; one in the `background` has to be kept. One that is
/// kept may have an `Idempotency-Key`: its run goes on without its client, and the same request, sent again within 24
/// hours, is answered by the same run.
#[utoipa::path(post, path = "/v1/responses", tag = "openai",
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body(content = serde_json::Value, content_type = "application/json"),
    extensions(("x-soma-action" = json!("model:invoke"))),
    responses((status = 200, content((serde_json::Value = "application/json"), (String = "text/event-stream"))),
        (status = "default", body = ErrorBody)))]
async fn respond(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    key: IdempotencyKey,
    RawJson(body): Raw,
) -> Result<Response, Error> {
    let head = Head::read(&body)?;
    if let Some(agent) = agent::find(&app, &caller, &head.model).await? {
        let wanted = ResponsesRequest::read(&body)?.check()?;
        let guard = guard(key, &caller, "POST /v1/responses", &body);
        return responding::respond(&app, &caller, agent, wanted, guard).await;
    }
    pass::forward(&app, &caller, Endpoint::Responses, &headers, head, body).await
}

/// Shows an agent's response that was stored, as it is now.
#[utoipa::path(get, path = "/v1/responses/{id}", tag = "openai", params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("conversation:read"))),
    responses((status = 200, body = serde_json::Value), (status = "default", body = ErrorBody)))]
async fn response(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> Result<Json<serde_json::Value>, Error> {
    Ok(Json(responses::get(&app, &caller, &id).await?.object()))
}

/// Stops an agent's response that was stored.
#[utoipa::path(post, path = "/v1/responses/{id}/cancel", tag = "openai", params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("conversation:update"))),
    responses((status = 200, body = serde_json::Value), (status = "default", body = ErrorBody)))]
async fn cancel_response(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> Result<Json<serde_json::Value>, Error> {
    Ok(Json(responses::cancel(&app, &caller, &id).await?.object()))
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
    let head = Head::read(&body)?;
    pass::forward(&app, &caller, Endpoint::Embeddings, &headers, head, body).await
}
