//! Who calls: the one place that turns a credential into a [`Caller`].
//!
//! A middleware asks for every route but the few in [`PUBLIC`], so a new route is closed until somebody opens it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{header, request::Parts},
    middleware::Next,
    response::Response,
};
use contracts::{Caller, Credential};
use platform::{durable::unix_ms, http::Problem};

use super::{service, store};
use crate::{App, permissions};

/// Paths that need no credential.
const PUBLIC: &[&str] = &["/health/live", "/health/ready", "/api/openapi.json"];
/// Everything under these needs a credential, and so does `/metrics`; what lies beside them is the web interface's
/// files, which are the same for everybody.
const GUARDED: &[&str] = &["/api", "/v1", "/ws", "/health", "/metrics"];

/// Whether a path is answered without a credential.
fn is_public(path: &str) -> bool {
    let guarded = GUARDED
        .iter()
        .any(|prefix| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    PUBLIC.contains(&path) || !guarded
}

/// How long a caller is remembered: a revoked key or role counts for at most this long.
const REMEMBERED: Duration = Duration::from_millis(500);
/// Callers remembered at once.
const REMEMBERED_MAX: usize = 10_000;

/// Callers seen a moment ago, by the hash of their key.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<String, (Instant, Caller)>>);

impl Sessions {
    fn get(&self, hash: &str) -> Option<Caller> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(hash).filter(|(at, _)| at.elapsed() < REMEMBERED).map(|(_, caller)| caller.clone())
    }

    fn put(&self, hash: String, caller: Caller) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED_MAX {
            seen.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
        }
        if seen.len() < REMEMBERED_MAX {
            seen.insert(hash, (Instant::now(), caller));
        }
    }

    /// After a change of rights in this process: the next request looks again.
    pub(crate) fn forget_all(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Puts the [`Caller`] into the request, or answers 401.
pub async fn require_caller(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if !is_public(request.uri().path()) {
        let caller = authenticate(&app, request.headers().get(header::AUTHORIZATION)).await?;
        request.extensions_mut().insert(caller);
    }
    Ok(next.run(request).await)
}

async fn authenticate(app: &App, header: Option<&header::HeaderValue>) -> Result<Caller, Problem> {
    let key = header
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(str::trim)
        .filter(|key| service::looks_like_a_key(key))
        .ok_or_else(Problem::unauthenticated)?;
    let hash = service::hash_of(app, key);
    if let Some(caller) = app.sessions.get(&hash) {
        return Ok(caller);
    }
    let now = unix_ms();
    let found =
        store::valid_key(app.database.read(), &hash, now).await?.ok_or_else(Problem::unauthenticated)?;
    let roles = permissions::roles_of(app.database.read(), found.tenant, found.user).await?;
    let caller = Caller {
        tenant: found.tenant,
        user: found.user,
        roles,
        scopes: found.scopes,
        expires_at: found.expires_at,
        credential: Credential::ApiKey(found.id),
        impersonator: None,
    };
    app.sessions.put(hash, caller.clone());
    service::note_use(app, found.id, found.last_used_at, now);
    Ok(caller)
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
