//! The permissions' routes: the catalogue and assignments here, the others in files of their own.

mod explain;
mod grants;
mod roles;

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use contracts::UserId;
use platform::http::{Body, Path, Problem};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use explain::{Answer, Change, Difference, DryRun, Effective, EffectiveItem, Matrix, Question};
pub use grants::{GrantItem, NewGrant};
pub use roles::{NewRole, OwnRole, RoleChange};

use super::service::{self, Error};
use crate::{App, identity::Authenticated};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(catalogue))
        .routes(routes!(list, assign))
        .routes(routes!(revoke))
        .routes(routes!(roles::list, roles::create))
        .routes(routes!(roles::change, roles::delete))
        .routes(routes!(grants::list, grants::create))
        .routes(routes!(grants::delete))
        .routes(routes!(explain::check))
        .routes(routes!(explain::effective))
        .routes(routes!(explain::matrix))
        .routes(routes!(explain::dry_run))
}

/// All that may be granted: what the policy has, and the tenant's own roles.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Catalogue {
    #[serde(flatten)]
    pub policy: platform::policy::Catalogue,
    pub custom_roles: Vec<OwnRole>,
}

/// A role held by a user in this tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Assignment {
    pub user_id: UserId,
    pub role: String,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAssignment {
    pub user_id: UserId,
    /// The name of a role of the catalogue, or one of `owner`, `admin`, `member`, `viewer`. A tenant's own role, and a
    /// role of one agent, is given by a grant.
    pub role: String,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(denied) => denied.into(),
            Error::NoSuchUser => Self::invalid("user_id", error.to_string()),
            Error::NoSuchRole | Error::NeedsAgent | Error::OwnRole => {
                Self::invalid("role", error.to_string())
            }
            Error::MoreThanOwn(field) => Self::invalid(field, error.to_string()),
            Error::LastOwner => Self::conflict("last_owner", error.to_string()),
            Error::RoleTaken => Self::conflict("role_taken", error.to_string()),
            Error::TooManyRoles => Self::conflict("too_many_roles", error.to_string()),
            Error::TooManyGrants => Self::conflict("too_many_grants", error.to_string()),
            Error::Invalid(field, message) => Self::invalid(field, message),
            Error::NotFound => Self::not_found(),
            Error::Store(error) => error.into(),
        }
    }
}

/// Lists every action and every role: the policy's, and the tenant's own.
#[utoipa::path(get, path = "/api/v2/permissions/catalogue", tag = "permissions",
    extensions(("x-soma-action" = json!("user:read"))),
    responses((status = 200, body = Catalogue), (status = "default", body = Problem)))]
async fn catalogue(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
) -> Result<Json<Catalogue>, Problem> {
    let custom_roles = super::roles::list(&app, &caller).await?;
    Ok(Json(Catalogue { policy: app.policy.catalogue().clone(), custom_roles }))
}

/// Lists who holds which role in the caller's tenant.
#[utoipa::path(get, path = "/api/v2/permissions/assignments", tag = "permissions",
    extensions(("x-soma-action" = json!("user:read"))),
    responses((status = 200, body = Vec<Assignment>), (status = "default", body = Problem)))]
async fn list(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
) -> Result<Json<Vec<Assignment>>, Problem> {
    Ok(Json(service::list(&app, &caller).await?))
}

/// Gives a user of the tenant a role.
#[utoipa::path(post, path = "/api/v2/permissions/assignments", tag = "permissions", request_body = NewAssignment,
    extensions(("x-soma-action" = json!("user:assign_roles"))),
    responses((status = 201, body = Assignment), (status = "default", body = Problem)))]
async fn assign(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    body: Body<NewAssignment>,
) -> Result<(StatusCode, Json<Assignment>), Problem> {
    Ok((StatusCode::CREATED, Json(service::assign(&app, &caller, body.value).await?)))
}

/// Takes a role from a user of the tenant. The last administrator stays.
#[utoipa::path(delete, path = "/api/v2/permissions/assignments/{user_id}/{role}", tag = "permissions",
    params(("user_id" = String, Path), ("role" = String, Path)),
    extensions(("x-soma-action" = json!("user:revoke_roles"))),
    responses((status = 204), (status = "default", body = Problem)))]
async fn revoke(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path((user, role)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let user = user.parse().map_err(|_| Problem::not_found())?;
    service::revoke(&app, &caller, user, role).await?;
    Ok(StatusCode::NO_CONTENT)
}
