//! The routes of grants.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use contracts::{
    AgentId, GrantId, UserId,
    policy::{GrantEffect, Scope},
};
use platform::http::{Body, Page, PageQuery, Path, Problem, Query, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{App, identity::Authenticated, permissions::grants};

/// A role or a permission that was given or denied to one user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct GrantItem {
    pub id: GrantId,
    pub user_id: UserId,
    pub role: Option<String>,
    pub permission: Option<String>,
    pub effect: GrantEffect,
    pub scope: Scope,
    pub agent_id: Option<AgentId>,
    /// Counts no more from then on, within a second.
    pub expires_at: Option<Timestamp>,
    pub created_by: UserId,
    pub created_at: Timestamp,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGrant {
    pub user_id: UserId,
    /// A role of the catalogue or the tenant's own. Either this or `permission`.
    pub role: Option<String>,
    /// A codename, or a pattern as in `conversation:*`.
    pub permission: Option<String>,
    /// `allow` unless told. A denial outranks whatever allows.
    pub effect: Option<GrantEffect>,
    /// `tenant` unless told. `agent` wants `agent_id`; `platform` is for who works on the platform.
    pub scope: Option<Scope>,
    pub agent_id: Option<AgentId>,
    pub expires_at: Option<Timestamp>,
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListGrants {
    /// Only this user's.
    #[param(value_type = Option<String>)]
    pub user_id: Option<UserId>,
    /// Rows in a page, 1 to 200; 50 unless told.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// Lists grants, oldest first, also those that have ended.
#[utoipa::path(get, path = "/api/v2/permissions/grants", tag = "permissions", operation_id = "list_grants",
    params(ListGrants),
    extensions(("x-soma-action" = json!("user:read"))),
    responses((status = 200, body = Page<GrantItem>), (status = "default", body = Problem)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Query(query): Query<ListGrants>,
) -> Result<Json<Page<GrantItem>>, Problem> {
    let page = PageQuery { limit: query.limit, cursor: query.cursor }.try_into()?;
    Ok(Json(grants::list(&app, &caller, query.user_id, &page).await?))
}

/// Gives or denies a role or a permission to a user of the tenant.
#[utoipa::path(post, path = "/api/v2/permissions/grants", tag = "permissions", operation_id = "create_grant",
    request_body = NewGrant,
    extensions(("x-soma-action" = json!("user:assign_roles"))),
    responses((status = 201, body = GrantItem), (status = "default", body = Problem)))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    body: Body<NewGrant>,
) -> Result<(StatusCode, Json<GrantItem>), Problem> {
    Ok((StatusCode::CREATED, Json(grants::create(&app, &caller, body.value).await?)))
}

/// Takes a grant back. A denial is lifted only by who could have given what it denies.
#[utoipa::path(delete, path = "/api/v2/permissions/grants/{id}", tag = "permissions", operation_id = "delete_grant",
    params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("user:revoke_roles"))),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = id.parse().map_err(|_| Problem::not_found())?;
    grants::delete(&app, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
