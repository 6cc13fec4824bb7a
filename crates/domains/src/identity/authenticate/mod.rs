//! Who calls: the one place that turns a credential into a [`Caller`].
//!
//! A middleware asks for every route but the public few, so a new route is closed until somebody opens it. A key in
//! `Authorization` counts before the cookie, and one that is not valid is refused though the cookie may be.

mod client;
mod cookie;
mod origin;
mod watch;

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, Method, header, request::Parts},
    middleware::Next,
    response::Response,
};
use contracts::{Caller, Credential, SessionId, TenantId, UserId};
use platform::{database::Error as StoreError, durable::unix_ms, http::Problem, remembered::Remembered};

pub use client::Client;
pub(super) use cookie::{clear as clear_cookie, session as session_cookie, values as cookie_values};

use super::{
    impersonation, keys, oidc, sessions,
    store::{keys as key_rows, sessions as session_rows, users as user_rows},
    users,
};
use crate::{
    App,
    authority::{self, Factor, Proven},
    permissions,
};

/// Callers by the hash of their credential.
pub type Sessions = Remembered<String, Proven>;

/// Paths that need no credential, and those below which none does.
const PUBLIC: &[&str] = &["/health/live", "/health/ready", "/api/openapi.json"];
const SIGN_IN: &str = "/api/v2/auth/";
/// Everything under these needs a credential, and so does `/metrics`; what lies beside them is the web interface's
/// files, which are the same for everybody.
const GUARDED: &[&str] = &["/api", "/v1", "/ws", "/health", "/metrics"];

/// What somebody may do who has to set up an authenticator first, beside signing out, which anybody may.
const SETTING_UP: &[(Method, &str)] = &[
    (Method::GET, "/api/v2/me"),
    (Method::POST, "/api/v2/me/totp"),
    (Method::POST, "/api/v2/me/totp/confirm"),
    (Method::POST, "/api/v2/me/tenant"),
    (Method::DELETE, "/api/v2/me/impersonation"),
];

/// What stands before the key in a WebSocket's subprotocol.
const WEBSOCKET_KEY: &str = "bearer.";

