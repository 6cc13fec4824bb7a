//! The agents' routes.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use contracts::{AgentId, UserId};
use platform::http::{Body, Page, PageQuery, PageRequest, Path, Problem, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::service::{self, Error};
use crate::{App, identity::Authenticated};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update, archive))
        .routes(routes!(versions))
        .routes(routes!(restore))
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
    /// Those of its tools that a person must approve each call of.
    pub tools_ask: Vec<String>,
    pub limits: Limits,
    /// A model of the configured server by its name; the install's own when null.
    pub model: Option<String>,
    /// Counts from 1; each change makes the next.
    pub version: i64,
    /// An archived agent answers no more; its conversations can be read.
    pub archived: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// An agent as it was from one change to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct AgentVersion {
    pub version: i64,
    /// Who made the change; null for what the program made itself.
    pub author_id: Option<UserId>,
    pub created_at: Timestamp,
    pub name: String,
    pub prompt: String,
    pub tools: Vec<String>,
    pub tools_ask: Vec<String>,
    pub limits: Limits,
    pub model: Option<String>,
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct VersionQuery {
    /// Rows in a page, 1 to 200; 50 unless told.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before: a version's number.
    pub cursor: Option<i64>,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreVersion {
    pub version: i64,
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
    pub tools_ask: Vec<String>,
    #[serde(default)]
    pub limits: Limits,
    pub model: Option<String>,
}

/// What is absent stays as it is.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentChange {
    pub name: Option<String>,
    pub prompt: Option<String>,
    pub tools: Option<Vec<String>>,
    pub tools_ask: Option<Vec<String>>,
    pub limits: Option<Limits>,
    /// Null is the install's own model.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub model: Option<Option<String>>,
    pub archived: Option<bool>,
}

/// Tells a null that is there from a field that is not.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound | Error::NoSuchVersion => Self::not_found(),
            Error::SlugTaken => Self::conflict("slug_taken", error.to_string()),
            Error::Overtaken => Self::conflict("overtaken", error.to_string()),
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

/// Archives an agent: it answers no more, and its conversations can be read. `PATCH` with `archived: false` undoes it.
#[utoipa::path(delete, path = "/api/v2/agents/{agent}", tag = "agents", params(("agent" = String, Path)),
    extensions(("x-soma-action" = json!("agent:delete"))),
    responses((status = 204), (status = "default", body = Problem)))]
async fn archive(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(agent): Path<String>,
) -> Result<StatusCode, Problem> {
    service::archive(&app, &caller, &agent).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists what an agent was, newest version first.
#[utoipa::path(get, path = "/api/v2/agents/{agent}/versions", tag = "agents",
    params(("agent" = String, Path), VersionQuery),
    extensions(("x-soma-action" = json!("agent:read"))),
    responses((status = 200, body = Page<AgentVersion>), (status = "default", body = Problem)))]
async fn versions(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(agent): Path<String>,
    query: Result<Query<VersionQuery>, QueryRejection>,
) -> Result<Json<Page<AgentVersion>>, Problem> {
    let Query(query) = query.map_err(|error| Problem::invalid("query", error.body_text()))?;
    let page = PageRequest::try_from(PageQuery { limit: query.limit, cursor: None })?;
    Ok(Json(service::versions(&app, &caller, &agent, query.cursor, &page).await?))
}

/// Makes an agent again what it was in an earlier version; that is its newest version then.
#[utoipa::path(post, path = "/api/v2/agents/{agent}/restore", tag = "agents", request_body = RestoreVersion,
    params(("agent" = String, Path)),
    extensions(("x-soma-action" = json!("agent:update"))),
    responses((status = 200, body = Agent), (status = "default", body = Problem)))]
async fn restore(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(agent): Path<String>,
    body: Body<RestoreVersion>,
) -> Result<Json<Agent>, Problem> {
    Ok(Json(service::restore(&app, &caller, &agent, body.value.version).await?))
}
