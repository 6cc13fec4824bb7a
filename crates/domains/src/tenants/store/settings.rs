//! The SQL of settings.

use contracts::{TenantId, UserId};
use platform::{
    database::{Error, Sql, Tx},
    params,
};
use serde_json::Value;

/// What is set at any of these scopes: scope, key and value.
pub(in super::super) async fn set_at(
    connection: &impl Sql,
    scopes: &[String; 4],
) -> Result<Vec<(String, String, Value)>, Error> {
    let [first, second, third, fourth] = scopes.each_ref().map(String::as_str);
    let rows = connection
        .all(
            "SELECT scope, key, value FROM settings WHERE scope IN ($1, $2, $3, $4)",
            params![first, second, third, fourth],
        )
        .await?;
    rows.iter().map(|row| Ok((row.text("scope")?, row.text("key")?, row.json("value")?))).collect()
}

/// What is set for the platform.
pub(in super::super) async fn set_for_platform(
    connection: &impl Sql,
    key: &str,
) -> Result<Option<Value>, Error> {
    let sql = "SELECT value FROM settings WHERE scope = 'platform' AND key = $1";
    connection.one(sql, params![key]).await?.map(|row| row.json("value")).transpose()
}

/// What is set for each tenant that sets this key.
pub(in super::super) async fn set_for_tenants(
    connection: &impl Sql,
    key: &str,
) -> Result<Vec<(TenantId, Value)>, Error> {
    let rows = connection
        .all(
            "SELECT substr(scope, 8) AS tenant_id, value FROM settings
             WHERE scope >= 'tenant:' AND scope < 'tenant;' AND key = $1",
            params![key],
        )
        .await?;
    rows.iter().map(|row| Ok((row.parse("tenant_id")?, row.json("value")?))).collect()
}

pub(in super::super) async fn put(
    tx: &Tx,
    scope: &str,
    key: &str,
    value: &Value,
    by: UserId,
    now: i64,
) -> Result<(), Error> {
    tx.run(
        "INSERT INTO settings (scope, key, value, updated_by, updated_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (scope, key) DO UPDATE SET value = excluded.value, updated_by = excluded.updated_by,
             updated_at = excluded.updated_at",
        params![scope, key, value.to_string(), by, now],
    )
    .await?;
    Ok(())
}

pub(in super::super) async fn delete(tx: &Tx, scope: &str, key: &str) -> Result<u64, Error> {
    tx.run("DELETE FROM settings WHERE scope = $1 AND key = $2", params![scope, key]).await
}
