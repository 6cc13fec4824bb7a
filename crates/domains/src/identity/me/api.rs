//! The routes of oneself.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header::SET_COOKIE},
    response::{AppendHeaders, IntoResponse},
};
use contracts::TenantId;
use platform::http::{Body, Page, PageQuery, PageRequest, Path, Problem};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Me, change_password, change_tenant, of, rename};
use crate::{
    App,
    identity::{
        Authenticated, Error,
        authenticate::Client,
        impersonation,
        sessions::{self, SessionInfo},
        totp,
    },
};

pub(in crate::identity) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(me, update))
        .routes(routes!(set_password))
        .routes(routes!(set_tenant))
        .routes(routes!(begin_totp))
        .routes(routes!(confirm_totp))
        .routes(routes!(disable_totp))
        .routes(routes!(list_sessions, end_other_sessions))
        .routes(routes!(end_session))
        .routes(routes!(end_impersonation))
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateMe {
    pub name: String,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    #[schema(value_type = String, format = "password")]
    pub current: SecretString,
    /// 10 characters to 1024 bytes.
    #[schema(value_type = String, format = "password")]
    pub new: SecretString,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeTenant {
    pub tenant_id: TenantId,
}

/// What an authenticator is told. It is shown this once, and counts when a code of it was confirmed.
#[derive(Serialize, utoipa::ToSchema)]
pub struct NewTotp {
    /// In base32, to type.
    pub secret: String,
    /// `otpauth://`, to show as a QR code.
    pub uri: String,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Code {
    pub code: String,
}

/// Codes that work once each, for when the authenticator is lost. They are shown this once.
#[derive(Serialize, utoipa::ToSchema)]
pub struct BackupCodes {
    pub backup_codes: Vec<String>,
}

/// To somebody who is signed in, a wrong password or code is a wrong field: the session stands.
fn about_oneself(error: Error) -> Problem {
    let code = match &error {
        Error::BadCredentials => "bad_credentials",
        Error::BadCode => "bad_code",
        _ => return error.into(),
    };
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, error.to_string())
}

/// Shows who the caller is, and what they may do.
#[utoipa::path(get, path = "/api/v2/me", tag = "identity",
    extensions(("x-soma-action" = json!("own"))),
    responses((status = 200, body = Me), (status = "default", body = Problem)))]
async fn me(State(app): State<Arc<App>>, Authenticated(caller): Authenticated) -> Result<Json<Me>, Problem> {
    Ok(Json(of(&app, &caller).await?))
}

/// Changes one's name.
#[utoipa::path(patch, path = "/api/v2/me", tag = "identity", request_body = UpdateMe,
    extensions(("x-soma-action" = json!("own"))),
    responses((status = 200, body = Me), (status = "default", body = Problem)))]
async fn update(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    body: Body<UpdateMe>,
) -> Result<Json<Me>, Problem> {
    Ok(Json(rename(&app, &caller, &body.value.name).await?))
}

/// Changes one's password. All other sessions end.
#[utoipa::path(post, path = "/api/v2/me/password", tag = "identity", request_body = ChangePassword,
    extensions(("x-soma-action" = json!("own"))),
    responses((status = 204), (status = "default", body = Problem)))]
async fn set_password(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    client: Client,
    body: Body<ChangePassword>,
) -> Result<StatusCode, Problem> {
    let ChangePassword { current, new } = body.value;
    change_password(&app, &caller, current, new, &client).await.map_err(about_oneself)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Goes to another of one's tenants.
#[utoipa::path(post, path = "/api/v2/me/tenant", tag = "identity", request_body = ChangeTenant,
    extensions(("x-soma-action" = json!("own"))),
    responses((status = 200, body = Me), (status = "default", body = Problem)))]
async fn set_tenant(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    body: Body<ChangeTenant>,
) -> Result<Json<Me>, Problem> {
    Ok(Json(change_tenant(&app, &caller, body.value.tenant_id).await?))
}

/// Makes a secret for an authenticator. Signing in takes its codes once one was confirmed.
#[utoipa::path(post, path = "/api/v2/me/totp", tag = "identity",
    extensions(("x-soma-action" = json!("own"))),
    responses((status = 200, body = NewTotp), (status = "default", body = Problem)))]
async fn begin_totp(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
) -> Result<Json<NewTotp>, Problem> {
    Ok(Json(totp::begin(&app, &caller).await?))
}

/// Confirms the authenticator by a code of it; answers with ten backup codes.
#[utoipa::path(post, path = "/api/v2/me/totp/confirm", tag = "identity", request_body = Code,
    extensions(("x-soma-action" = json!("own"))),
    responses((status = 200, body = BackupCodes), (status = "default", body = Problem)))]
async fn confirm_totp(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    client: Client,
    body: Body<Code>,
) -> Result<Json<BackupCodes>, Problem> {
    let backup_codes =
        totp::confirm(&app, &caller, &body.value.code, &client).await.map_err(about_oneself)?;
    Ok(Json(BackupCodes { backup_codes }))
}

/// Takes the authenticator away, by a code of it or a backup code.
#[utoipa::path(post, path = "/api/v2/me/totp/disable", tag = "identity", request_body = Code,
    extensions(("x-soma-action" = json!("own"))),
    responses((status = 204), (status = "default", body = Problem)))]
async fn disable_totp(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    client: Client,
    body: Body<Code>,
) -> Result<StatusCode, Problem> {
    totp::disable(&app, &caller, &body.value.code, &client).await.map_err(about_oneself)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists one's sessions.
#[utoipa::path(get, path = "/api/v2/me/sessions", tag = "identity", params(PageQuery),
    extensions(("x-soma-action" = json!("own"))),
    responses((status = 200, body = Page<SessionInfo>), (status = "default", body = Problem)))]
async fn list_sessions(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    page: PageRequest,
) -> Result<Json<Page<SessionInfo>>, Problem> {
    sessions::of_oneself(&caller)?;
    Ok(Json(sessions::list(&app, &caller, caller.user, None, &page).await?))
}

/// Ends all of one's sessions but this one.
#[utoipa::path(delete, path = "/api/v2/me/sessions", tag = "identity",
    extensions(("x-soma-action" = json!("own"))),
    responses((status = 204), (status = "default", body = Problem)))]
async fn end_other_sessions(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
) -> Result<StatusCode, Problem> {
    sessions::end_others(&app, caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends one of one's sessions.
#[utoipa::path(delete, path = "/api/v2/me/sessions/{id}", tag = "identity", params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("own"))),
    responses((status = 204), (status = "default", body = Problem)))]
async fn end_session(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = id.parse().map_err(|_| Problem::not_found())?;
    sessions::end_own(&app, caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Stops acting as somebody else, and goes back to one's own session.
#[utoipa::path(delete, path = "/api/v2/me/impersonation", tag = "identity",
    extensions(("x-soma-action" = json!("own"))),
    responses((status = 204), (status = "default", body = Problem)))]
async fn end_impersonation(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    client: Client,
) -> Result<impl IntoResponse, Problem> {
    let cookie = impersonation::end(&app, caller, &client).await?;
    Ok((StatusCode::NO_CONTENT, AppendHeaders([(SET_COOKIE, cookie)])))
}
