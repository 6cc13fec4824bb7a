//! One-time links: to a first password, in place of a forgotten one, and into a tenant.
//!
//! A link's token stands in its fragment, which no browser sends and no log sees. Only the token's HMAC is stored; it is
//! used once, and within its time.

mod api;

use std::str::FromStr;

use axum::http::HeaderValue;
use contracts::{LinkId, TenantId, UserId, policy::Resource};
use platform::{
    config::Config,
    database::{Database, Error as StoreError},
    durable::unix_ms,
    http::Timestamp,
    secrets,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

pub(super) use api::routes;

use self::api::LinkInfo;
use super::{
    Error, attempts,
    authenticate::Client,
    events,
    me::{self, Me},
    passwords, sessions,
    sessions::How,
    sign_in::{self, Shown},
    store::{attempts as attempt_rows, links as store, sessions as session_rows, users as user_rows},
    totp, users,
    users::Kind,
};
use crate::{App, audit, authority, permissions, tenants};

const RESET_MS: i64 = 60 * 60 * 1000;
const OTHERS_MS: i64 = 72 * 60 * 60 * 1000;
/// Longest token that is looked at.
const TOKEN_CHARS_MAX: usize = 128;
const EXISTS: Error = Error::Conflict(
    "account_exists",
    "There is an account with this address and without a password: sign in to it the usual way.",
);

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// A first password, for somebody who is known.
    Setup,
    /// Into a tenant, for somebody who may not be known yet.
    Invitation,
    /// Another password.
    Reset,
}

impl Purpose {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Invitation => "invitation",
            Self::Reset => "reset",
        }
    }
}

impl FromStr for Purpose {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Setup, Self::Invitation, Self::Reset]
            .into_iter()
            .find(|purpose| purpose.as_str() == text)
            .ok_or_else(|| format!("no purpose of a link: {text}"))
    }
}

/// A new link, to be given to one person. Worth nothing before its row is stored.
pub struct NewLink {
    pub(super) row: store::Link,
    pub(super) hash: String,
    /// The whole address. It signs somebody in: it is shown or mailed once, and never logged.
    pub link: SecretString,
}

impl std::fmt::Debug for NewLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewLink").finish_non_exhaustive()
    }
}

/// For whom a link is, and from whom.
pub(super) struct For {
    pub purpose: Purpose,
    pub email: String,
    pub tenant: TenantId,
    pub user: Option<UserId>,
    pub roles: Vec<String>,
    pub created_by: Option<UserId>,
}

fn hash_of(config: &Config, token: &str) -> String {
    config.keys.mac("link", token)
}

pub(super) fn prepare(config: &Config, new: For) -> NewLink {
    let token = secrets::random_token();
    let base = config.sign_in.public_url.as_str().trim_end_matches('/');
    let now = unix_ms();
    let lifetime_ms = if new.purpose == Purpose::Reset { RESET_MS } else { OTHERS_MS };
    NewLink {
        hash: hash_of(config, token.expose_secret()),
        link: SecretString::from(format!("{base}/link#{}", token.expose_secret())),
        row: store::Link {
            id: LinkId::new(),
            purpose: new.purpose,
            email: new.email,
            tenant: new.tenant,
            user: new.user,
            roles: new.roles,
            created_by: new.created_by,
            mailed: false,
            created_at: now,
            expires_at: now + lifetime_ms,
        },
    }
}

/// A link to a password for a user, in place of those that the user has: the first, or another.
pub(super) fn to_password(
    config: &Config,
    user: &user_rows::User,
    tenant: TenantId,
    by: Option<UserId>,
) -> NewLink {
    let purpose = if user.password_hash.is_some() { Purpose::Reset } else { Purpose::Setup };
    let new = For {
        purpose,
        email: user.email.clone(),
        tenant,
        user: Some(user.id),
        roles: Vec::new(),
        created_by: by,
    };
    prepare(config, new)
}

