//! The models' and budgets' routes.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use contracts::policy::Resource;
use platform::http::{Body, Path, Problem};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::budget::{self, Error, Price};
use crate::{App, authority, identity::Authenticated};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(budgets)).routes(routes!(set_budget))
}

/// A model that agents can use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ModelInfo {
    pub name: String,
    /// Tokens of input and output together.
    pub context_tokens: u32,
    /// Whether tools are offered to it.
    pub tools: bool,
    /// Millionths of a US dollar for a million input tokens.
    pub input_price_micros: u64,
    /// Millionths of a US dollar for a million output tokens.
    pub output_price_micros: u64,
}

/// What a tenant, or one user in it, may spend on models, in millionths of a US dollar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Budget {
    /// The tenant's or the user's id.
    pub id: String,
    /// `tenant` or `user`.
    pub scope: String,
    /// A hard stop; none when null.
    pub limit_micros: Option<u64>,
    /// Held for calls under way.
    pub reserved_micros: u64,
    pub spent_micros: u64,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetBudget {
    /// Millionths of a US dollar; null takes the limit away.
    pub limit_micros: Option<u64>,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(denied) => denied.into(),
            Error::NotFound => Self::not_found(),
            Error::Store(error) => error.into(),
        }
    }
}

/// Lists the models.
#[utoipa::path(get, path = "/api/v2/models", tag = "models",
    extensions(("x-soma-action" = json!("model:read"))),
    responses((status = 200, body = Vec<ModelInfo>), (status = "default", body = Problem)))]
async fn list(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
) -> Result<Json<Vec<ModelInfo>>, Problem> {
    authority::require(&app, &caller, "model:read", Resource::any("model")).await?;
    let profile = app.model.profile();
    let price = Price::of(&app.config);
    Ok(Json(vec![ModelInfo {
        name: profile.name.clone(),
        context_tokens: profile.context_tokens,
        tools: profile.tools,
        input_price_micros: price.input,
        output_price_micros: price.output,
    }]))
}

/// Lists the budgets of the tenant and of its users.
#[utoipa::path(get, path = "/api/v2/budgets", tag = "models",
    extensions(("x-soma-action" = json!("billing:view_usage"))),
    responses((status = 200, body = Vec<Budget>), (status = "default", body = Problem)))]
async fn budgets(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
) -> Result<Json<Vec<Budget>>, Problem> {
    Ok(Json(budget::list(&app, &caller).await?))
}

/// Sets or takes away a budget's limit.
#[utoipa::path(put, path = "/api/v2/budgets/{id}", tag = "models", request_body = SetBudget,
    params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("billing:change_plan"))),
    responses((status = 204), (status = "default", body = Problem)))]
async fn set_budget(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    body: Body<SetBudget>,
) -> Result<StatusCode, Problem> {
    budget::set(&app, &caller, id, body.value).await?;
    Ok(StatusCode::NO_CONTENT)
}
