//! The SQL of calls of a model by its name, and of the processes that make them.

use std::collections::HashSet;

use contracts::{ModelCallId, TenantId, UserId, model::Usage};
use platform::{
    database::{Error, Migration, Sql, Text, Tx},
    params,
};
use serde_json::{Value, json};

use super::super::calls::NewCall;

pub(super) const MIGRATION: Migration = Migration {
    name: "models_0002_calls",
    postgres: None,
    statements: &[
        "CREATE TABLE model_calls (
            id TEXT PRIMARY KEY,
            tenant_id TEXT NOT NULL,
            user_id TEXT NOT NULL,
            model TEXT NOT NULL,
            process_id TEXT NOT NULL,
            reserved_micros BIGINT NOT NULL,
            settled_micros BIGINT,
            input_tokens BIGINT NOT NULL DEFAULT 0,
            output_tokens BIGINT NOT NULL DEFAULT 0,
            created_at BIGINT NOT NULL,
            ended_at BIGINT
        )",
        // Only open calls are looked for by process, and they are few.
        "CREATE INDEX model_calls_open ON model_calls (process_id) WHERE settled_micros IS NULL",
        "CREATE INDEX model_calls_tenant ON model_calls (tenant_id, created_at)",
        "CREATE TABLE model_processes (
            id TEXT PRIMARY KEY,
            seen_at BIGINT NOT NULL
        )",
    ],
};

/// Rows that come as one JSON text.
macro_rules! of_rows {
    ($before:literal, $after:literal) => {
        Text {
            sqlite: concat!($before, " FROM json_each($1) AS rows ", $after),
            postgres: concat!(
                $before,
                " FROM jsonb_array_elements(CAST($1 AS jsonb)) AS rows (value) ",
                $after
            ),
        }
    };
}

const INSERT: Text = of_rows!(
    "INSERT INTO model_calls (id, tenant_id, user_id, model, reserved_micros, process_id, created_at)
     SELECT value->>0, value->>1, value->>2, value->>3, CAST(value->>4 AS BIGINT), $2, $3",
    ""
);

const CLOSE: Text = of_rows!(
    "UPDATE model_calls SET settled_micros = CAST(value->>1 AS BIGINT), input_tokens = CAST(value->>2 AS BIGINT),
         output_tokens = CAST(value->>3 AS BIGINT), ended_at = $2",
    "WHERE model_calls.id = value->>0 AND settled_micros IS NULL RETURNING model_calls.id AS id"
);

/// Adds calls, all in one statement: a statement costs more than its row.
pub(in super::super) async fn insert(
    tx: &Tx,
    calls: impl Iterator<Item = &NewCall>,
    process: &str,
    now: i64,
) -> Result<(), Error> {
    let rows =
        calls.map(|call| json!([call.id, call.tenant, call.user, call.model, whole(call.amount)])).collect();
    tx.run(INSERT.of(tx), params![Value::Array(rows).to_string(), process, now]).await?;
    Ok(())
}

/// A number that SQLite does not take for a fraction, however large.
fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// How a call ended.
pub(in super::super) struct End {
    pub id: ModelCallId,
    pub cost: u64,
    pub usage: Usage,
}

/// Closes open calls; answers those that were not closed before.
pub(in super::super) async fn close(
    tx: &Tx,
    ends: impl Iterator<Item = End>,
    now: i64,
) -> Result<HashSet<ModelCallId>, Error> {
    let rows = ends
        .map(|end| {
            let Usage { input_tokens, output_tokens } = end.usage;
            json!([end.id, whole(end.cost), whole(input_tokens), whole(output_tokens)])
        })
        .collect();
    let closed = tx.all(CLOSE.of(tx), params![Value::Array(rows).to_string(), now]).await?;
    closed.iter().map(|row| row.parse("id")).collect()
}

/// Says that a process is alive.
pub(in super::super) async fn beat(tx: &Tx, process: &str, now: i64) -> Result<(), Error> {
    tx.run(
        "INSERT INTO model_processes (id, seen_at) VALUES ($1, $2)
         ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at",
        params![process, now],
    )
    .await?;
    Ok(())
}

/// An open call of a process that is gone.
pub(in super::super) struct Lost {
    pub tenant: TenantId,
    pub user: UserId,
    pub reserved: u64,
}

/// Closes, each at all that was held for it, the open calls of other processes that were not seen since then, and
/// forgets those processes.
pub(in super::super) async fn close_lost(
    tx: &Tx,
    own: &str,
    seen_since: i64,
    now: i64,
) -> Result<Vec<Lost>, Error> {
    let rows = tx
        .all(
            "UPDATE model_calls SET settled_micros = reserved_micros, ended_at = $1
             WHERE settled_micros IS NULL AND process_id <> $2
               AND process_id NOT IN (SELECT id FROM model_processes WHERE seen_at >= $3)
             RETURNING tenant_id, user_id, reserved_micros",
            params![now, own, seen_since],
        )
        .await?;
    tx.run("DELETE FROM model_processes WHERE seen_at < $1 AND id <> $2", params![seen_since, own]).await?;
    rows.iter()
        .map(|row| {
            Ok(Lost {
                tenant: row.parse("tenant_id")?,
                user: row.parse("user_id")?,
                reserved: row.int("reserved_micros")?.unsigned_abs(),
            })
        })
        .collect()
}

/// Whether another process left open calls.
pub(in super::super) async fn others_are_open(connection: &impl Sql, own: &str) -> Result<bool, Error> {
    let sql = "SELECT 1 AS one FROM model_calls WHERE settled_micros IS NULL AND process_id <> $1 LIMIT 1";
    Ok(connection.one(sql, params![own]).await?.is_some())
}
