//! The users of a tenant, for its administrators: who is there, and what can be done about them.
//!
//! An account belongs to its person, not to a tenant. What would put it into other hands (a link to a password, the end of
//! its authenticator) is done by an administrator of the one tenant that it belongs to, who could give all that the
//! person holds there, or by the platform's.

use contracts::{Caller, UserId, policy::Resource};
use platform::{
    database::Error as StoreError,
    durable::unix_ms,
    http::{Page, PageRequest, Timestamp},
};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::json;

use super::{
    super::{
        Error, attempts, events, links, mail,
        sessions::{self, SessionInfo},
        store::{attempts as attempt_rows, keys as key_rows, links as link_rows, sessions as session_rows},
        totp,
    },
    Kind, checked_name, join, member, store,
};
use crate::{App, audit, authority, permissions};

/// Somebody, or some program, of the tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct User {
    pub id: UserId,
    pub email: String,
    pub name: String,
    pub kind: Kind,
    /// Roles held in this tenant, and the platform's.
    pub roles: Vec<String>,
    pub created_at: Timestamp,
    pub last_seen_at: Option<Timestamp>,
    /// Whether too many failures keep them from signing in for now.
    pub locked: bool,
    /// Whether signing in takes a code of an authenticator.
    pub totp: bool,
}

/// A link to a password. Where this install sends mail it went to the user, and is not shown.
#[derive(Serialize, utoipa::ToSchema)]
pub struct PasswordLink {
    pub link: Option<String>,
    pub expires_at: Timestamp,
}

pub(super) async fn list(app: &App, caller: &Caller, page: &PageRequest) -> Result<Page<User>, Error> {
    authority::require(app, caller, "user:read", Resource::any("user")).await?;
    let rows = store::members(app.database.read(), caller.tenant, page).await?;
    let page = page.page(rows, |member| member.id.to_string());
    let mut items = Vec::with_capacity(page.items.len());
    for member in page.items {
        items.push(shown(app, caller, member).await?);
    }
    Ok(Page { items, next_cursor: page.next_cursor })
}

pub(super) async fn find(app: &App, caller: &Caller, id: UserId) -> Result<User, Error> {
    authority::require(app, caller, "user:read", Resource::new("user", id)).await?;
    let found = store::member(app.database.read(), caller.tenant, id).await?.ok_or(Error::NotFound)?;
    shown(app, caller, found).await
}

async fn shown(app: &App, caller: &Caller, member: store::Member) -> Result<User, Error> {
    let account = attempts::account(&app.config, &member.email);
    let attempts = attempt_rows::find(app.database.read(), &account).await?;
    let locked = attempts.and_then(|attempts| attempts.locked_until).is_some_and(|until| until > unix_ms());
    Ok(User {
        roles: permissions::rights_of(app.database.read(), caller.tenant, member.id).await?.roles,
        id: member.id,
        email: member.email,
        name: member.name,
        kind: member.kind,
        created_at: Timestamp(member.created_at),
        last_seen_at: member.last_seen_at.map(Timestamp),
        locked,
        totp: member.totp,
    })
}

/// Takes a user out of the tenant: their roles, keys, sessions and links there end at once.
pub(super) async fn remove(app: &App, caller: &Caller, id: UserId) -> Result<(), Error> {
    let permit = authority::require(app, caller, "user:delete", Resource::new("user", id)).await?;
    if id == caller.user {
        return Err(Error::Conflict("yourself", "Nobody removes themselves: another administrator does."));
    }
    let user = member(app, caller.tenant, id).await?;
    let (tenant, entry) = (caller.tenant, permit.entry(json!({ "email": user.email })));
    app.database
        .write(move |tx| {
            Box::pin(async move {
                if store::delete_member(tx, tenant, id).await? == 0 {
                    return Err(Error::NotFound);
                }
                if permissions::forget_in(tx, tenant, id).await? == permissions::Leaving::LastOwner {
                    return Err(Error::Conflict(
                        "last_owner",
                        "A tenant keeps its last administrator: make somebody else one first.",
                    ));
                }
                key_rows::revoke_all_of(tx, tenant, id, unix_ms()).await?;
                session_rows::delete_in_tenant(tx, id, tenant).await?;
                link_rows::delete_in_tenant(tx, id, tenant).await?;
                Ok(audit::add(tx, &entry).await?)
            })
        })
        .await?;
    app.sessions.forget_all();
    Ok(())
}

/// Whether the caller may put an account into other hands.
async fn may_hand_over(app: &App, caller: &Caller, user: &store::User) -> Result<(), Error> {
    let connection = app.database.read();
    let tenants = store::tenants_of(connection, user.id).await?;
    let elsewhere = tenants.iter().any(|tenant| *tenant != caller.tenant);
    let rights = permissions::rights_of(connection, caller.tenant, user.id).await?;
    // Else who may help others with their passwords could become any of them.
    let beyond = !permissions::may_give(app, caller, &rights).await?;
    if elsewhere || beyond || permissions::is_platforms(connection, user.id).await? {
        authority::require(app, caller, "tenant:manage_users", Resource::new("user", user.id)).await?;
    }
    Ok(())
}

