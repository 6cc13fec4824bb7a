//! The routes of signing in and out.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header::SET_COOKIE},
    response::{AppendHeaders, IntoResponse},
};
use platform::http::{Body, Problem};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Shown, sign_in, sign_out};
use crate::{
    App,
    identity::{
        authenticate::{Client, clear_cookie},
        me::Me,
    },
};

pub(in crate::identity) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(methods)).routes(routes!(login)).routes(routes!(logout))
}

/// How one can sign in here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Methods {
    pub password: bool,
    /// The identity provider that can be signed in with, if there is one.
    pub oidc: Option<Provider>,
    /// Whether this install sends mail: a forgotten password can be reset without an administrator.
    pub mail: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Provider {
    pub name: String,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    pub email: String,
    #[schema(value_type = String, format = "password")]
    pub password: SecretString,
    /// Of the authenticator, or one of the backup codes; when it was set up.
    pub code: Option<String>,
}

/// Says how one can sign in.
#[utoipa::path(get, path = "/api/v2/auth/methods", tag = "identity", security(()),
    extensions(("x-soma-action" = json!("public"))),
    responses((status = 200, body = Methods)))]
async fn methods(State(app): State<Arc<App>>) -> Json<Methods> {
    let oidc = app.oidc.as_ref().map(|provider| Provider { name: provider.name().to_owned() });
    Json(Methods { password: true, oidc, mail: app.mail.sends() })
}

/// Signs in with a password. The answer sets the cookie `session_id`.
///
/// 401 with code `totp_required` when a code is needed too; 423 when the account is locked; 429 after too many attempts
/// from one address.
#[utoipa::path(post, path = "/api/v2/auth/login", tag = "identity", security(()), request_body = Login,
    extensions(("x-soma-action" = json!("public"))),
    responses((status = 200, body = Me), (status = "default", body = Problem)))]
async fn login(
    State(app): State<Arc<App>>,
    client: Client,
    body: Body<Login>,
) -> Result<impl IntoResponse, Problem> {
    let Login { email, password, code } = body.value;
    let (me, cookie) = sign_in(&app, Shown { email, password, code }, &client).await?;
    Ok((AppendHeaders([(SET_COOKIE, cookie)]), Json(me)))
}

/// Signs out: ends the session and takes the cookie away.
#[utoipa::path(post, path = "/api/v2/auth/logout", tag = "identity", security(()),
    extensions(("x-soma-action" = json!("public"))),
    responses((status = 204), (status = "default", body = Problem)))]
async fn logout(
    State(app): State<Arc<App>>,
    client: Client,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    sign_out(&app, &headers).await?;
    Ok((StatusCode::NO_CONTENT, AppendHeaders([(SET_COOKIE, clear_cookie(&client))])))
}
