//! The routes of conversations and runs.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::sse::{Event, Sse},
};
use contracts::{
    AgentId, ConversationId, MessageId, RunId, UserId,
    model::{Role, ToolRequest, Usage},
};
use futures::Stream;
use platform::{
    http::{Body, Page, PageQuery, PageRequest, Path, Problem, Timestamp},
    idempotency::{Guard, IdempotencyKey},
};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    journal::{self, RunState},
    service::{self, Error},
    stream,
};
use crate::{App, identity::Authenticated};

const EXPECTED_EVENT: &str = "expected the id of an event of this run";

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get))
        .routes(routes!(messages, send))
        .routes(routes!(get_run))
        .routes(routes!(cancel_run))
        .routes(routes!(events))
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewConversation {
    /// The agent's slug or id.
    pub agent: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Conversation {
    pub id: ConversationId,
    pub agent_id: AgentId,
    /// Who began it.
    pub user_id: UserId,
    pub title: Option<String>,
    pub created_at: Timestamp,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SendMessage {
    /// 1 to 262144 bytes of text.
    pub content: String,
    /// While another run is at work: true stops it, false waits behind it.
    #[serde(default)]
    pub interrupt: bool,
}

/// The message is stored and will be answered, whatever happens to this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Accepted {
    pub message_id: MessageId,
    pub run_id: RunId,
}

#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Message {
    pub id: MessageId,
    pub run_id: RunId,
    pub role: Role,
    pub content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<serde_json::Value>)]
    pub tool_calls: Vec<ToolRequest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    pub created_at: Timestamp,
}

/// One turn of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct RunInfo {
    pub id: RunId,
    pub conversation_id: ConversationId,
    pub message_id: MessageId,
    pub state: RunState,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<RunError>,
    pub usage: Usage,
    /// Millionths of a US dollar.
    pub cost_micros: u64,
    /// Older messages were left out because the model's context is smaller.
    pub context_cut: bool,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct RunError {
    pub code: String,
    pub message: String,
}

impl From<journal::Run> for RunInfo {
    fn from(run: journal::Run) -> Self {
        let message = run.error.unwrap_or_default();
        Self {
            id: run.id,
            conversation_id: run.conversation,
            message_id: run.message,
            state: run.state,
            error: run.code.map(|code| RunError { code, message }),
            usage: run.usage,
            cost_micros: run.cost_micros,
            context_cut: run.context_cut,
            created_at: Timestamp(run.created_at),
            started_at: run.started_at.map(Timestamp),
            finished_at: run.finished_at.map(Timestamp),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::NoSuchAgent => Self::invalid("agent", error.to_string()),
            Error::AgentArchived => Self::conflict("agent_archived", error.to_string()),
            Error::BadContent => Self::invalid("content", error.to_string()),
            Error::TooManyQueued => Self::conflict("too_many_queued", error.to_string()),
            Error::Denied(denied) => denied.into(),
            Error::Idempotency(error) => error.into(),
            Error::Store(error) => error.into(),
        }
    }
}

fn conversation_id(text: &str) -> Result<ConversationId, Problem> {
    text.parse().map_err(|_| Problem::not_found())
}

fn run_id(text: &str) -> Result<RunId, Problem> {
    text.parse().map_err(|_| Problem::not_found())
}

/// Begins a conversation with an agent.
#[utoipa::path(post, path = "/api/v2/conversations", tag = "conversations", request_body = NewConversation,
    params(("Idempotency-Key" = Option<String>, Header)),
    extensions(("x-soma-action" = json!("conversation:create"))),
    responses((status = 201, body = Conversation), (status = "default", body = Problem)))]
async fn create(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    key: IdempotencyKey,
    body: Body<NewConversation>,
) -> Result<(StatusCode, Json<Conversation>), Problem> {
    let guard = Guard::new(key, &caller, "POST /conversations".into(), body.hash);
    Ok((StatusCode::CREATED, Json(service::create(&app, &caller, body.value, guard).await?)))
}

