//! API keys: making, listing, revoking. A key is one user in one tenant, and only its HMAC is stored.

mod api;

use contracts::{ApiKeyId, Caller, TenantId, UserId, policy::Resource};
use platform::{
    config::Config,
    database::Database,
    durable::unix_ms,
    http::{Page, PageRequest, Timestamp},
    secrets,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

pub(super) use api::{ApiKey, routes};

use self::api::CreateApiKey;
use super::{
    Error,
    store::{keys as store, users as user_rows},
    users,
};
use crate::{App, audit, authority, permissions, tenants};

/// What every key begins with, so that a leaked one is recognised.
const KEY_MARK: &str = "soma_";
/// Characters of a key that are stored in clear, to tell keys apart.
const PREFIX_CHARS: usize = 8;
/// Longest accepted key; a longer one is not even hashed.
const KEY_CHARS_MAX: usize = 128;
/// `last_used_at` is written at most this often for a key.
const USE_NOTED_EVERY_MS: i64 = 60_000;
/// Longest time for which a key works beside the one that takes its place.
const OVERLAP_S_MAX: u32 = 30 * 24 * 60 * 60;

/// What a new key may do and for how long.
#[derive(Debug, Clone, Default)]
pub struct NewKey {
    pub name: String,
    /// Empty stands for `*`: all that the user's roles allow.
    pub scopes: Vec<String>,
    /// Seconds; `None` is without end.
    pub lifetime_s: Option<u64>,
}

pub(super) fn looks_like_a_key(key: &str) -> bool {
    key.starts_with(KEY_MARK) && key.len() <= KEY_CHARS_MAX
}

pub(super) fn hash_of(config: &Config, key: &str) -> String {
    config.keys.mac("api_key", key)
}

/// Makes a key in the default tenant: an operator's act at the command line.
pub async fn create_key_for_email(
    config: &Config,
    database: &Database,
    email: &str,
    new: NewKey,
) -> Result<SecretString, Error> {
    let tenant = tenants::default_tenant(database).await?;
    let email = users::checked_email(email)?;
    let user = user_rows::by_email(database.read(), &email).await?.ok_or(Error::NoSuchUser)?;
    issue_key(config, database, tenant, user.id, new).await
}

/// Makes a key of a user in any tenant, asking nobody: an operator's act.
pub async fn issue_key(
    config: &Config,
    database: &Database,
    tenant: TenantId,
    user: UserId,
    new: NewKey,
) -> Result<SecretString, Error> {
    let (key, row) = make_key(config, tenant, user, &new)?;
    database.write(move |tx| Box::pin(async move { store::insert_key(tx, &row).await })).await?;
    Ok(key)
}

fn make_key(
    config: &Config,
    tenant: TenantId,
    user: UserId,
    new: &NewKey,
) -> Result<(SecretString, store::NewKeyRow), Error> {
    let token = secrets::random_token();
    let prefix: String = token.expose_secret().chars().take(PREFIX_CHARS).collect();
    let key = SecretString::from(format!("{KEY_MARK}{}", token.expose_secret()));
    let now = unix_ms();
    let lifetime_ms =
        new.lifetime_s.map(|seconds| i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX));
    let scopes = if new.scopes.is_empty() { vec!["*".to_owned()] } else { new.scopes.clone() };
    let row = store::NewKeyRow {
        id: ApiKeyId::new(),
        tenant,
        user,
        name: new.name.clone(),
        prefix,
        hash: hash_of(config, key.expose_secret()),
        scopes,
        created_at: now,
        expires_at: lifetime_ms.map(|lifetime| now.saturating_add(lifetime)),
    };
    Ok((key, row))
}

/// Notes, now and then and beside the request, that a key was used.
pub(super) fn note_use(app: &App, key: ApiKeyId, user: UserId, last_used_at: Option<i64>, now: i64) {
    if last_used_at.is_some_and(|at| now - at < USE_NOTED_EVERY_MS) {
        return;
    }
    let database = app.database.clone();
    tokio::spawn(async move {
        let noted = database
            .write(move |tx| {
                Box::pin(async move {
                    store::touch_key(tx, key, now).await?;
                    user_rows::set_seen(tx, user, now).await
                })
            })
            .await;
        if let Err(error) = noted {
            tracing::warn!(%error, "the use of an API key was not noted");
        }
    });
}

pub(super) async fn list_keys(app: &App, caller: &Caller, page: &PageRequest) -> Result<Page<ApiKey>, Error> {
    authority::require(app, caller, "apikey:read", Resource::any("apikey")).await?;
    let rows = store::keys(app.database.read(), caller.tenant, page).await?;
    Ok(page.page(rows, |key| key.id.to_string()))
}

/// As a new key is shown, beside its secret.
fn shown(row: &store::NewKeyRow) -> ApiKey {
    ApiKey {
        id: row.id,
        user_id: row.user,
        name: row.name.clone(),
        prefix: row.prefix.clone(),
        scopes: row.scopes.clone(),
        created_at: Timestamp(row.created_at),
        expires_at: row.expires_at.map(Timestamp),
        last_used_at: None,
        revoked_at: None,
        replaced_by: None,
    }
}

