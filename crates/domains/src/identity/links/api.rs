//! The routes of one-time links.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header::SET_COOKIE},
    response::{AppendHeaders, IntoResponse},
};
use platform::http::{Body, Problem, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Purpose, Redeeming};
use crate::{
    App,
    identity::{authenticate::Client, mail, me::Me},
};

pub(in crate::identity) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(inspect)).routes(routes!(redeem)).routes(routes!(reset))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InspectLink {
    /// What stands behind `#` in the link.
    #[schema(value_type = String)]
    pub token: SecretString,
}

/// What a link is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct LinkInfo {
    pub purpose: Purpose,
    pub email: String,
    /// What the tenant is called.
    pub tenant: String,
    pub expires_at: Timestamp,
    /// Whether an invitation is for somebody who has a password, and is taken with that one.
    pub has_password: bool,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedeemLink {
    #[schema(value_type = String)]
    pub token: SecretString,
    /// The new password: 10 characters to 1024 bytes. With an invitation for somebody who has one, that one.
    #[schema(value_type = String, format = "password")]
    pub password: SecretString,
    pub name: Option<String>,
    /// Of the authenticator, where it was set up.
    pub code: Option<String>,
}

/// Says what a link is for, and does not use it.
#[utoipa::path(post, path = "/api/v2/auth/links/inspect", tag = "identity", security(()), request_body = InspectLink,
    extensions(("x-soma-action" = json!("public"))),
    responses((status = 200, body = LinkInfo), (status = "default", body = Problem)))]
async fn inspect(State(app): State<Arc<App>>, body: Body<InspectLink>) -> Result<Json<LinkInfo>, Problem> {
    Ok(Json(super::inspect(&app, body.value.token.expose_secret()).await?))
}

/// Uses a link: sets a password or takes an invitation, and signs in. The answer sets the cookie `session_id`.
#[utoipa::path(post, path = "/api/v2/auth/links/redeem", tag = "identity", security(()), request_body = RedeemLink,
    extensions(("x-soma-action" = json!("public"))),
    responses((status = 200, body = Me), (status = "default", body = Problem)))]
async fn redeem(
    State(app): State<Arc<App>>,
    client: Client,
    body: Body<RedeemLink>,
) -> Result<impl IntoResponse, Problem> {
    let RedeemLink { token, password, name, code } = body.value;
    let given = Redeeming { token, password, name, code };
    let (me, cookie) = super::redeem(&app, given, &client).await?;
    Ok((AppendHeaders([(SET_COOKIE, cookie)]), Json(me)))
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgottenPassword {
    pub email: String,
}

/// Mails a link to another password, where this install sends mail and there is such a user. The answer is always the same.
#[utoipa::path(post, path = "/api/v2/auth/reset", tag = "identity", security(()), request_body = ForgottenPassword,
    extensions(("x-soma-action" = json!("public"))),
    responses((status = 202), (status = "default", body = Problem)))]
async fn reset(
    State(app): State<Arc<App>>,
    client: Client,
    body: Body<ForgottenPassword>,
) -> Result<StatusCode, Problem> {
    app.addresses.count(client.ip)?;
    mail::forgotten(&app, body.value.email);
    Ok(StatusCode::ACCEPTED)
}
