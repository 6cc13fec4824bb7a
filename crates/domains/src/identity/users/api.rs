//! The routes of users.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::header::SET_COOKIE,
    response::{AppendHeaders, IntoResponse},
};
use platform::http::{Body, Path, Problem};
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App,
    identity::{Authenticated, authenticate::Client, impersonation, me::Me},
};

pub(in crate::identity) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(impersonate))
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
    Path(id): Path<String>,
    client: Client,
    body: Body<Impersonate>,
) -> Result<impl IntoResponse, Problem> {
    let id = id.parse().map_err(|_| Problem::not_found())?;
    let (me, cookie) = impersonation::begin(&app, &caller, id, &body.value.reason, &client).await?;
    Ok((AppendHeaders([(SET_COOKIE, cookie)]), Json(me)))
}