/// A key does no more than the credential that makes it.
fn within(caller: &Caller, scopes: &[String]) -> Result<(), Error> {
    let all = caller.scopes.iter().any(|scope| scope == "*");
    if all || scopes.iter().all(|scope| caller.scopes.contains(scope)) {
        return Ok(());
    }
    Err(Error::Invalid("scopes", "a key can't be given more than the key that makes it has".into()))
}

/// Whether the caller may have a key of a user: their own, or of a service account that can do no more than they could
/// give.
async fn may_hold(app: &App, caller: &Caller, user: UserId) -> Result<bool, Error> {
    if user == caller.user {
        return Ok(true);
    }
    let connection = app.database.read();
    let account = match users::member(app, caller.tenant, user).await {
        Err(Error::NotFound) => return Ok(false),
        found => found?,
    };
    let rights = permissions::rights_of(connection, caller.tenant, user).await?;
    Ok(account.kind == users::Kind::Service && permissions::may_give(app, caller, &rights).await?)
}

pub(super) async fn create_key(
    app: &App,
    caller: &Caller,
    new: CreateApiKey,
) -> Result<(ApiKey, SecretString), Error> {
    let permit = authority::require(app, caller, "apikey:create", Resource::any("apikey")).await?;
    by_themselves(caller)?;
    let scopes = if new.scopes.is_empty() { caller.scopes.clone() } else { new.scopes };
    within(caller, &scopes)?;
    let user = new.user_id.unwrap_or(caller.user);
    if !may_hold(app, caller, user).await? {
        return Err(Error::Invalid(
            "user_id",
            "expected yourself, or a service account whose roles you could give".into(),
        ));
    }
    let new = NewKey { name: new.name, scopes, lifetime_s: new.lifetime_s };
    let (key, mut row) = make_key(&app.config, caller.tenant, user, &new)?;
    row.expires_at = [row.expires_at, caller.expires_at].into_iter().flatten().min();
    let shown = shown(&row);
    let entry =
        permit.entry(json!({ "id": row.id, "name": row.name, "scopes": row.scopes, "user_id": user }));
    app.database
        .write(move |tx| {
            Box::pin(async move {
                store::insert_key(tx, &row).await?;
                audit::add(tx, &entry).await
            })
        })
        .await
        .map_err(Error::Store)?;
    Ok((shown, key))
}

/// A key would outlive the hour in which somebody acts as its user.
fn by_themselves(caller: &Caller) -> Result<(), Error> {
    if caller.impersonator.is_some() { Err(Error::Impersonating) } else { Ok(()) }
}

/// Makes a key in place of another, which works for a while longer. The new one lasts as long as the old one did.
pub(super) async fn rotate_key(
    app: &App,
    caller: &Caller,
    id: ApiKeyId,
    overlap_s: u32,
) -> Result<(ApiKey, SecretString), Error> {
    let permit = authority::require(app, caller, "apikey:rotate", Resource::new("apikey", id)).await?;
    by_themselves(caller)?;
    if overlap_s > OVERLAP_S_MAX {
        return Err(Error::Invalid("overlap_s", format!("expected at most {OVERLAP_S_MAX}")));
    }
    let now = unix_ms();
    let old = store::good_key(app.database.read(), caller.tenant, id, now).await?.ok_or(Error::NotFound)?;
    if !may_hold(app, caller, old.user_id).await? {
        return Err(Error::NotOwn);
    }
    within(caller, &old.scopes)?;
    let new = NewKey { name: old.name.clone(), scopes: old.scopes.clone(), lifetime_s: None };
    let (key, mut row) = make_key(&app.config, caller.tenant, old.user_id, &new)?;
    let lasting = old.expires_at.map(|end| now.saturating_add(end.0 - old.created_at.0));
    row.expires_at = [lasting, caller.expires_at].into_iter().flatten().min();
    let end = now + i64::from(overlap_s) * 1000;
    let old_end = old.expires_at.map_or(end, |expires_at| end.min(expires_at.0));
    let shown = shown(&row);
    let entry = permit.entry(json!({ "replaced_by": row.id, "old_ends_at": Timestamp(old_end) }));
    app.database
        .write(move |tx| {
            Box::pin(async move {
                if store::replace_key(tx, id, row.id, old_end).await? == 0 {
                    return Err(Error::Conflict(
                        "replaced",
                        "This key was replaced before: rotate the new one.",
                    ));
                }
                store::insert_key(tx, &row).await?;
                Ok(audit::add(tx, &entry).await?)
            })
        })
        .await?;
    app.sessions.forget_all();
    Ok((shown, key))
}

pub(super) async fn revoke_key(app: &App, caller: &Caller, id: ApiKeyId) -> Result<(), Error> {
    let permit = authority::require(app, caller, "apikey:revoke", Resource::new("apikey", id)).await?;
    let tenant = caller.tenant;
    let entry = permit.entry(serde_json::Value::Null);
    app.database
        .write(move |tx| {
            Box::pin(async move {
                if store::revoke_key(tx, tenant, id, unix_ms()).await? == 0 {
                    return Err(Error::NotFound);
                }
                Ok(audit::add(tx, &entry).await?)
            })
        })
        .await?;
    app.sessions.forget_all();
    Ok(())
}
