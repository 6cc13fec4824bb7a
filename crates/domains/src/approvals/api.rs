//! The approvals' routes.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State},
};
use contracts::{AgentId, ApprovalId, ConversationId, RunId, ToolCallId, UserId};
use platform::http::{Body, Page, PageQuery, PageRequest, Path, Problem, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State as ApprovalState,
    service::{self, Approval, Error},
};
use crate::{App, identity::Authenticated};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).routes(routes!(decide))
}

/// A tool call that a person is asked about.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ApprovalInfo {
    pub id: ApprovalId,
    pub run_id: RunId,
    pub conversation_id: ConversationId,
    pub agent_id: AgentId,
    pub call_id: ToolCallId,
    pub tool: String,
    /// Exactly what the tool would be called with.
    pub arguments: Value,
    /// SHA-256 of the arguments, in hexadecimal; a decision repeats it.
    pub arguments_hash: String,
    /// Why the policy asks.
    pub reason: String,
    pub state: ApprovalState,
    pub requested_at: Timestamp,
    /// Without a decision until then, the call is not made.
    pub expires_at: Timestamp,
    /// Who sent the message.
    pub requested_by: UserId,
    pub decided_by: Option<UserId>,
    pub decided_at: Option<Timestamp>,
    pub decision_reason: Option<String>,
    /// What the tool was called with, where a person changed the arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved_arguments: Option<Value>,
}

impl From<Approval> for ApprovalInfo {
    fn from(approval: Approval) -> Self {
        let edited = approval.approved_hash.as_ref().is_some_and(|hash| *hash != approval.arguments_hash);
        Self {
            id: approval.id,
            run_id: approval.run,
            conversation_id: approval.conversation,
            agent_id: approval.agent,
            call_id: approval.call,
            tool: approval.tool,
            arguments: service::shown(&approval.arguments),
            arguments_hash: approval.arguments_hash,
            reason: approval.reason,
            state: approval.state,
            requested_at: Timestamp(approval.requested_at),
            expires_at: Timestamp(approval.expires_at),
            requested_by: approval.requested_by,
            decided_by: approval.decided_by,
            decided_at: approval.decided_at.map(Timestamp),
            decision_reason: approval.decision_reason,
            approved_arguments: approval
                .approved_arguments
                .filter(|_| edited)
                .map(|arguments| service::shown(&arguments)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    Approve,
    Reject,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Decide {
    pub decision: Choice,
    /// Of the approval as it was shown.
    pub arguments_hash: String,
    /// With `approve`: call the tool with these instead. They must fit its schema.
    #[schema(value_type = Option<Object>)]
    pub arguments: Option<serde_json::Map<String, Value>>,
    /// At most 2000 characters; needed to reject, and told to the model.
    pub reason: Option<String>,
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// `pending` or `decided`; all when absent.
    state: Option<Wanted>,
    limit: Option<u32>,
    cursor: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum Wanted {
    Pending,
    Decided,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::Decided => Self::conflict("already_decided", error.to_string()),
            Error::Expired => Self::conflict("expired", error.to_string()),
            Error::OtherArguments => Self::conflict("arguments_changed", error.to_string()),
            Error::Invalid(field, message) => Self::invalid(field, message),
            Error::NoTools(error) => Self::internal(&error),
            Error::Denied(denied) => denied.into(),
            Error::Store(error) => error.into(),
        }
    }
}

fn approval_id(text: &str) -> Result<ApprovalId, Problem> {
    text.parse().map_err(|_| Problem::not_found())
}

/// Lists the tenant's approvals, newest first.
#[utoipa::path(get, path = "/api/v2/approvals", tag = "approvals", params(Filter),
    extensions(("x-soma-action" = json!("tool:approve"))),
    responses((status = 200, body = Page<ApprovalInfo>), (status = "default", body = Problem)))]
async fn list(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    filter: Result<Query<Filter>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Page<ApprovalInfo>>, Problem> {
    let Query(filter) = filter.map_err(|error| Problem::invalid("query", error.body_text()))?;
    let page = PageRequest::try_from(PageQuery { limit: filter.limit, cursor: filter.cursor })?;
    let pending = filter.state.map(|wanted| wanted == Wanted::Pending);
    Ok(Json(service::list(&app, &caller, pending, &page).await?))
}

/// Shows an approval.
#[utoipa::path(get, path = "/api/v2/approvals/{id}", tag = "approvals", params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("tool:approve"))),
    responses((status = 200, body = ApprovalInfo), (status = "default", body = Problem)))]
async fn get(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> Result<Json<ApprovalInfo>, Problem> {
    Ok(Json(service::get(&app, &caller, approval_id(&id)?).await?.into()))
}

/// Approves a call, with other arguments if need be, or rejects it. The first decision counts; there is no second.
#[utoipa::path(post, path = "/api/v2/approvals/{id}/decide", tag = "approvals", request_body = Decide,
    params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("tool:approve"))),
    responses((status = 200, body = ApprovalInfo), (status = "default", body = Problem)))]
async fn decide(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    body: Body<Decide>,
) -> Result<Json<ApprovalInfo>, Problem> {
    Ok(Json(service::decide(&app, &caller, approval_id(&id)?, body.value).await?.into()))
}
