//! Sessions: somebody's stay after signing in. Only a token's HMAC is stored, and what has ended has no row.

use axum::http::HeaderValue;
use contracts::{Caller, Credential, SessionId, TenantId, UserId, policy::Resource};
use platform::{
    config::Config,
    database::{Error as StoreError, Tx},
    durable::unix_ms,
    http::{Page, PageRequest, Timestamp},
    secrets,
};
use secrecy::ExposeSecret;
use serde_json::json;

use super::{
    Error, authenticate,
    authenticate::Client,
    events,
    store::{sessions as store, users},
};
use crate::{App, audit};

/// `last_used_at` is written at most this often for a session, and four times within the time it may be idle.
const USE_NOTED_EVERY_MS: i64 = 60_000;

/// What somebody signed in with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Password,
    Link,
    Oidc,
    Impersonation,
}

impl How {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Link => "link",
            Self::Oidc => "oidc",
            Self::Impersonation => "impersonation",
        }
    }
}

/// A session, as its owner and administrators see it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct SessionInfo {
    pub id: SessionId,
    /// `password`, `link`, `oidc` or `impersonation`.
    pub how: String,
    pub created_at: Timestamp,
    pub last_used_at: Timestamp,
    pub expires_at: Timestamp,
    pub user_agent: String,
    /// Where it was begun from.
    pub address: Option<String>,
    /// Who acts in it, when an administrator acts as its user.
    pub impersonator_id: Option<UserId>,
    /// Whether it is the one that asks.
    pub current: bool,
}

/// The session of a caller who signed in: an API key changes nothing about how somebody signs in.
pub(super) fn of(caller: &Caller) -> Result<SessionId, Error> {
    match caller.credential {
        Credential::Session(id) => Ok(id),
        Credential::ApiKey(_) | Credential::AccessToken | Credential::Run(_) | Credential::Event => {
            Err(Error::SessionRequired)
        }
    }
}

/// The same, where it must be the very person: not whoever acts as them.
pub(super) fn of_oneself(caller: &Caller) -> Result<SessionId, Error> {
    if caller.impersonator.is_some() { Err(Error::Impersonating) } else { of(caller) }
}

/// A session to be: its row and its cookie. Neither is worth anything before the row is stored.
pub(super) struct Opening {
    row: store::NewSession,
    idle_since: i64,
    cookie: HeaderValue,
}

impl Opening {
    pub(super) fn id(&self) -> SessionId {
        self.row.id
    }

    pub(super) fn cookie(&self) -> HeaderValue {
        self.cookie.clone()
    }

    /// The same for another user: one who is known only within the change.
    pub(super) fn for_user(mut self, user: UserId) -> Self {
        self.row.user = user;
        self
    }

    /// Makes it one in which somebody acts as its user, for a while.
    pub(super) fn impersonated_by(&mut self, who: UserId, from: Option<SessionId>, lifetime_ms: i64) {
        self.row.impersonator = Some(who);
        self.row.begun_from = from;
        self.row.expires_at = self.row.expires_at.min(self.row.created_at.saturating_add(lifetime_ms));
    }
}

pub(super) fn hash_of(config: &Config, token: &str) -> String {
    config.keys.mac("session", token)
}

/// Makes a session of a user in a tenant, without storing it.
pub(super) fn prepare(app: &App, user: UserId, tenant: TenantId, how: How, client: &Client) -> Opening {
    let settings = &app.config.sign_in;
    let token = secrets::random_token();
    let now = unix_ms();
    let row = store::NewSession {
        id: SessionId::new(),
        hash: hash_of(&app.config, token.expose_secret()),
        user,
        tenant,
        how: how.as_str(),
        user_agent: client.user_agent.clone(),
        address: client.ip.map(|ip| ip.to_string()),
        created_at: now,
        expires_at: now.saturating_add(settings.session_max_ms),
        impersonator: None,
        begun_from: None,
    };
    let cookie = authenticate::session_cookie(token.expose_secret(), settings.session_max_ms / 1000, client);
    Opening { row, idle_since: now - settings.session_idle_ms, cookie }
}

