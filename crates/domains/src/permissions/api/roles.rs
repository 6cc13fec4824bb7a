//! The routes of a tenant's own roles.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use platform::http::{Body, Page, Path, Problem, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{App, identity::Authenticated, permissions::roles};

/// A role of the tenant's own: a name for a set of permissions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct OwnRole {
    pub name: String,
    pub description: String,
    /// Codenames and the patterns `*`, `resource:*` and `resource:prefix_*`.
    pub permissions: Vec<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRole {
    /// 1 to 64 lower-case letters, digits, `_` and `-`; no name of the catalogue.
    pub name: String,
    #[serde(default)]
    pub description: String,
    /// No more than the caller may do themselves.
    pub permissions: Vec<String>,
}

/// What is absent stays as it is.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleChange {
    pub description: Option<String>,
    pub permissions: Option<Vec<String>>,
}

/// Lists the tenant's own roles, all of them.
#[utoipa::path(get, path = "/api/v2/permissions/roles", tag = "permissions", operation_id = "list_roles",
    extensions(("x-soma-action" = json!("user:read"))),
    responses((status = 200, body = Page<OwnRole>), (status = "default", body = Problem)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
) -> Result<Json<Page<OwnRole>>, Problem> {
    Ok(Json(Page { items: roles::list(&app, &caller).await?, next_cursor: None }))
}

/// Makes a role of the tenant's own.
#[utoipa::path(post, path = "/api/v2/permissions/roles", tag = "permissions", operation_id = "create_role",
    request_body = NewRole,
    extensions(("x-soma-action" = json!("user:assign_roles"))),
    responses((status = 201, body = OwnRole), (status = "default", body = Problem)))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    body: Body<NewRole>,
) -> Result<(StatusCode, Json<OwnRole>), Problem> {
    Ok((StatusCode::CREATED, Json(roles::create(&app, &caller, body.value).await?)))
}

/// Changes a role of the tenant's own, for everybody who was given it.
#[utoipa::path(patch, path = "/api/v2/permissions/roles/{name}", tag = "permissions", operation_id = "change_role",
    params(("name" = String, Path)), request_body = RoleChange,
    extensions(("x-soma-action" = json!("user:assign_roles"))),
    responses((status = 200, body = OwnRole), (status = "default", body = Problem)))]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(name): Path<String>,
    body: Body<RoleChange>,
) -> Result<Json<OwnRole>, Problem> {
    Ok(Json(roles::change(&app, &caller, &name, body.value).await?))
}

/// Deletes a role of the tenant's own, and the grants that gave it.
#[utoipa::path(delete, path = "/api/v2/permissions/roles/{name}", tag = "permissions", operation_id = "delete_role",
    params(("name" = String, Path)),
    extensions(("x-soma-action" = json!("user:revoke_roles"))),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    roles::delete(&app, &caller, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