/// Lists the tenant's conversations, newest first.
#[utoipa::path(get, path = "/api/v2/conversations", tag = "conversations", params(PageQuery),
    extensions(("x-soma-action" = json!("conversation:read"))),
    responses((status = 200, body = Page<Conversation>), (status = "default", body = Problem)))]
async fn list(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    page: PageRequest,
) -> Result<Json<Page<Conversation>>, Problem> {
    Ok(Json(service::list(&app, &caller, &page).await?))
}

/// Shows a conversation.
#[utoipa::path(get, path = "/api/v2/conversations/{id}", tag = "conversations", params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("conversation:read"))),
    responses((status = 200, body = Conversation), (status = "default", body = Problem)))]
async fn get(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Conversation>, Problem> {
    Ok(Json(service::get(&app, &caller, conversation_id(&id)?).await?))
}

/// Lists a conversation's messages in the order in which they were said.
#[utoipa::path(get, path = "/api/v2/conversations/{id}/messages", tag = "conversations",
    params(("id" = String, Path), PageQuery),
    extensions(("x-soma-action" = json!("conversation:view_history"))),
    responses((status = 200, body = Page<Message>), (status = "default", body = Problem)))]
async fn messages(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    page: PageRequest,
) -> Result<Json<Page<Message>>, Problem> {
    Ok(Json(service::messages(&app, &caller, conversation_id(&id)?, &page).await?))
}

/// Sends a message. It is stored before this answers; the run's events tell how it is answered.
#[utoipa::path(post, path = "/api/v2/conversations/{id}/messages", tag = "conversations", request_body = SendMessage,
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    extensions(("x-soma-action" = json!("conversation:send_message"))),
    responses((status = 202, body = Accepted), (status = "default", body = Problem)))]
async fn send(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    key: IdempotencyKey,
    body: Body<SendMessage>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let id = conversation_id(&id)?;
    let guard = Guard::new(key, &caller, format!("POST /conversations/{id}/messages"), body.hash);
    Ok((StatusCode::ACCEPTED, Json(service::send(&app, &caller, id, body.value, guard).await?)))
}

/// Shows a run.
#[utoipa::path(get, path = "/api/v2/runs/{id}", tag = "conversations", params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("conversation:read"))),
    responses((status = 200, body = RunInfo), (status = "default", body = Problem)))]
async fn get_run(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> Result<Json<RunInfo>, Problem> {
    Ok(Json(service::get_run(&app, &caller, run_id(&id)?).await?.into()))
}

/// Asks a run to stop. What it has cost until then is settled.
#[utoipa::path(post, path = "/api/v2/runs/{id}/cancel", tag = "conversations", params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("conversation:update"))),
    responses((status = 202, body = RunInfo), (status = "default", body = Problem)))]
async fn cancel_run(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<RunInfo>), Problem> {
    Ok((StatusCode::ACCEPTED, Json(service::cancel_run(&app, &caller, run_id(&id)?).await?.into())))
}

/// Streams a run's events (Server-Sent Events) until `run.done`. `Last-Event-ID` goes on after that event.
#[utoipa::path(get, path = "/api/v2/runs/{id}/events", tag = "conversations",
    params(("id" = String, Path), ("Last-Event-ID" = Option<i64>, Header)),
    extensions(("x-soma-action" = json!("conversation:read"))),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = "default", body = Problem)))]
async fn events(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let after = match headers.get("last-event-id") {
        None => 0,
        Some(value) => value
            .to_str()
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
            .filter(|sequence| *sequence >= 0)
            .ok_or_else(|| Problem::invalid("Last-Event-ID", EXPECTED_EVENT))?,
    };
    let run = service::get_run(&app, &caller, run_id(&id)?).await?;
    if after > service::last_event(&app, run.id).await? {
        return Err(Problem::invalid("Last-Event-ID", EXPECTED_EVENT));
    }
    let over = run.state.is_final();
    Ok(stream::events(app, run.id, after, over))
}
