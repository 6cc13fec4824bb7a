//! The tenant's routes: so far a caller sees their own.

use std::sync::Arc;

use axum::{Json, extract::State};
use contracts::TenantId;
use platform::http::{Problem, Timestamp};
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::service::{self, Error};
use crate::{App, identity::Authenticated};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(own))
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Tenant {
    pub id: TenantId,
    pub slug: String,
    pub name: String,
    pub created_at: Timestamp,
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

/// Shows the caller's tenant.
#[utoipa::path(get, path = "/api/v2/tenant", tag = "tenants",
    extensions(("x-soma-action" = json!("tenant:read"))),
    responses((status = 200, body = Tenant), (status = "default", body = Problem)))]
async fn own(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
) -> Result<Json<Tenant>, Problem> {
    Ok(Json(service::own(&app, &caller).await?))
}
