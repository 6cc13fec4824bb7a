//! The agents' routes.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use contracts::AgentId;
use platform::http::{Body, Page, PageQuery, PageRequest, Path, Problem, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::service::{self, Error};
use crate::{App, identity::Authenticated};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, update))
}

/// Bounds of every turn of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Model calls in a turn, 1 to 100. The last one is offered no tools, so that it answers.
    pub steps_max: u32,
    /// Tokens in and out of all model calls of a turn.
    pub tokens_max: u64,
    /// Tokens of one answer.
    pub output_tokens_max: u32,
    /// Millionths of a US dollar for a turn; no limit when null.
    pub cost_micros_max: Option<u64>,
    /// Seconds from the message to the end of its run, 1 to 86400.
    pub wall_clock_s: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            steps_max: 20,
            tokens_max: 500_000,
            output_tokens_max: 1024,
            cost_micros_max: None,
            wall_clock_s: 600,
        }
    }
}

impl Limits {
    pub(crate) fn wall_clock_ms(&self) -> i64 {
        i64::from(self.wall_clock_s).saturating_mul(1000)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Agent {
    pub id: AgentId,
    /// Lower-case letters, digits and hyphens; unique in the tenant.
    pub slug: String,
    pub name: String,
    /// The system prompt.
    pub prompt: String,
    /// Names of the tools that it may use. An empty list means none.
    pub tools: Vec<String>,
    pub limits: Limits,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAgent {
    pub slug: String,
    pub name: String,
    #[serde(default)]
    pub prompt: String,
    #[serde(default)]
    pub tools: Vec<String>,
    #[serde(default)]
    pub limits: Limits,
}

/// What is absent stays as it is.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentChange {
    pub name: Option<String>,
    pub prompt: Option<String>,
    pub tools: Option<Vec<String>>,
    pub limits: Option<Limits>,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::SlugTaken => Self::conflict("slug_taken", error.to_string()),
            Error::Invalid(field, message) => Self::invalid(field, message),
            Error::NoTools(error) => Self::internal(&error),
            Error::Denied(denied) => denied.into(),
            Error::Store(error) => error.into(),
        }
    }
}

/// Lists the tenant's agents.
#[utoipa::path(get, path = "/api/v2/agents", tag = "agents", params(PageQuery),
    extensions(("x-soma-action" = json!("agent:read"))),
    responses((status = 200, body = Page<Agent>), (status = "default", body = Problem)))]
async fn list(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    page: PageRequest,
) -> Result<Json<Page<Agent>>, Problem> {
    Ok(Json(service::list(&app, &caller, &page).await?))
}

/// Makes an agent.
#[utoipa::path(post, path = "/api/v2/agents", tag = "agents", request_body = NewAgent,
    extensions(("x-soma-action" = json!("agent:create"))),
    responses((status = 201, body = Agent), (status = "default", body = Problem)))]
async fn create(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    body: Body<NewAgent>,
) -> Result<(StatusCode, Json<Agent>), Problem> {
    Ok((StatusCode::CREATED, Json(service::create(&app, &caller, body.value).await?)))
}

/// Shows an agent, by slug or id.
#[utoipa::path(get, path = "/api/v2/agents/{agent}", tag = "agents", params(("agent" = String, Path)),
    extensions(("x-soma-action" = json!("agent:read"))),
    responses((status = 200, body = Agent), (status = "default", body = Problem)))]
async fn get(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(agent): Path<String>,
) -> Result<Json<Agent>, Problem> {
    Ok(Json(service::show(&app, &caller, &agent).await?))
}

/// Changes an agent. Runs at work see the change at their next step.
#[utoipa::path(patch, path = "/api/v2/agents/{agent}", tag = "agents", request_body = AgentChange,
    params(("agent" = String, Path)),
    extensions(("x-soma-action" = json!("agent:update"))),
    responses((status = 200, body = Agent), (status = "default", body = Problem)))]
async fn update(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(agent): Path<String>,
    body: Body<AgentChange>,
) -> Result<Json<Agent>, Problem> {
    Ok(Json(service::update(&app, &caller, &agent, body.value).await?))
}
