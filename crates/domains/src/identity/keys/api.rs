//! The routes of API keys.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use contracts::{ApiKeyId, UserId};
use platform::http::{Body, Page, PageQuery, PageRequest, Path, Problem, Timestamp};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{App, identity::Authenticated};

pub(in crate::identity) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list_keys, create_key))
        .routes(routes!(revoke_key))
        .routes(routes!(rotate_key))
}

/// An API key without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ApiKey {
    pub id: ApiKeyId,
    pub user_id: UserId,
    pub name: String,
    /// The first 8 characters after `soma_`.
    pub prefix: String,
    pub scopes: Vec<String>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    /// The key that took its place, when it was rotated.
    pub replaced_by: Option<ApiKeyId>,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApiKey {
    #[serde(default)]
    pub name: String,
    /// Actions that the key is limited to, as in `conversation:*`; all of the caller's when absent.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Seconds until it ends; without end when absent.
    pub lifetime_s: Option<u64>,
    /// A service account to make it for; the caller when absent.
    pub user_id: Option<UserId>,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateApiKey {
    /// Seconds for which the old key works beside the new one, at most 2592000.
    pub overlap_s: u32,
}

/// A new key. `key` is shown this once.
#[derive(Serialize, utoipa::ToSchema)]
pub struct CreatedApiKey {
    pub key: String,
    #[serde(flatten)]
    pub api_key: ApiKey,
}

/// Lists the tenant's API keys.
#[utoipa::path(get, path = "/api/v2/api-keys", tag = "identity", params(PageQuery),
    extensions(("x-soma-action" = json!("apikey:read"))),
    responses((status = 200, body = Page<ApiKey>), (status = "default", body = Problem)))]
async fn list_keys(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    page: PageRequest,
) -> Result<Json<Page<ApiKey>>, Problem> {
    Ok(Json(super::list_keys(&app, &caller, &page).await?))
}

/// Makes an API key for the caller or a service account. It can't do more than the key that makes it, and ends no later.
#[utoipa::path(post, path = "/api/v2/api-keys", tag = "identity", request_body = CreateApiKey,
    extensions(("x-soma-action" = json!("apikey:create"))),
    responses((status = 201, body = CreatedApiKey), (status = "default", body = Problem)))]
async fn create_key(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    body: Body<CreateApiKey>,
) -> Result<(StatusCode, Json<CreatedApiKey>), Problem> {
    let (api_key, key) = super::create_key(&app, &caller, body.value).await?;
    Ok((StatusCode::CREATED, Json(CreatedApiKey { key: key.expose_secret().to_owned(), api_key })))
}

/// Revokes an API key. It stops working within a second.
#[utoipa::path(delete, path = "/api/v2/api-keys/{id}", tag = "identity", params(("id" = String, Path)),
    extensions(("x-soma-action" = json!("apikey:revoke"))),
    responses((status = 204), (status = "default", body = Problem)))]
async fn revoke_key(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = id.parse().map_err(|_| Problem::not_found())?;
    super::revoke_key(&app, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a key that takes another one's place, with its name and scopes. The old one works for a while longer.
#[utoipa::path(post, path = "/api/v2/api-keys/{id}/rotate", tag = "identity", params(("id" = String, Path)),
    request_body = RotateApiKey,
    extensions(("x-soma-action" = json!("apikey:rotate"))),
    responses((status = 201, body = CreatedApiKey), (status = "default", body = Problem)))]
async fn rotate_key(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(id): Path<String>,
    body: Body<RotateApiKey>,
) -> Result<(StatusCode, Json<CreatedApiKey>), Problem> {
    let id = id.parse().map_err(|_| Problem::not_found())?;
    let (api_key, key) = super::rotate_key(&app, &caller, id, body.value.overlap_s).await?;
    Ok((StatusCode::CREATED, Json(CreatedApiKey { key: key.expose_secret().to_owned(), api_key })))
}
