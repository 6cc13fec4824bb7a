//! The routes of signing in at the identity provider. Without one there is nothing under them.

use std::sync::Arc;

use axum::{
    Form, Json,
    extract::{State, rejection::FormRejection},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{ACCEPT, CACHE_CONTROL, LOCATION, SET_COOKIE},
    },
    response::{AppendHeaders, IntoResponse, Response},
};
use platform::http::{Problem, Query};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{leave, pending, provider::Provider, sign_in, sign_in::Answer};
use crate::{
    App,
    identity::authenticate::{Client, clear_cookie},
};

pub(in crate::identity) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(oidc_login))
        .routes(routes!(oidc_callback))
        .routes(routes!(oidc_logout))
        .routes(routes!(oidc_back_channel_logout))
}

/// The page on which people sign in, and where they hear why they could not.
const SIGN_IN_PAGE: &str = "/sign-in";
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Begin {
    /// A path of this server to come to after signing in; `/` when it is absent or none.
    return_to: Option<String>,
}

/// Where to go on.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct LeftTo {
    /// The provider's page that ends one's stay there too. Null: there is nothing more to end.
    location: Option<String>,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
struct BackChannelLogout {
    logout_token: String,
}

fn provider(app: &App) -> Result<&Provider, Problem> {
    app.oidc.as_ref().ok_or_else(Problem::not_found)
}

fn text_of(value: &str) -> HeaderValue {
    // A URL is ASCII, so this never fails; the empty address is this page.
    HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Sends a person's browser to the identity provider.
#[utoipa::path(get, path = "/api/v2/auth/oidc/login", tag = "identity", security(()), params(Begin),
    extensions(("x-soma-action" = json!("public"))),
    responses((status = 302, description = "To the provider"), (status = "default", body = Problem)))]
async fn oidc_login(
    State(app): State<Arc<App>>,
    client: Client,
    headers: HeaderMap,
    Query(query): Query<Begin>,
) -> Result<Response, Problem> {
    let provider = provider(&app)?;
    Ok(match sign_in::begin(&app, provider, query.return_to.as_deref(), &client).await {
        Ok((url, cookie)) => found(url.as_str(), [cookie]),
        Err(error) => could_not(error.into(), &headers, &client),
    })
}

/// Takes a person's browser back from the identity provider, signed in.
#[utoipa::path(get, path = "/api/v2/auth/oidc/callback", tag = "identity", security(()), params(Answer),
    extensions(("x-soma-action" = json!("public"))),
    responses((status = 302, description = "To where the person wanted to go"), (status = "default", body = Problem)))]
async fn oidc_callback(
    State(app): State<Arc<App>>,
    client: Client,
    headers: HeaderMap,
    Query(answer): Query<Answer>,
) -> Result<Response, Problem> {
    let provider = provider(&app)?;
    Ok(match sign_in::finish(&app, provider, answer, &headers, &client).await {
        Ok((cookie, return_to)) => found(&return_to, [cookie, pending::clear(&client)]),
        Err(error) => could_not(error.into(), &headers, &client),
    })
}

/// Signs out here, and says where to sign out at the identity provider.
#[utoipa::path(post, path = "/api/v2/auth/oidc/logout", tag = "identity", security(()),
    extensions(("x-soma-action" = json!("public"))),
    responses((status = 200, body = LeftTo), (status = "default", body = Problem)))]
async fn oidc_logout(
    State(app): State<Arc<App>>,
    client: Client,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let location = leave::sign_out(&app, provider(&app)?, &headers).await?;
    let body = LeftTo { location: location.map(String::from) };
    Ok((AppendHeaders([(SET_COOKIE, clear_cookie(&client)), (CACHE_CONTROL, NO_STORE)]), Json(body)))
}

/// Hears from the identity provider that somebody's stay there has ended, and ends it here.
#[utoipa::path(post, path = "/api/v2/auth/oidc/back-channel-logout", tag = "identity", security(()),
    request_body(content = BackChannelLogout, content_type = "application/x-www-form-urlencoded"),
    extensions(("x-soma-action" = json!("public"))),
    responses((status = 200, description = "It ended"), (status = "default", body = Problem)))]
async fn oidc_back_channel_logout(
    State(app): State<Arc<App>>,
    form: Result<Form<BackChannelLogout>, FormRejection>,
) -> Result<impl IntoResponse, Problem> {
    let provider = provider(&app)?;
    let Form(form) = form.map_err(|_| Problem::invalid("logout_token", "expected a form with this field"))?;
    leave::provider_says(&app, provider, &form.logout_token).await?;
    Ok((StatusCode::OK, AppendHeaders([(CACHE_CONTROL, NO_STORE)])))
}

fn found<const N: usize>(location: &str, cookies: [HeaderValue; N]) -> Response {
    let mut response =
        (StatusCode::FOUND, [(LOCATION, text_of(location)), (CACHE_CONTROL, NO_STORE)]).into_response();
    for cookie in cookies {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// A person's browser goes to the page that explains; a program gets the problem.
fn could_not(problem: Problem, headers: &HeaderMap, client: &Client) -> Response {
    let accepts = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    if accepts.is_some_and(|accepts| accepts.contains("text/html")) {
        return found(&format!("{SIGN_IN_PAGE}?error={}", problem.code), [pending::clear(client)]);
    }
    let mut response = problem.into_response();
    response.headers_mut().append(SET_COOKIE, pending::clear(client));
    response
}
