//! Acting as somebody else: for administrators of the platform, with a reason, for an hour, and marked in every row of
//! the audit.

use axum::http::HeaderValue;
use contracts::{Caller, TenantId, UserId, policy::Resource};
use platform::{database::Error as StoreError, secrets};
use secrecy::ExposeSecret;
use serde_json::json;

use super::{
    Error, authenticate,
    authenticate::Client,
    events,
    me::{self, Me},
    sessions,
    sessions::How,
    store::sessions as session_rows,
    users,
};
use crate::{App, audit, authority, permissions};

const ACTION: &str = "platform:impersonate";
const LIFETIME_MS: i64 = 60 * 60 * 1000;
const REASON_CHARS_MAX: usize = 500;

/// Whether somebody may still act as another: asked at each lookup, so that a lost right ends what it allowed.
pub(super) async fn is_allowed(
    app: &App,
    impersonator: UserId,
    tenant: TenantId,
    user: UserId,
) -> Result<bool, StoreError> {
    let caller = users::by_their_rights(app.database.read(), tenant, impersonator).await?;
    // Undecided is no, and no end of the session: the next look-up asks again.
    Ok(authority::may(app, &caller, ACTION, Resource::new("user", user)).await.unwrap_or(false))
}

/// Begins to act as a person of the caller's tenant, in a session of its own.
pub(super) async fn begin(
    app: &App,
    caller: &Caller,
    user: UserId,
    reason: &str,
    client: &Client,
) -> Result<(Me, HeaderValue), Error> {
    let permit = authority::require(app, caller, ACTION, Resource::new("user", user)).await?;
    if caller.impersonator.is_some() {
        return Err(Error::Impersonating);
    }
    let reason = reason.trim();
    if !(1..=REASON_CHARS_MAX).contains(&reason.chars().count()) {
        return Err(Error::Invalid("reason", format!("expected 1 to {REASON_CHARS_MAX} characters")));
    }
    let person = users::member(app, caller.tenant, user).await?;
    if user == caller.user || person.kind != users::Kind::Person {
        return Err(Error::Invalid("id", "expected another person".into()));
    }
    let theirs = permissions::rights_of(app.database.read(), caller.tenant, user).await?;
    if !permissions::may_give(app, caller, &theirs).await? {
        return Err(Error::MoreThanOwn);
    }
    let mut opening = sessions::prepare(app, user, caller.tenant, How::Impersonation, client);
    opening.impersonated_by(caller.user, sessions::of(caller).ok(), LIFETIME_MS);
    let (id, cookie) = (opening.id(), opening.cookie());
    let entry = permit.entry(json!({ "reason": reason, "session": id }));
    app.database
        .write(move |tx| {
            Box::pin(async move {
                audit::add(tx, &entry).await?;
                sessions::open_in(tx, &opening).await
            })
        })
        .await
        .map_err(Error::Store)?;
    let there = authenticate::of_session(app, id, user, caller.tenant, Some(caller.user)).await?;
    Ok((me::of(app, &there).await?, cookie))
}

/// Stops it. The cookie is that of the session from which it was begun, if that one is still there; else of none.
pub(super) async fn end(app: &App, caller: Caller, client: &Client) -> Result<HeaderValue, Error> {
    if caller.impersonator.is_none() {
        return Err(Error::Conflict("not_impersonating", "You act as yourself."));
    }
    let session = sessions::of(&caller)?;
    let before = session_rows::begun_from(app.database.read(), session).await?;
    // Only the HMAC of that session's token is known, so it gets another token.
    let token = secrets::random_token();
    let hash = sessions::hash_of(&app.config, token.expose_secret());
    let on = Resource::new("user", caller.user);
    let entry = events::done(&caller, events::IMPERSONATION_ENDED, "own", on, json!({ "session": session }));
    let returned = app
        .database
        .write(move |tx| {
            Box::pin(async move {
                session_rows::delete(tx, session).await?;
                let returned = match before {
                    Some(before) => session_rows::set_hash(tx, before, &hash).await?,
                    None => 0,
                };
                audit::add(tx, &entry).await?;
                Ok::<_, StoreError>(returned == 1)
            })
        })
        .await
        .map_err(Error::Store)?;
    app.sessions.forget_all();
    let max_age_s = app.config.sign_in.session_max_ms / 1000;
    Ok(match returned {
        true => authenticate::session_cookie(token.expose_secret(), max_age_s, client),
        false => authenticate::clear_cookie(client),
    })
}
