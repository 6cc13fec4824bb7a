//! The permissions' routes.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use contracts::{UserId, policy::Resource};
use platform::http::{Body, Path, Problem};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::service::{self, Error};
use crate::{App, authority, identity::Authenticated};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(catalogue)).routes(routes!(list, assign)).routes(routes!(revoke))
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
    /// A role's name, or one of `owner`, `admin`, `member`, `viewer`.
    pub role: String,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(denied) => denied.into(),
            Error::NoSuchUser => Self::invalid("user_id", error.to_string()),
            Error::NoSuchRole | Error::MoreThanOwn => Self::invalid("role", error.to_string()),
            Error::NotFound => Self::not_found(),
            Error::Store(error) => error.into(),
        }
    }
}

/// Lists every action and every role, as the policy has them.
#[utoipa::path(get, path = "/api/v2/permissions/catalogue", tag = "permissions",
    extensions(("x-soma-action" = json!("user:read"))),
    responses((status = 200, body = serde_json::Value), (status = "default", body = Problem)))]
async fn catalogue(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
) -> Result<Json<platform::policy::Catalogue>, Problem> {
    authority::require(&app, &caller, "user:read", Resource::any("role")).await?;
    Ok(Json(app.policy.catalogue().clone()))
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

/// Takes a role from a user of the tenant.
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
