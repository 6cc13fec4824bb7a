//! The routes of invitations.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use platform::http::{Body, Page, PageQuery, PageRequest, Path, Problem};
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{CreatedInvitation, Invitation};
use crate::{App, identity::Authenticated};

pub(in crate::identity) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list_invitations, create_invitation))
        .routes(routes!(withdraw_invitation))
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateInvitation {
    pub email: String,
    /// Roles to have from the start; to give any takes `user:assign_roles`.
    #[serde(default)]
    pub roles: Vec<String>,
}

/// Lists the invitations that were not taken yet.
#[utoipa::path(get, path = "/api/v2/invitations", tag = "identity", params(PageQuery),
    extensions(("x-soma-action" = json!("user:read"))),
    responses((status = 200, body = Page<Invitation>), (status = "default", body = Problem)))]
async fn list_invitations(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    page: PageRequest,
) -> Result<Json<Page<Invitation>>, Problem> {
    Ok(Json(super::list(&app, &caller, &page).await?))
}

/// Invites somebody by mail; without mail the answer has the link.
#[utoipa::path(post, path = "/api/v2/invitations", tag = "identity", request_body = CreateInvitation,
    extensions(("x-soma-action" = json!("user:create"))),
    responses((status = 201, body = CreatedInvitation), (status = "default", body = Problem)))]
async fn create_invitation(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    body: Body<CreateInvitation>,
) -> Result<(StatusCode, Json<CreatedInvitation>), Problem> {
    let made = super::create(&app, &caller, &body.value.email, &body.value.roles).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Withdraws an invitation: its link ends.
#[utoipa::path(delete, path = "/api/v2/invitations/{id}", tag = "identity", params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("user:create"))),
    responses((status = 204), (status = "default", body = Problem)))]
async fn withdraw_invitation(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = id.parse().map_err(|_| Problem::not_found())?;
    super::withdraw(&app, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
