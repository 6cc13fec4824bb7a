//! The tools' routes.

use std::sync::Arc;

use axum::{Json, extract::State};
use contracts::policy::Resource;
use platform::http::Problem;
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{App, authority, identity::Authenticated};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A tool of this install.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ToolInfo {
    pub name: String,
    pub description: String,
    /// A JSON Schema.
    pub parameters: serde_json::Value,
    /// What a call does to the world: `repeatable`, `transactional`, `idempotent` or `at_most_once`.
    pub effect: String,
    /// Why it can't work on this machine; absent when it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
}

/// Lists the tools.
#[utoipa::path(get, path = "/api/v2/tools", tag = "tools",
    extensions(("x-soma-action" = json!("tool:read"))),
    responses((status = 200, body = Vec<ToolInfo>), (status = "default", body = Problem)))]
async fn list(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
) -> Result<Json<Vec<ToolInfo>>, Problem> {
    authority::require(&app, &caller, "tool:read", Resource::any("tool")).await?;
    let toolbox = app.tools.get().await.map_err(|error| Problem::internal(&error))?;
    let tools = toolbox.specs().filter_map(|spec| {
        let tool = toolbox.find(&spec.name)?;
        Some(ToolInfo {
            name: spec.name.clone(),
            description: spec.description.clone(),
            parameters: spec.parameters.clone(),
            effect: tool.effect().as_str().to_owned(),
            unavailable: tool.unavailable(),
        })
    });
    Ok(Json(tools.collect()))
}