/// Whether a path belongs to the API and its like, where nothing is a file of the web interface.
#[must_use]
pub fn is_guarded(path: &str) -> bool {
    GUARDED
        .iter()
        .any(|prefix| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// Whether a path is answered without a credential.
fn is_public(path: &str) -> bool {
    PUBLIC.contains(&path) || path.starts_with(SIGN_IN) || !is_guarded(path)
}

/// Puts the [`Caller`] into the request, or answers 401; refuses what another site made a browser send.
pub async fn require_caller(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let path = request.uri().path();
    origin::check(&request, &app.config.sign_in.public_url, path.starts_with(SIGN_IN))?;
    if is_public(path) {
        return Ok(next.run(request).await);
    }
    let proven = authenticate(&app, request.headers()).await?;
    let setting_up = SETTING_UP.iter().any(|(method, at)| request.method() == method && path == *at);
    let caller = authority::admit(&app, proven, setting_up).await?;
    let credential = watch::Watched::new(&app, &request, &caller);
    request.extensions_mut().insert(caller);
    Ok(credential.while_it_counts(next.run(request).await))
}

/// Who these headers prove, if their tenant lets them in. What stays open asks again and again.
pub(crate) async fn admitted(app: &App, headers: &HeaderMap) -> Result<Caller, Problem> {
    authority::admit(app, authenticate(app, headers).await?, false).await
}

/// Who these headers prove.
async fn authenticate(app: &App, headers: &HeaderMap) -> Result<Proven, Problem> {
    if let Some(header) = headers.get(header::AUTHORIZATION) {
        let shown = header.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
        let shown = shown.ok_or_else(Problem::unauthenticated)?;
        return match &app.oidc {
            _ if keys::looks_like_a_key(shown) => by_key(app, keys::hash_of(&app.config, shown)).await,
            Some(provider) => by_access_token(app, provider, shown).await,
            None => Err(Problem::unauthenticated()),
        };
    }
    if let Some(key) = websocket_key(headers) {
        let key = Some(key).filter(|key| keys::looks_like_a_key(key)).ok_or_else(Problem::unauthenticated)?;
        return by_key(app, keys::hash_of(&app.config, key)).await;
    }
    let found = in_session(app, headers).await?;
    found.ok_or_else(Problem::unauthenticated)
}

/// The key that a browser's script names as a subprotocol of the WebSocket it opens: it can set no header.
fn websocket_key(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::UPGRADE)?;
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut names = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    names.find_map(|name| name.trim().strip_prefix(WEBSOCKET_KEY))
}

/// The caller whom the cookie names, if it names one. For routes that need none: there it is only told who leaves.
pub(super) async fn by_cookie(app: &App, headers: &HeaderMap) -> Result<Option<Caller>, StoreError> {
    Ok(in_session(app, headers).await?.map(|proven| proven.caller))
}

async fn in_session(app: &App, headers: &HeaderMap) -> Result<Option<Proven>, StoreError> {
    let Some(token) = cookie::token(headers) else { return Ok(None) };
    let hash = sessions::hash_of(&app.config, token);
    let lookup = match app.sessions.get(&hash) {
        Ok(proven) => return Ok(Some(proven)),
        Err(lookup) => lookup,
    };
    let now = unix_ms();
    let idle_since = now - app.config.sign_in.session_idle_ms;
    let Some(found) = session_rows::valid(app.database.read(), &hash, now, idle_since).await? else {
        return Ok(None);
    };
    let caller = of_session(app, found.id, found.user, found.tenant, found.impersonator).await?;
    if let Some(impersonator) = found.impersonator
        && !impersonation::is_allowed(app, impersonator, found.tenant, found.user).await?
    {
        return Ok(None);
    }
    let lacks_factor = session_rows::lacks_factor(app.database.read(), found.id).await?;
    let factor = if lacks_factor { Factor::Missing } else { Factor::Shown };
    let proven = Proven { caller, factor };
    app.sessions.put(lookup, hash, proven.clone());
    sessions::note_use(app, &found, now);
    Ok(Some(proven))
}

/// The caller of a session.
pub(super) async fn of_session(
    app: &App,
    id: SessionId,
    user: UserId,
    tenant: TenantId,
    impersonator: Option<UserId>,
) -> Result<Caller, StoreError> {
    let rights = permissions::rights_of(app.database.read(), tenant, user).await?;
    Ok(Caller {
        tenant,
        user,
        roles: rights.roles,
        grants: rights.grants,
        scopes: vec!["*".to_owned()],
        // A key that is made in a session is not bound to it.
        expires_at: None,
        credential: Credential::Session(id),
        impersonator,
    })
}

/// By an access token of the identity provider, for somebody who has signed in here before.
async fn by_access_token(app: &App, provider: &oidc::Provider, token: &str) -> Result<Proven, Problem> {
    let hash = app.config.keys.mac("access_token", token);
    let lookup = match app.sessions.get(&hash) {
        Ok(proven) => return Ok(proven),
        Err(lookup) => lookup,
    };
    let (user, tenant, ends_at) = oidc::bearer(app, provider, token).await?;
    let caller = Caller {
        expires_at: Some(ends_at),
        credential: Credential::AccessToken,
        ..of_session(app, SessionId::new(), user, tenant, None).await?
    };
    let proven = Proven { caller, factor: Factor::Shown };
    app.sessions.put(lookup, hash, proven.clone());
    Ok(proven)
}

async fn by_key(app: &App, hash: String) -> Result<Proven, Problem> {
    let lookup = match app.sessions.get(&hash) {
        Ok(proven) => return Ok(proven),
        Err(lookup) => lookup,
    };
    let now = unix_ms();
    let found = key_rows::valid_key(app.database.read(), &hash, now).await?;
    let found = found.ok_or_else(Problem::unauthenticated)?;
    let rights = permissions::rights_of(app.database.read(), found.tenant, found.user).await?;
    let caller = Caller {
        tenant: found.tenant,
        user: found.user,
        roles: rights.roles,
        grants: rights.grants,
        scopes: found.scopes,
        expires_at: found.expires_at,
        credential: Credential::ApiKey(found.id),
        impersonator: None,
    };
    let proven = Proven { caller, factor: Factor::Shown };
    app.sessions.put(lookup, hash, proven.clone());
    keys::note_use(app, found.id, found.user, found.last_used_at, now);
    Ok(proven)
}

/// A service account of this tenant, for whom an event speaks.
pub(crate) async fn service_account(
    app: &App,
    tenant: TenantId,
    user: UserId,
) -> Result<Option<Proven>, StoreError> {
    let member = user_rows::member(app.database.read(), tenant, user).await?;
    if member.is_none_or(|member| member.kind != users::Kind::Service) {
        return Ok(None);
    }
    let caller = Caller {
        credential: Credential::Event,
        ..of_session(app, SessionId::new(), user, tenant, None).await?
    };
    Ok(Some(Proven { caller, factor: Factor::Shown }))
}

/// The caller of this request. Without the middleware in front there is none, and the answer is 401.
#[derive(Debug, Clone)]
pub struct Authenticated(pub Caller);

impl<S: Send + Sync> FromRequestParts<S> for Authenticated {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Caller>().cloned().map(Self).ok_or_else(Problem::unauthenticated)
    }
}
