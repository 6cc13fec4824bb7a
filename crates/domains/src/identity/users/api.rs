//! The routes of users.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header::SET_COOKIE},
    response::{AppendHeaders, IntoResponse},
};
use contracts::UserId;
use platform::http::{Body, Page, PageQuery, PageRequest, Path, Problem};
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::directory::{self, PasswordLink, User};
use crate::{
    App,
    identity::{Authenticated, authenticate::Client, impersonation, me::Me, sessions::SessionInfo},
};

pub(in crate::identity) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list_users))
        .routes(routes!(find_user, remove_user))
        .routes(routes!(make_reset_link))
        .routes(routes!(unlock))
        .routes(routes!(remove_totp))
        .routes(routes!(list_user_sessions, end_user_sessions))
        .routes(routes!(impersonate))
        .routes(routes!(create_service_account))
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateServiceAccount {
    pub name: String,
    /// To give any takes `user:assign_roles`.
    #[serde(default)]
    pub roles: Vec<String>,
}

fn id(text: &str) -> Result<UserId, Problem> {
    text.parse().map_err(|_| Problem::not_found())
}

/// Lists the tenant's users.
#[utoipa::path(get, path = "/api/v2/users", tag = "identity", params(PageQuery),
    extensions(("x-soma-action" = json!("user:read"))),
    responses((status = 200, body = Page<User>), (status = "default", body = Problem)))]
async fn list_users(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    page: PageRequest,
) -> Result<Json<Page<User>>, Problem> {
    Ok(Json(directory::list(&app, &caller, &page).await?))
}

/// Shows a user.
#[utoipa::path(get, path = "/api/v2/users/{id}", tag = "identity", params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("user:read"))),
    responses((status = 200, body = User), (status = "default", body = Problem)))]
async fn find_user(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(user): Path<String>,
) -> Result<Json<User>, Problem> {
    Ok(Json(directory::find(&app, &caller, id(&user)?).await?))
}

/// Takes a user out of the tenant. Their roles, keys and sessions there end at once.
#[utoipa::path(delete, path = "/api/v2/users/{id}", tag = "identity", params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("user:delete"))),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove_user(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(user): Path<String>,
) -> Result<StatusCode, Problem> {
    directory::remove(&app, &caller, id(&user)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a link by which a user sets a password. It is mailed; without mail the answer has it.
#[utoipa::path(post, path = "/api/v2/users/{id}/reset-link", tag = "identity", params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("user:reset_password"))),
    responses((status = 200, body = PasswordLink), (status = "default", body = Problem)))]
async fn make_reset_link(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(user): Path<String>,
) -> Result<Json<PasswordLink>, Problem> {
    Ok(Json(directory::reset_link(&app, &caller, id(&user)?).await?))
}

/// Lets a user try again whom too many failures have locked out.
#[utoipa::path(post, path = "/api/v2/users/{id}/unlock", tag = "identity", params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("user:update"))),
    responses((status = 204), (status = "default", body = Problem)))]
async fn unlock(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(user): Path<String>,
) -> Result<StatusCode, Problem> {
    directory::unlock(&app, &caller, id(&user)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a user's authenticator away, when it and the backup codes are lost.
#[utoipa::path(delete, path = "/api/v2/users/{id}/totp", tag = "identity", params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("user:manage_mfa"))),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove_totp(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(user): Path<String>,
) -> Result<StatusCode, Problem> {
    directory::remove_totp(&app, &caller, id(&user)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists a user's sessions in this tenant.
#[utoipa::path(get, path = "/api/v2/users/{id}/sessions", tag = "identity", params(("id" = String, Path), PageQuery),
    extensions(("x-soma-action" = json!("user:view_activity"))),
    responses((status = 200, body = Page<SessionInfo>), (status = "default", body = Problem)))]
async fn list_user_sessions(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(user): Path<String>,
    page: PageRequest,
) -> Result<Json<Page<SessionInfo>>, Problem> {
    Ok(Json(directory::sessions_of(&app, &caller, id(&user)?, &page).await?))
}

/// Ends a user's sessions in this tenant.
#[utoipa::path(delete, path = "/api/v2/users/{id}/sessions", tag = "identity", params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("user:update"))),
    responses((status = 204), (status = "default", body = Problem)))]
async fn end_user_sessions(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(user): Path<String>,
) -> Result<StatusCode, Problem> {
    directory::end_sessions(&app, &caller, id(&user)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a service account: a user that never signs in, and has API keys.
#[utoipa::path(post, path = "/api/v2/service-accounts", tag = "identity", request_body = CreateServiceAccount,
    extensions(("x-soma-action" = json!("user:create"))),
    responses((status = 201, body = User), (status = "default", body = Problem)))]
async fn create_service_account(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    body: Body<CreateServiceAccount>,
) -> Result<(StatusCode, Json<User>), Problem> {
    let CreateServiceAccount { name, roles } = body.value;
    let made = directory::create_service_account(&app, &caller, &name, &roles).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Impersonate {
    /// Why; it is kept in the audit.
    pub reason: String,
}

/// Acts as a user, for an hour: the answer sets the cookie of a session of theirs, in which every change names both.
#[utoipa::path(post, path = "/api/v2/users/{id}/impersonate", tag = "identity", params(("id" = String, Path)),
    request_body = Impersonate,
    extensions(("x-soma-action" = json!("platform:impersonate"))),
    responses((status = 200, body = Me), (status = "default", body = Problem)))]
async fn impersonate(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(user): Path<String>,
    client: Client,
    body: Body<Impersonate>,
) -> Result<impl IntoResponse, Problem> {
    let (me, cookie) = impersonation::begin(&app, &caller, id(&user)?, &body.value.reason, &client).await?;
    Ok((AppendHeaders([(SET_COOKIE, cookie)]), Json(me)))
}