/// Makes a link by which a user sets a password: their first, or another.
pub(super) async fn reset_link(app: &App, caller: &Caller, id: UserId) -> Result<PasswordLink, Error> {
    let permit = authority::require(app, caller, "user:reset_password", Resource::new("user", id)).await?;
    let user = member(app, caller.tenant, id).await?;
    if user.kind != Kind::Person {
        return Err(Error::Conflict("service_account", "A service account has keys and no password."));
    }
    may_hand_over(app, caller, &user).await?;
    let new = links::to_password(&app.config, &user, caller.tenant, Some(caller.user));
    let entry = permit.entry(json!({ "link": new.row.id, "purpose": new.row.purpose.as_str() }));
    let new = app
        .database
        .write(move |tx| {
            Box::pin(async move {
                link_rows::delete_of_user(tx, id).await?;
                link_rows::insert(tx, &new.row, &new.hash).await?;
                audit::add(tx, &entry).await?;
                Ok::<_, StoreError>(new)
            })
        })
        .await
        .map_err(Error::Store)?;
    let mailed = mail::password_link(app, &new).await;
    let link = (!mailed).then(|| new.link.expose_secret().to_owned());
    Ok(PasswordLink { link, expires_at: Timestamp(new.row.expires_at) })
}

/// Lets a locked user try again.
pub(super) async fn unlock(app: &App, caller: &Caller, id: UserId) -> Result<(), Error> {
    let permit = authority::require(app, caller, "user:update", Resource::new("user", id)).await?;
    let user = member(app, caller.tenant, id).await?;
    let account = attempts::account(&app.config, &user.email);
    let entry = permit.entry(json!({ "unlocked": true }));
    app.database
        .write(move |tx| {
            Box::pin(async move {
                attempt_rows::delete(tx, &account).await?;
                audit::add(tx, &entry).await
            })
        })
        .await
        .map_err(Error::Store)
}

/// Takes away a user's authenticator, for when it and the backup codes are lost.
pub(super) async fn remove_totp(app: &App, caller: &Caller, id: UserId) -> Result<(), Error> {
    let permit = authority::require(app, caller, "user:manage_mfa", Resource::new("user", id)).await?;
    let user = member(app, caller.tenant, id).await?;
    may_hand_over(app, caller, &user).await?;
    if !user.totp {
        return Err(Error::NotFound);
    }
    totp::remove(app, id, permit.entry(json!({ "event": events::TOTP_OFF }))).await
}

/// A user's sessions in this tenant.
pub(super) async fn sessions_of(
    app: &App,
    caller: &Caller,
    id: UserId,
    page: &PageRequest,
) -> Result<Page<SessionInfo>, Error> {
    authority::require(app, caller, "user:view_activity", Resource::new("user", id)).await?;
    member(app, caller.tenant, id).await?;
    sessions::list(app, caller, id, Some(caller.tenant), page).await
}

/// Ends a user's sessions in this tenant.
pub(super) async fn end_sessions(app: &App, caller: &Caller, id: UserId) -> Result<(), Error> {
    let permit = authority::require(app, caller, "user:update", Resource::new("user", id)).await?;
    member(app, caller.tenant, id).await?;
    let tenant = caller.tenant;
    app.database
        .write(move |tx| {
            Box::pin(async move {
                let ended = session_rows::delete_in_tenant(tx, id, tenant).await?;
                audit::add(tx, &permit.entry(json!({ "sessions_ended": ended }))).await
            })
        })
        .await
        .map_err(Error::Store)?;
    app.sessions.forget_all();
    Ok(())
}

/// Makes a service account: a user that never signs in. Its keys are made with `POST /api/v2/api-keys`.
pub(super) async fn create_service_account(
    app: &App,
    caller: &Caller,
    name: &str,
    roles: &[String],
) -> Result<User, Error> {
    let permit = authority::require(app, caller, "user:create", Resource::any("user")).await?;
    let name = checked_name(name)?;
    if name.is_empty() {
        return Err(Error::Invalid("name", "expected a name".into()));
    }
    let roles = permissions::giveable(app, caller, roles).await.map_err(not_given)?;
    let (id, tenant) = (UserId::new(), caller.tenant);
    // RFC 2606: no mail goes there, and nobody has it.
    let email = format!("{id}@service.invalid");
    let entry = permit.entry(json!({ "id": id, "kind": "service", "name": name, "roles": roles }));
    app.database
        .write(move |tx| {
            Box::pin(async move {
                store::insert(tx, id, &email, &name, Kind::Service, unix_ms()).await?;
                join(tx, tenant, id, &roles).await?;
                audit::add(tx, &entry).await
            })
        })
        .await
        .map_err(Error::Store)?;
    let made = store::member(app.database.read(), tenant, id).await?.ok_or(Error::NotFound)?;
    shown(app, caller, made).await
}

/// Why roles can't be given, as a fault of the request.
pub(in crate::identity) fn not_given(error: permissions::NotGiveable) -> Error {
    match error {
        permissions::NotGiveable::Denied(denied) => Error::Denied(denied),
        permissions::NotGiveable::Refused(problem) => Error::Invalid("roles", problem.to_owned()),
    }
}
