//! The routes of messages: reading a branch of them, page by page from either end, and sending one.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use contracts::{
    MessageId, RunId,
    model::{Role, ToolRequest},
};
use platform::{
    http::{Body, Page, Path, Problem, Query, Timestamp},
    idempotency::{Guard, IdempotencyKey},
};
use serde::{Deserialize, Deserializer, Serialize};

use super::conversation_id;
use crate::{App, conversations::service, identity::Authenticated};

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SendMessage {
    /// 1 to 262144 bytes of text.
    pub content: String,
    /// While another run is at work: true stops it, false waits behind it.
    #[serde(default)]
    pub interrupt: bool,
    /// The run whose answer this message follows; a run that was followed already gets another branch. Null begins
    /// the conversation anew, and absent goes on with the run that was made last.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<RunId>)]
    pub parent_run_id: Option<Option<RunId>>,
}

/// Tells null from absent.
pub(in super::super) fn given<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<RunId>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
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

/// Which branch of a conversation, and which page of it.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MessagesQuery {
    /// Messages in a page, 1 to 200; 50 unless told.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before: pages go forward from the first message.
    pub cursor: Option<String>,
    /// Pages go back instead: `end` for the last one, then each page's `next_cursor`. A page's items are in the order
    /// in which they were said all the same.
    pub before: Option<String>,
    /// The run that the branch ends with; the one that was made last unless told.
    pub leaf: Option<String>,
}

/// Lists the messages of one branch of a conversation in the order in which they were said.
#[utoipa::path(get, path = "/api/v2/conversations/{id}/messages", tag = "conversations",
    params(("id" = String, Path), MessagesQuery),
    extensions(("x-soma-action" = json!("conversation:view_history"))),
    responses((status = 200, body = Page<Message>), (status = "default", body = Problem)))]
pub(super) async fn messages(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    Query(query): Query<MessagesQuery>,
) -> Result<Json<Page<Message>>, Problem> {
    let limit = platform::http::page_limit(query.limit)?;
    Ok(Json(service::messages::page(&app, &caller, conversation_id(&id)?, query, limit).await?))
}

/// Sends a message. It is stored before this answers; the run's events tell how it is answered.
#[utoipa::path(post, path = "/api/v2/conversations/{id}/messages", tag = "conversations", request_body = SendMessage,
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    extensions(("x-soma-action" = json!("conversation:send_message"))),
    responses((status = 202, body = Accepted), (status = "default", body = Problem)))]
pub(super) async fn send(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    key: IdempotencyKey,
    body: Body<SendMessage>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let id = conversation_id(&id)?;
    let guard = Guard::new(key, &caller, format!("POST /conversations/{id}/messages"), body.hash);
    let accepted = service::messages::send(&app, &caller, id, body.value, guard).await?;
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}
