//! The routes that ask about rights and change nothing.

use std::sync::Arc;

use axum::{Json, extract::State};
use contracts::{AgentId, GrantId, UserId, policy::Effect};
use platform::http::{Body, Problem, Query};
use serde::{Deserialize, Serialize};

use super::NewGrant;
use crate::{
    App,
    identity::Authenticated,
    permissions::{dry_run as planned, explain},
};

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The caller, unless told.
    pub user_id: Option<UserId>,
    /// A codename.
    pub action: String,
    pub resource: Option<Asked>,
}

/// The thing that a question is about.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    #[serde(rename = "type")]
    pub kind: String,
    pub id: Option<String>,
    /// The agent that it belongs to. A tool is judged by this agent's list.
    pub agent_id: Option<AgentId>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Answer {
    pub effect: Effect,
    pub reason: String,
    /// The same in a sentence: by which role, through which grant, by which policy.
    pub via: String,
    pub revision: String,
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WhoseRights {
    /// The caller, unless told.
    #[param(value_type = Option<String>)]
    pub user_id: Option<UserId>,
    /// What they may do about this agent, in place of the whole tenant.
    #[param(value_type = Option<String>)]
    pub agent_id: Option<AgentId>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Effective {
    pub items: Vec<EffectiveItem>,
    pub revision: String,
}

/// What somebody may do with an action. Of tool calls it says whether any may be made.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct EffectiveItem {
    pub action: String,
    pub effect: Effect,
    pub reason: String,
    /// `allowed by role X through grant Y, policy revision Z`.
    pub explanation: String,
    pub role: Option<String>,
    pub grant_id: Option<GrantId>,
}

/// `cells[i][j]`: whether the role `roles[i]` grants the action `actions[j]`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Matrix {
    pub actions: Vec<String>,
    pub roles: Vec<String>,
    pub cells: Vec<Vec<bool>>,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    pub change: Change,
}

/// A change of rights that nobody has made yet.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    /// The tenant's own role, new or changed, has these permissions.
    Role {
        name: String,
        permissions: Vec<String>,
    },
    DeleteRole {
        name: String,
    },
    Grant(NewGrant),
    DeleteGrant {
        id: GrantId,
    },
    Assign {
        user_id: UserId,
        role: String,
    },
    Revoke {
        user_id: UserId,
        role: String,
    },
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DryRun {
    pub gained: Vec<Difference>,
    pub lost: Vec<Difference>,
    /// How many users were looked at.
    pub users: usize,
    /// False where the change meets more users than were looked at.
    pub complete: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Difference {
    pub user_id: UserId,
    pub action: String,
    /// Set where it is about one agent and not the whole tenant.
    pub agent_id: Option<AgentId>,
}

/// Says whether somebody may do this to that, and why. Nothing is done.
#[utoipa::path(post, path = "/api/v2/permissions/check", tag = "permissions", request_body = Question,
    extensions(("x-soma-action" = json!("user:read"))),
    responses((status = 200, body = Answer), (status = "default", body = Problem)))]
pub(super) async fn check(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    body: Body<Question>,
) -> Result<Json<Answer>, Problem> {
    Ok(Json(explain::check(&app, &caller, body.value).await?))
}

/// Lists every action, and whether and why somebody may do it.
#[utoipa::path(get, path = "/api/v2/permissions/effective", tag = "permissions", params(WhoseRights),
    extensions(("x-soma-action" = json!("user:read"))),
    responses((status = 200, body = Effective), (status = "default", body = Problem)))]
pub(super) async fn effective(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Query(query): Query<WhoseRights>,
) -> Result<Json<Effective>, Problem> {
    Ok(Json(explain::effective(&app, &caller, query.user_id, query.agent_id).await?))
}

/// Shows which role grants which action.
#[utoipa::path(get, path = "/api/v2/permissions/matrix", tag = "permissions",
    extensions(("x-soma-action" = json!("user:read"))),
    responses((status = 200, body = Matrix), (status = "default", body = Problem)))]
pub(super) async fn matrix(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
) -> Result<Json<Matrix>, Problem> {
    Ok(Json(explain::matrix(&app, &caller).await?))
}

/// Says who would gain and who would lose what by a change. Nothing is changed.
#[utoipa::path(post, path = "/api/v2/permissions/dry-run", tag = "permissions", request_body = Planned,
    extensions(("x-soma-action" = json!("user:assign_roles"))),
    responses((status = 200, body = DryRun), (status = "default", body = Problem)))]
pub(super) async fn dry_run(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    body: Body<Planned>,
) -> Result<Json<DryRun>, Problem> {
    Ok(Json(planned::run(&app, &caller, body.value.change).await?))
}