/// Makes a link for a user, asking nobody: an operator's act. `None` if only a first password is wanted and there is one.
pub async fn issue_link_for_email(
    config: &Config,
    database: &Database,
    email: &str,
    only_first: bool,
) -> Result<Option<NewLink>, Error> {
    let email = users::checked_email(email)?;
    let user = user_rows::by_email(database.read(), &email).await?;
    let user = user.filter(|user| user.kind == Kind::Person).ok_or(Error::NoSuchUser)?;
    if only_first && user.password_hash.is_some() {
        return Ok(None);
    }
    let home = users::home(database.read(), user.id, user.last_tenant).await?;
    let new = to_password(config, &user, home.ok_or(Error::NoSuchUser)?, None);
    let who = events::at_the_door(new.row.tenant, user.id);
    let details = json!({ "purpose": new.row.purpose.as_str(), "id": new.row.id });
    let entry = events::done(&who, events::LINK_MADE, "operator", Resource::new("user", user.id), details);
    database
        .write(move |tx| {
            Box::pin(async move {
                store::delete_of_user(tx, user.id).await?;
                store::insert(tx, &new.row, &new.hash).await?;
                audit::add(tx, &entry).await?;
                Ok::<_, StoreError>(Some(new))
            })
        })
        .await
        .map_err(Error::Store)
}

async fn open(app: &App, token: &str) -> Result<store::Link, Error> {
    if token.len() > TOKEN_CHARS_MAX {
        return Err(Error::LinkEnded);
    }
    let hash = hash_of(&app.config, token);
    let link = store::open(app.database.read(), &hash, unix_ms()).await?.ok_or(Error::LinkEnded)?;
    if stands(app, &link).await? { Ok(link) } else { Err(Error::LinkEnded) }
}

/// Whether whoever made a link could still make it: it does not outlive their rights.
async fn stands(app: &App, link: &store::Link) -> Result<bool, Error> {
    let Some(maker) = link.created_by else { return Ok(true) };
    let connection = app.database.read();
    if !user_rows::is_member(connection, link.tenant, maker).await? {
        return Ok(false);
    }
    let maker = users::by_their_rights(connection, link.tenant, maker).await?;
    let (action, on) = match link.purpose {
        Purpose::Invitation => ("user:create", "invitation"),
        Purpose::Setup | Purpose::Reset => ("user:reset_password", "user"),
    };
    let brings = permissions::Rights { roles: link.roles.clone(), grants: Vec::new() };
    Ok(authority::may(app, &maker, action, Resource::any(on)).await?
        && permissions::may_give(app, &maker, &brings).await?)
}

/// What a link is for, to show before it is used.
async fn inspect(app: &App, token: &str) -> Result<LinkInfo, Error> {
    let link = open(app, token).await?;
    let tenant = tenants::name_of(app.database.read(), link.tenant).await?.ok_or(Error::LinkEnded)?;
    let known = user_rows::by_email(app.database.read(), &link.email).await?;
    let known = known.filter(|_| link.purpose == Purpose::Invitation);
    Ok(LinkInfo {
        purpose: link.purpose,
        has_password: known.is_some_and(|user| user.password_hash.is_some()),
        email: link.email,
        tenant: tenant.name,
        expires_at: Timestamp(link.expires_at),
    })
}

/// What somebody gives with a link.
struct Redeeming {
    token: SecretString,
    password: SecretString,
    name: Option<String>,
    code: Option<String>,
}

