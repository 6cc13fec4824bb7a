//! The audit's routes.

use std::sync::Arc;

use axum::{Json, extract::State};
use platform::http::{Page, PageQuery, PageRequest, Problem, Timestamp};
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::service::{self, ListError};
use crate::{App, identity::Authenticated};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list))
}

/// One decision that was acted on or that refused.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct AuditEntry {
    pub id: String,
    pub at: Timestamp,
    /// The user who acted.
    pub actor_id: String,
    pub action: String,
    pub resource_type: String,
    pub resource_id: Option<String>,
    /// `allow` or `deny`.
    pub effect: String,
    pub reason: String,
    pub policy_revision: String,
    /// What changed, where something did.
    pub details: serde_json::Value,
}

impl From<ListError> for Problem {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Denied(denied) => denied.into(),
            ListError::Store(error) => error.into(),
        }
    }
}

/// Lists audit entries, newest first.
#[utoipa::path(get, path = "/api/v2/audit", tag = "audit", params(PageQuery),
    extensions(("x-soma-action" = json!("audit:read"))),
    responses((status = 200, body = Page<AuditEntry>), (status = "default", body = Problem)))]
async fn list(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    page: PageRequest,
) -> Result<Json<Page<AuditEntry>>, Problem> {
    Ok(Json(service::list(&app, &caller, &page).await?))
}
