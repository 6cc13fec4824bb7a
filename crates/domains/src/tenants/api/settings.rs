//! The routes of settings.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use contracts::UserId;
use platform::http::{Body, Page, Path, Problem, Query};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    App,
    identity::Authenticated,
    tenants::settings::{self, Level},
};

/// A setting as it counts here, and where its value comes from.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SettingItem {
    pub key: &'static str,
    pub value: Value,
    pub from: Level,
    /// What is set at each level that was asked for, the widest first, whether it counts or not.
    pub set: Vec<SetValue>,
    /// `number`, `choice` or `tools`.
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choices: Option<Vec<&'static str>>,
    pub description: &'static str,
    /// The levels at which it may be set.
    pub allowed_at: Vec<Level>,
}

/// A value that somebody set.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SetValue {
    pub level: Level,
    pub value: Value,
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SettingsOf {
    /// An agent's slug or id: what counts for it.
    pub agent: Option<String>,
    /// What counts for this user; the caller unless told.
    #[param(value_type = Option<String>)]
    pub user: Option<UserId>,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewValue {
    pub value: Value,
}

/// Lists every setting: its value, and the level that it comes from. What is another's or an agent's wants
/// `tenant:read`.
#[utoipa::path(get, path = "/api/v2/settings", tag = "tenants", params(SettingsOf),
    extensions(("x-soma-action" = json!("own"))),
    responses((status = 200, body = Page<SettingItem>), (status = "default", body = Problem)))]
pub(super) async fn list_settings(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Query(query): Query<SettingsOf>,
) -> Result<Json<Page<SettingItem>>, Problem> {
    let items = settings::list(&app, &caller, query.agent, query.user).await?;
    Ok(Json(Page { items, next_cursor: None }))
}

/// Sets a value at `platform` (wants `platform:manage`), `tenant`, `agent:AGENT` (`agent:update`) or `user` (one's own).
#[utoipa::path(put, path = "/api/v2/settings/{scope}/{key}", tag = "tenants",
    params(("scope" = String, Path), ("key" = String, Path)), request_body = NewValue,
    extensions(("x-soma-action" = json!("tenant:update"))),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn put_setting(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path((scope, key)): Path<(String, String)>,
    body: Body<NewValue>,
) -> Result<StatusCode, Problem> {
    settings::put(&app, &caller, &scope, &key, body.value.value).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes back what was set at a level: the next wider one counts.
#[utoipa::path(delete, path = "/api/v2/settings/{scope}/{key}", tag = "tenants",
    params(("scope" = String, Path), ("key" = String, Path)),
    extensions(("x-soma-action" = json!("tenant:update"))),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn delete_setting(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path((scope, key)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    settings::delete(&app, &caller, &scope, &key).await?;
    Ok(StatusCode::NO_CONTENT)
}
