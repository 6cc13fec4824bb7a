//! The routes of conversations as a whole.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use contracts::{AgentId, ConversationId, UserId};
use platform::{
    http::{Body, Page, Path, Problem, Query, Timestamp},
    idempotency::{Guard, IdempotencyKey},
};
use serde::{Deserialize, Serialize};

use super::{super::journal::RunState, conversation_id};
use crate::{App, conversations::service, identity::Authenticated};

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
    /// The first words of its first message, until somebody gives it another.
    pub title: Option<String>,
    #[serde(default)]
    pub archived: bool,
    /// Of the run that was made last; absent before the first.
    #[serde(default)]
    pub last_run_state: Option<RunState>,
    pub created_at: Timestamp,
    /// When a message was last sent or answered.
    #[serde(default = "never")]
    pub updated_at: Timestamp,
}

/// For an answer that an older version of this program kept for its `Idempotency-Key`.
fn never() -> Timestamp {
    Timestamp(0)
}

/// What is absent stays as it is.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeConversation {
    /// 1 to 200 characters.
    pub title: Option<String>,
    pub archived: Option<bool>,
}

/// Which conversations, and which page of them.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Rows in a page, 1 to 200; 50 unless told.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// True lists the archived ones alone; else those that are not.
    pub archived: Option<bool>,
    /// An agent's slug or id: only conversations with it.
    pub agent: Option<String>,
}

/// Begins a conversation with an agent.
#[utoipa::path(post, path = "/api/v2/conversations", tag = "conversations", request_body = NewConversation,
    params(("Idempotency-Key" = Option<String>, Header)),
    extensions(("x-soma-action" = json!("conversation:create"))),
    responses((status = 201, body = Conversation), (status = "default", body = Problem)))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    key: IdempotencyKey,
    body: Body<NewConversation>,
) -> Result<(StatusCode, Json<Conversation>), Problem> {
    let guard = Guard::new(key, &caller, "POST /conversations".into(), body.hash);
    Ok((StatusCode::CREATED, Json(service::create(&app, &caller, body.value, guard).await?)))
}

/// Lists the tenant's conversations, the last updated first.
#[utoipa::path(get, path = "/api/v2/conversations", tag = "conversations", params(ListQuery),
    extensions(("x-soma-action" = json!("conversation:read"))),
    responses((status = 200, body = Page<Conversation>), (status = "default", body = Problem)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<Conversation>>, Problem> {
    let limit = platform::http::page_limit(query.limit)?;
    Ok(Json(service::list(&app, &caller, query, limit).await?))
}

/// Shows a conversation.
#[utoipa::path(get, path = "/api/v2/conversations/{id}", tag = "conversations", params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("conversation:read"))),
    responses((status = 200, body = Conversation), (status = "default", body = Problem)))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Conversation>, Problem> {
    Ok(Json(service::get(&app, &caller, conversation_id(&id)?).await?))
}

/// Gives a conversation a title, archives it, or takes it out of the archive.
#[utoipa::path(patch, path = "/api/v2/conversations/{id}", tag = "conversations", params(("id" = String, Path)),
    request_body = ChangeConversation,
    extensions(("x-soma-action" = json!("conversation:update"))),
    responses((status = 200, body = Conversation), (status = "default", body = Problem)))]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    body: Body<ChangeConversation>,
) -> Result<Json<Conversation>, Problem> {
    Ok(Json(service::change(&app, &caller, conversation_id(&id)?, body.value).await?))
}

/// Deletes a conversation: its runs are stopped and nobody finds it any more, until it is restored.
#[utoipa::path(delete, path = "/api/v2/conversations/{id}", tag = "conversations", params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("conversation:delete"))),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    service::delete(&app, &caller, conversation_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Brings a deleted conversation back as it was.
#[utoipa::path(post, path = "/api/v2/conversations/{id}/restore", tag = "conversations", params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("conversation:delete"))),
    responses((status = 200, body = Conversation), (status = "default", body = Problem)))]
pub(super) async fn restore(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Conversation>, Problem> {
    Ok(Json(service::restore(&app, &caller, conversation_id(&id)?).await?))
}
