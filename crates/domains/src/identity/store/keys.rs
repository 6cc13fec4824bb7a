//! API keys.

use contracts::{ApiKeyId, TenantId, UserId};
use platform::{
    database::{Error, Row, Sql, Tx},
    http::{PageRequest, Timestamp},
    params,
};

use crate::identity::keys::ApiKey;

pub(in crate::identity) struct NewKeyRow {
    pub id: ApiKeyId,
    pub tenant: TenantId,
    pub user: UserId,
    pub name: String,
    pub prefix: String,
    pub hash: String,
    pub scopes: Vec<String>,
    pub created_at: i64,
    pub expires_at: Option<i64>,
}

pub(in crate::identity) struct ValidKey {
    pub id: ApiKeyId,
    pub tenant: TenantId,
    pub user: UserId,
    pub scopes: Vec<String>,
    pub last_used_at: Option<i64>,
    pub expires_at: Option<i64>,
}

pub(in crate::identity) async fn insert_key(tx: &Tx, key: &NewKeyRow) -> Result<(), Error> {
    let scopes = serde_json::to_string(&key.scopes).map_err(|error| Error::Corrupt(error.to_string()))?;
    tx.run(
        "INSERT INTO api_keys (id, tenant_id, user_id, name, prefix, hash, scopes, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        params![
            key.id,
            key.tenant,
            key.user,
            key.name.as_str(),
            key.prefix.as_str(),
            key.hash.as_str(),
            scopes,
            key.created_at,
            key.expires_at
        ],
    )
    .await?;
    Ok(())
}

/// The key with this hash, unless it is revoked, past its time, or its user has left the tenant.
pub(in crate::identity) async fn valid_key(
    connection: &impl Sql,
    hash: &str,
    now: i64,
) -> Result<Option<ValidKey>, Error> {
    let row = connection
        .one(
            "SELECT k.id, k.tenant_id, k.user_id, k.scopes, k.last_used_at, k.expires_at FROM api_keys k
             JOIN memberships m ON m.tenant_id = k.tenant_id AND m.user_id = k.user_id
             WHERE k.hash = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $2)",
            params![hash, now],
        )
        .await?;
    row.map(|row| {
        Ok(ValidKey {
            id: row.parse("id")?,
            tenant: row.parse("tenant_id")?,
            user: row.parse("user_id")?,
            scopes: row.json("scopes")?,
            last_used_at: row.int_opt("last_used_at")?,
            expires_at: row.int_opt("expires_at")?,
        })
    })
    .transpose()
}

pub(in crate::identity) async fn touch_key(tx: &Tx, key: ApiKeyId, now: i64) -> Result<(), Error> {
    tx.run("UPDATE api_keys SET last_used_at = $1 WHERE id = $2", params![now, key]).await?;
    Ok(())
}

fn key(row: &Row) -> Result<ApiKey, Error> {
    Ok(ApiKey {
        id: row.parse("id")?,
        user_id: row.parse("user_id")?,
        name: row.text("name")?,
        prefix: row.text("prefix")?,
        scopes: row.json("scopes")?,
        created_at: Timestamp(row.int("created_at")?),
        expires_at: row.int_opt("expires_at")?.map(Timestamp),
        last_used_at: row.int_opt("last_used_at")?.map(Timestamp),
        revoked_at: row.int_opt("revoked_at")?.map(Timestamp),
        replaced_by: row.parse_opt("replaced_by")?,
    })
}

pub(in crate::identity) async fn keys(
    connection: &impl Sql,
    tenant: TenantId,
    page: &PageRequest,
) -> Result<Vec<ApiKey>, Error> {
    let after = page.after.clone().unwrap_or_default();
    let rows = connection
        .all(
            "SELECT id, user_id, name, prefix, scopes, created_at, expires_at, last_used_at, revoked_at,
                 replaced_by
             FROM api_keys WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3",
            params![tenant, after, page.rows_wanted()],
        )
        .await?;
    rows.iter().map(key).collect()
}

pub(in crate::identity) async fn revoke_key(
    tx: &Tx,
    tenant: TenantId,
    id: ApiKeyId,
    now: i64,
) -> Result<u64, Error> {
    let sql = "UPDATE api_keys SET revoked_at = $1 WHERE id = $2 AND tenant_id = $3 AND revoked_at IS NULL";
    tx.run(sql, params![now, id, tenant]).await
}

/// A key of this tenant that is still good.
pub(in crate::identity) async fn good_key(
    connection: &impl Sql,
    tenant: TenantId,
    id: ApiKeyId,
    now: i64,
) -> Result<Option<ApiKey>, Error> {
    let row = connection
        .one(
            "SELECT id, user_id, name, prefix, scopes, created_at, expires_at, last_used_at, revoked_at, replaced_by
             FROM api_keys WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL
                 AND (expires_at IS NULL OR expires_at > $3)",
            params![tenant, id, now],
        )
        .await?;
    row.as_ref().map(key).transpose()
}

/// Names the key that takes this one's place, and when this one ends; 0 if another one was first.
pub(in crate::identity) async fn replace_key(
    tx: &Tx,
    id: ApiKeyId,
    by: ApiKeyId,
    expires_at: i64,
) -> Result<u64, Error> {
    let sql = "UPDATE api_keys SET replaced_by = $1, expires_at = $2
               WHERE id = $3 AND replaced_by IS NULL AND revoked_at IS NULL";
    tx.run(sql, params![by, expires_at, id]).await
}

/// Revokes all keys of a user in a tenant.
pub(in crate::identity) async fn revoke_all_of(
    tx: &Tx,
    tenant: TenantId,
    user: UserId,
    now: i64,
) -> Result<u64, Error> {
    let sql =
        "UPDATE api_keys SET revoked_at = $1 WHERE tenant_id = $2 AND user_id = $3 AND revoked_at IS NULL";
    tx.run(sql, params![now, tenant, user]).await
}

/// Revokes all keys of a user, in every tenant.
pub(in crate::identity) async fn revoke_everywhere(tx: &Tx, user: UserId, now: i64) -> Result<u64, Error> {
    let sql = "UPDATE api_keys SET revoked_at = $1 WHERE user_id = $2 AND revoked_at IS NULL";
    tx.run(sql, params![now, user]).await
}
