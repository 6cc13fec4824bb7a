//! The routes of conversations, messages and runs.

mod conversations;
mod files;
mod messages;
mod runs;
mod search;

use std::sync::Arc;

use axum::http::StatusCode;
use contracts::{ConversationId, RunId};
use platform::http::Problem;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use conversations::{ChangeConversation, Conversation, ListQuery, NewConversation};
pub use files::FileEntry;
pub(super) use messages::given;
pub use messages::{Accepted, Message, MessagesQuery, SendMessage};
pub use runs::{StepDecision, StepInfo};
pub use search::{Found, SearchQuery};

use super::service::Error;
use crate::App;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(conversations::list, conversations::create))
        .routes(routes!(conversations::get, conversations::change, conversations::delete))
        .routes(routes!(conversations::restore))
        .routes(routes!(search::search))
        .routes(routes!(messages::messages, messages::send))
        .routes(routes!(files::list_files))
        .routes(routes!(files::download_file, files::upload_file, files::remove_file))
        .routes(routes!(runs::runs))
        .routes(routes!(runs::get_run))
        .routes(routes!(runs::cancel_run))
        .routes(routes!(runs::regenerate))
        .routes(routes!(runs::steps))
        .routes(routes!(runs::events))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::NoSuchAgent => Self::invalid("agent", error.to_string()),
            Error::AgentArchived => Self::conflict("agent_archived", error.to_string()),
            Error::NoSuchParent => Self::invalid("parent_run_id", error.to_string()),
            Error::AnswerGone => Self::new(StatusCode::GONE, "answer_gone", error.to_string()),
            Error::BadTitle => Self::invalid("title", error.to_string()),
            Error::BadContent => Self::invalid("content", error.to_string()),
            Error::BadCursor(name) => Self::invalid(name, error.to_string()),
            Error::BadQuery(_) => Self::invalid("q", error.to_string()),
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
