//! The SQL of idempotency keys.

use crate::{
    database::{Error, Migration, Sql, Tx},
    params,
};

pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "platform_0002_idempotency_keys",
    postgres: None,
    statements: &["CREATE TABLE idempotency_keys (
        tenant_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        idempotency_key TEXT NOT NULL,
        operation TEXT NOT NULL,
        body_hash TEXT NOT NULL,
        answer TEXT NOT NULL,
        created_at BIGINT NOT NULL,
        PRIMARY KEY (tenant_id, user_id, idempotency_key)
    )"],
}];

pub(super) struct Kept {
    pub operation: String,
    pub body_hash: String,
    pub answer: String,
}

pub(super) async fn find(
    tx: &Tx,
    tenant: &str,
    user: &str,
    key: &str,
    since: i64,
) -> Result<Option<Kept>, Error> {
    let row = tx
        .one(
            "SELECT operation, body_hash, answer FROM idempotency_keys
             WHERE tenant_id = $1 AND user_id = $2 AND idempotency_key = $3 AND created_at >= $4",
            params![tenant, user, key, since],
        )
        .await?;
    row.map(|row| {
        Ok(Kept {
            operation: row.text("operation")?,
            body_hash: row.text("body_hash")?,
            answer: row.text("answer")?,
        })
    })
    .transpose()
}

pub(super) async fn insert(
    tx: &Tx,
    tenant: &str,
    user: &str,
    key: &str,
    kept: &Kept,
    now: i64,
) -> Result<(), Error> {
    // A row past its time is overwritten: `find` no longer sees it.
    tx.run(
        "INSERT INTO idempotency_keys (tenant_id, user_id, idempotency_key, operation, body_hash, answer, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (tenant_id, user_id, idempotency_key) DO UPDATE
         SET operation = excluded.operation, body_hash = excluded.body_hash, answer = excluded.answer,
             created_at = excluded.created_at",
        params![
            tenant, user, key, kept.operation.as_str(), kept.body_hash.as_str(), kept.answer.as_str(), now
        ],
    )
    .await?;
    Ok(())
}
