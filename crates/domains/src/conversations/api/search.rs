//! The route that searches what was said.

use std::sync::Arc;

use axum::{Json, extract::State};
use contracts::{ConversationId, MessageId};
use platform::http::{Page, Problem, Query, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{App, conversations::service, identity::Authenticated};

/// What to search for, and which page of what is found.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SearchQuery {
    /// Words that all have to be there; the last may be the beginning of one. At most 200 characters.
    #[param(required = true)]
    pub q: Option<String>,
    /// Rows in a page, 1 to 200; 50 unless told.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// A message, or a title, that has the words.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Found {
    pub conversation_id: ConversationId,
    pub title: Option<String>,
    /// Null where the words are in the title.
    pub message_id: Option<MessageId>,
    /// Plain text around the first word that was found.
    pub snippet: String,
    pub created_at: Timestamp,
}

/// Searches what people and agents have said, and titles, the newest first.
#[utoipa::path(get, path = "/api/v2/conversations/search", tag = "conversations", params(SearchQuery),
    extensions(("x-soma-action" = json!("conversation:search"))),
    responses((status = 200, body = Page<Found>), (status = "default", body = Problem)))]
pub(super) async fn search(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Query(query): Query<SearchQuery>,
) -> Result<Json<Page<Found>>, Problem> {
    let limit = platform::http::page_limit(query.limit)?;
    Ok(Json(service::search::search(&app, &caller, query, limit).await?))
}
