//! The routes of runs: showing, stopping, doing again, and the stream of their events.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::sse::{Event, Sse},
};
use contracts::{ConversationId, MessageId, RunId, ToolCallId, model::Usage, policy::Effect};
use futures::Stream;
use platform::{
    http::{Page, PageQuery, PageRequest, Path, Problem, Timestamp},
    idempotency::{Guard, IdempotencyKey},
};
use serde::{Deserialize, Serialize};

use super::{
    super::{
        journal::{self, RunState},
        stream,
    },
    Accepted, conversation_id, run_id,
};
use crate::{App, conversations::service, identity::Authenticated};

const EXPECTED_EVENT: &str = "expected the id of an event of this run";

/// One turn of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct RunInfo {
    pub id: RunId,
    pub conversation_id: ConversationId,
    /// The run whose answer this one's message follows; null for a first.
    pub parent_run_id: Option<RunId>,
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

/// One step of a run. A model call has tokens and a cost; a tool call has its tool, how it ended and why it was allowed.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct StepInfo {
    pub ordinal: u32,
    /// As in `call_model`, `run_tool` or `finish`.
    pub name: String,
    /// `repeatable`, `transactional`, `idempotent` or `at_most_once`.
    pub effect: String,
    /// `started`, `completed`, `failed` or `cancelled`.
    pub state: String,
    /// 0 where nothing had to begin, higher than 1 where an earlier attempt was lost or failed.
    pub attempt: i64,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// Millionths of a US dollar, attempts that were lost included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_micros: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<ToolCallId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// As in `success`, `error` or `blocked`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
    /// The policy's word on the call; gone with the run's events, while the audit keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<StepDecision>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StepDecision {
    pub effect: Effect,
    pub reason: String,
    /// Revision of the policy that decided.
    pub revision: String,
}

impl From<journal::Run> for RunInfo {
    fn from(run: journal::Run) -> Self {
        let message = run.error.unwrap_or_default();
        Self {
            id: run.id,
            conversation_id: run.conversation,
            parent_run_id: run.parent,
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

/// Lists a conversation's runs on all its branches, the last made first.
#[utoipa::path(get, path = "/api/v2/conversations/{id}/runs", tag = "conversations",
    params(("id" = String, Path), PageQuery),
    extensions(("x-soma-action" = json!("conversation:view_history"))),
    responses((status = 200, body = Page<RunInfo>), (status = "default", body = Problem)))]
pub(super) async fn runs(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    page: PageRequest,
) -> Result<Json<Page<RunInfo>>, Problem> {
    let runs = service::runs::page(&app, &caller, conversation_id(&id)?, &page).await?;
    let items = runs.items.into_iter().map(RunInfo::from).collect();
    Ok(Json(Page { items, next_cursor: runs.next_cursor }))
}

/// Sends a run's message once more, on a branch beside it.
#[utoipa::path(post, path = "/api/v2/runs/{id}/regenerate", tag = "conversations",
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    extensions(("x-soma-action" = json!("conversation:send_message"))),
    responses((status = 202, body = Accepted), (status = "default", body = Problem)))]
pub(super) async fn regenerate(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    key: IdempotencyKey,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let id = run_id(&id)?;
    let guard = Guard::new(key, &caller, format!("POST /runs/{id}/regenerate"), String::new());
    Ok((StatusCode::ACCEPTED, Json(service::messages::regenerate(&app, &caller, id, guard).await?)))
}

/// Shows a run.
#[utoipa::path(get, path = "/api/v2/runs/{id}", tag = "conversations", params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("conversation:read"))),
    responses((status = 200, body = RunInfo), (status = "default", body = Problem)))]
pub(super) async fn get_run(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> Result<Json<RunInfo>, Problem> {
    Ok(Json(service::runs::get(&app, &caller, run_id(&id)?).await?.into()))
}

/// Lists what a run did, step by step, as the ledger has it.
#[utoipa::path(get, path = "/api/v2/runs/{id}/steps", tag = "conversations", params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("conversation:read"))),
    responses((status = 200, body = Page<StepInfo>), (status = "default", body = Problem)))]
pub(super) async fn steps(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Page<StepInfo>>, Problem> {
    Ok(Json(service::steps::list(&app, &caller, run_id(&id)?).await?))
}

/// Asks a run to stop. What it has cost until then is settled.
#[utoipa::path(post, path = "/api/v2/runs/{id}/cancel", tag = "conversations", params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("conversation:update"))),
    responses((status = 202, body = RunInfo), (status = "default", body = Problem)))]
pub(super) async fn cancel_run(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<RunInfo>), Problem> {
    Ok((StatusCode::ACCEPTED, Json(service::runs::cancel(&app, &caller, run_id(&id)?).await?.into())))
}

/// Streams a run's events (Server-Sent Events) until `run.done`. `Last-Event-ID` goes on after that event. A run that
/// ended longer ago than events are kept has `run.done` alone.
#[utoipa::path(get, path = "/api/v2/runs/{id}/events", tag = "conversations",
    params(("id" = String, Path), ("Last-Event-ID" = Option<i64>, Header)),
    extensions(("x-soma-action" = json!("conversation:read"))),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = "default", body = Problem)))]
pub(super) async fn events(
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
    let run = service::runs::get(&app, &caller, run_id(&id)?).await?;
    if run.events_kept && after > service::runs::last_event(&app, run.id).await? {
        return Err(Problem::invalid("Last-Event-ID", EXPECTED_EVENT));
    }
    Ok(stream::events(app, run, after))
}
