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
use crate::{App, audit, authority, tenants};

/// What every key begins with, so that a leaked one is recognised.
const KEY_MARK: &str = "soma_";
/// Characters of a key that are stored in clear, to tell keys apart.
const PREFIX_CHARS: usize = 8;
/// Longest accepted key; a longer one is not even hashed.
const KEY_CHARS_MAX: usize = 128;
/// `last_used_at` is written at most this often for a key.
const USE_NOTED_EVERY_MS: i64 = 60_000;
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

pub(super) async fn create_key(
    app: &App,
    caller: &Caller,
    new: CreateApiKey,
) -> Result<(ApiKey, SecretString), Error> {
    let permit = authority::require(app, caller, "apikey:create", Resource::any("apikey")).await?;
    let all = caller.scopes.iter().any(|scope| scope == "*");
    let scopes = if new.scopes.is_empty() { caller.scopes.clone() } else { new.scopes };
    if !all && !scopes.iter().all(|scope| caller.scopes.contains(scope)) {
        return Err(Error::Invalid(
            "scopes",
            "a key can't be given more than the key that makes it has".into(),
        ));
    }
    let new = NewKey { name: new.name, scopes, lifetime_s: new.lifetime_s };
    let (key, mut row) = make_key(&app.config, caller.tenant, caller.user, &new)?;
    row.expires_at = [row.expires_at, caller.expires_at].into_iter().flatten().min();
    let shown = ApiKey {
        id: row.id,
        user_id: caller.user,
        name: row.name.clone(),
        prefix: row.prefix.clone(),
        scopes: row.scopes.clone(),
        created_at: Timestamp(row.created_at),
        expires_at: row.expires_at.map(Timestamp),
        last_used_at: None,
        revoked_at: None,
    };
    let entry = permit.entry(json!({ "id": row.id, "name": row.name, "scopes": row.scopes }));
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
