//! The routes of tenants; those of settings have a file of their own.

mod settings;

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use contracts::TenantId;
use platform::http::{Body, Page, PageQuery, PageRequest, Path, Problem, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use settings::{SetValue, SettingItem};

use super::{
    service::{self, Error},
    standing::Status,
};
use crate::{App, identity::Authenticated};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(own, rename_own))
        .routes(routes!(list, create))
        .routes(routes!(show, rename))
        .routes(routes!(suspend))
        .routes(routes!(resume))
        .routes(routes!(settings::list_settings))
        .routes(routes!(settings::put_setting, settings::delete_setting))
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Tenant {
    pub id: TenantId,
    pub slug: String,
    pub name: String,
    pub status: Status,
    /// Why it is not active.
    pub status_reason: Option<String>,
    pub created_at: Timestamp,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTenant {
    /// 1 to 64 lower-case letters, digits and hyphens; never changed later.
    pub slug: String,
    pub name: String,
    /// Who owns it; the caller unless told. Somebody who is not known yet signs in by a link of `soma admin link`.
    pub owner_email: Option<String>,
    /// Made closed to its members, to be opened by `resume`.
    #[serde(default)]
    pub pending: bool,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameTenant {
    pub name: String,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Suspension {
    /// For the audit, and for whoever looks at the tenant.
    pub reason: String,
    /// For good: the customer has left.
    #[serde(default)]
    pub churned: bool,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(denied) => denied.into(),
            Error::NotFound => Self::not_found(),
            Error::SlugTaken => Self::conflict("slug_taken", error.to_string()),
            Error::Invalid(field, message) => Self::invalid(field, message),
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
    Ok(Json(service::show(&app, &caller, &caller.tenant.to_string()).await?))
}

/// Renames the caller's tenant.
#[utoipa::path(patch, path = "/api/v2/tenant", tag = "tenants", request_body = RenameTenant,
    extensions(("x-soma-action" = json!("tenant:update"))),
    responses((status = 200, body = Tenant), (status = "default", body = Problem)))]
async fn rename_own(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    body: Body<RenameTenant>,
) -> Result<Json<Tenant>, Problem> {
    Ok(Json(service::rename(&app, &caller, &caller.tenant.to_string(), body.value.name).await?))
}

/// Lists every tenant of the platform, oldest first.
#[utoipa::path(get, path = "/api/v2/tenants", tag = "tenants", params(PageQuery),
    extensions(("x-soma-action" = json!("platform:manage"))),
    responses((status = 200, body = Page<Tenant>), (status = "default", body = Problem)))]
async fn list(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    page: PageRequest,
) -> Result<Json<Page<Tenant>>, Problem> {
    Ok(Json(service::list(&app, &caller, &page).await?))
}

/// Makes a tenant, with an owner and a default agent.
#[utoipa::path(post, path = "/api/v2/tenants", tag = "tenants", request_body = CreateTenant,
    extensions(("x-soma-action" = json!("tenant:create"))),
    responses((status = 201, body = Tenant), (status = "default", body = Problem)))]
async fn create(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    body: Body<CreateTenant>,
) -> Result<(StatusCode, Json<Tenant>), Problem> {
    Ok((StatusCode::CREATED, Json(service::create_by(&app, &caller, body.value).await?)))
}

/// Shows a tenant.
#[utoipa::path(get, path = "/api/v2/tenants/{id}", tag = "tenants", params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("tenant:read"))),
    responses((status = 200, body = Tenant), (status = "default", body = Problem)))]
async fn show(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Tenant>, Problem> {
    Ok(Json(service::show(&app, &caller, &id).await?))
}

/// Renames a tenant.
#[utoipa::path(patch, path = "/api/v2/tenants/{id}", tag = "tenants", params(("id" = String, Path)),
    request_body = RenameTenant,
    extensions(("x-soma-action" = json!("tenant:update"))),
    responses((status = 200, body = Tenant), (status = "default", body = Problem)))]
async fn rename(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    body: Body<RenameTenant>,
) -> Result<Json<Tenant>, Problem> {
    Ok(Json(service::rename(&app, &caller, &id, body.value.name).await?))
}

/// Closes a tenant: its runs are cancelled, and its members are refused from then on.
#[utoipa::path(post, path = "/api/v2/tenants/{id}/suspend", tag = "tenants", params(("id" = String, Path)),
    request_body = Suspension,
    extensions(("x-soma-action" = json!("tenant:suspend"))),
    responses((status = 200, body = Tenant), (status = "default", body = Problem)))]
async fn suspend(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    body: Body<Suspension>,
) -> Result<Json<Tenant>, Problem> {
    Ok(Json(service::suspend(&app, &caller, &id, body.value).await?))
}

/// Opens a tenant to its members, again or for the first time.
#[utoipa::path(post, path = "/api/v2/tenants/{id}/resume", tag = "tenants", params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("tenant:suspend"))),
    responses((status = 200, body = Tenant), (status = "default", body = Problem)))]
async fn resume(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Tenant>, Problem> {
    Ok(Json(service::resume(&app, &caller, &id).await?))
}