/// Stores a session within a change, with its row of the audit.
pub(super) async fn open_in(tx: &Tx, opening: &Opening) -> Result<(), StoreError> {
    let row = &opening.row;
    store::insert(tx, row, opening.idle_since).await?;
    users::set_seen(tx, row.user, row.created_at).await?;
    users::set_last_tenant(tx, row.user, row.tenant).await?;
    let who = Caller {
        credential: Credential::Session(row.id),
        impersonator: row.impersonator,
        ..events::at_the_door(row.tenant, row.user)
    };
    let details = json!({ "address": row.address, "user_agent": row.user_agent });
    let on = Resource::new("session", row.id);
    audit::add(tx, &events::done(&who, events::SIGNED_IN, row.how, on, details)).await
}

/// Signs somebody in who has proven who they are; the cookie goes with the answer.
pub(crate) async fn open(
    app: &App,
    user: UserId,
    tenant: TenantId,
    how: How,
    client: &Client,
) -> Result<(Caller, HeaderValue), Error> {
    let opening = prepare(app, user, tenant, how, client);
    let (id, cookie) = (opening.id(), opening.cookie());
    app.database
        .write(move |tx| Box::pin(async move { open_in(tx, &opening).await }))
        .await
        .map_err(Error::Store)?;
    Ok((authenticate::of_session(app, id, user, tenant, None).await?, cookie))
}

/// Ends the caller's own session.
pub(super) async fn close(app: &App, caller: Caller, id: SessionId) -> Result<(), Error> {
    app.database
        .write(move |tx| {
            Box::pin(async move {
                if store::delete(tx, id).await? == 0 {
                    return Ok(());
                }
                let on = Resource::new("session", id);
                audit::add(tx, &events::done(&caller, events::SIGNED_OUT, "own", on, json!(null))).await
            })
        })
        .await
        .map_err(Error::Store)?;
    app.sessions.forget_all();
    Ok(())
}

/// A user's sessions: in one tenant, or in all.
pub(super) async fn list(
    app: &App,
    caller: &Caller,
    user: UserId,
    tenant: Option<TenantId>,
    page: &PageRequest,
) -> Result<Page<SessionInfo>, Error> {
    let now = unix_ms();
    let of = store::Of { user, tenant, current: of(caller).ok() };
    let idle_since = now - app.config.sign_in.session_idle_ms;
    let rows = store::page(app.database.read(), &of, page, now, idle_since).await?;
    Ok(page.page(rows, |session| session.id.to_string()))
}

/// Ends one of the caller's own sessions.
pub(super) async fn end_own(app: &App, caller: Caller, id: SessionId) -> Result<(), Error> {
    of_oneself(&caller)?;
    app.database
        .write(move |tx| {
            Box::pin(async move {
                if store::delete_one_of(tx, caller.user, id).await? == 0 {
                    return Err(Error::NotFound);
                }
                let on = Resource::new("session", id);
                Ok(audit::add(tx, &events::done(&caller, events::SIGNED_OUT, "own", on, json!(null))).await?)
            })
        })
        .await?;
    app.sessions.forget_all();
    Ok(())
}

/// Ends all of the caller's own sessions but the one that asks.
pub(super) async fn end_others(app: &App, caller: Caller) -> Result<(), Error> {
    let kept = of_oneself(&caller)?;
    app.database
        .write(move |tx| {
            Box::pin(async move {
                let ended = store::delete_others(tx, caller.user, kept).await?;
                let details = json!({ "ended": ended });
                let on = Resource::any("session");
                audit::add(tx, &events::done(&caller, events::SIGNED_OUT, "own", on, details)).await
            })
        })
        .await
        .map_err(Error::Store)?;
    app.sessions.forget_all();
    Ok(())
}

/// Notes, now and then and beside the request, that a session was used.
pub(super) fn note_use(app: &App, session: &store::ValidSession, now: i64) {
    let every = USE_NOTED_EVERY_MS.min(app.config.sign_in.session_idle_ms / 4);
    if now - session.last_used_at < every {
        return;
    }
    let (id, user, database) = (session.id, session.user, app.database.clone());
    let by_themselves = session.impersonator.is_none();
    tokio::spawn(async move {
        let noted = database
            .write(move |tx| {
                Box::pin(async move {
                    store::touch(tx, id, now).await?;
                    if by_themselves {
                        users::set_seen(tx, user, now).await?;
                    }
                    Ok::<_, StoreError>(())
                })
            })
            .await;
        if let Err(error) = noted {
            tracing::warn!(%error, "the use of a session was not noted");
        }
    });
}