/// Uses a link up and signs its person in.
async fn redeem(app: &App, given: Redeeming, client: &Client) -> Result<(Me, HeaderValue), Error> {
    app.addresses.count(client.ip)?;
    passwords::checked("password", &given.password)?;
    let name = given.name.as_deref().map(users::checked_name).transpose()?;
    let link = open(app, given.token.expose_secret()).await?;
    let known = match link.user {
        Some(user) => Some(user_rows::by_id(app.database.read(), user).await?.ok_or(Error::LinkEnded)?),
        None => user_rows::by_email(app.database.read(), &link.email).await?,
    };
    let hash = match &known {
        Some(user) if link.purpose == Purpose::Invitation => joins(app, user, &link, &given, client).await?,
        _ => {
            passwords::checked_new("password", &given.password, &link.email)?;
            if let Some(user) = &known {
                has_code(app, user, given.code.as_deref(), client).await?;
            }
            Some(app.passwords.hash(given.password).await?)
        }
    };
    let is_new = known.is_none();
    let user = known.map_or_else(UserId::new, |user| user.id);
    let opening = sessions::prepare(app, user, link.tenant, How::Link, client);
    let id = opening.id();
    let tenant = link.tenant;
    let cookie = opening.cookie();
    let account = attempts::account(&app.config, &link.email);
    app.database
        .write(move |tx| {
            Box::pin(async move {
                if store::use_up(tx, link.id, unix_ms()).await? == 0 {
                    return Err(Error::LinkEnded);
                }
                if link.purpose == Purpose::Invitation {
                    let made = user_rows::insert(tx, user, &link.email, "", Kind::Person, unix_ms()).await?;
                    if is_new && made == 0 {
                        return Err(EXISTS);
                    }
                    users::join(tx, tenant, user, &link.roles).await?;
                }
                if link.mailed || link.created_by.is_none() {
                    user_rows::set_proven(tx, user, unix_ms()).await?;
                }
                if let Some(name) = &name {
                    user_rows::set_name(tx, user, name).await?;
                }
                if let Some(hash) = &hash {
                    user_rows::set_password(tx, user, hash.expose_secret()).await?;
                    // Whoever knew the old password, or has an older link, is out.
                    session_rows::delete_of_user(tx, user).await?;
                    store::delete_of_user(tx, user).await?;
                    attempt_rows::delete(tx, &account).await?;
                }
                let who = events::at_the_door(tenant, user);
                let details = json!({ "purpose": link.purpose.as_str(), "id": link.id, "roles": link.roles });
                let on = Resource::new("user", user);
                audit::add(tx, &events::done(&who, events::LINK_REDEEMED, "link", on, details)).await?;
                Ok(sessions::open_in(tx, &opening).await?)
            })
        })
        .await?;
    app.sessions.forget_all();
    let caller = super::authenticate::of_session(app, id, user, tenant, None).await?;
    Ok((me::of(app, &caller).await?, cookie))
}

/// Somebody who is known takes an invitation: with the password that they have. Their invitation sets none, for whoever
/// invites may be another tenant's administrator.
async fn joins(
    app: &App,
    user: &user_rows::User,
    link: &store::Link,
    given: &Redeeming,
    client: &Client,
) -> Result<Option<SecretString>, Error> {
    if user.password_hash.is_some() {
        let (password, code) = (given.password.clone(), given.code.clone());
        sign_in::prove(app, Shown { email: link.email.clone(), password, code }, client).await?;
        return Ok(None);
    }
    let elsewhere = !user_rows::tenants_of(app.database.read(), user.id).await?.is_empty();
    let on_platform = permissions::rights_of(app.database.read(), link.tenant, user.id).await?
        != permissions::Rights::default();
    if elsewhere || on_platform || user.kind != Kind::Person {
        return Err(EXISTS);
    }
    passwords::checked_new("password", &given.password, &link.email)?;
    Ok(Some(app.passwords.hash(given.password.clone()).await?))
}

/// A link takes the place of a password, not of an authenticator's code.
async fn has_code(
    app: &App,
    user: &user_rows::User,
    code: Option<&str>,
    client: &Client,
) -> Result<(), Error> {
    if !user.totp {
        return Ok(());
    }
    let code = code.filter(|code| !code.is_empty()).ok_or(Error::TotpRequired)?;
    let attempt = attempts::begin(app, &user.email).await?;
    if totp::use_code(app, user.id, code).await? {
        return attempt.succeeded(app).await;
    }
    attempt.failed(app, Some(user), "bad_code", client);
    Err(Error::BadCode)
}
