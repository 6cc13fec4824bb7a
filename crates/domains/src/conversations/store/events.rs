//! The SQL of run events: every stream's truth.

use contracts::{RunId, TenantId};
use platform::{
    database::{Error, Sql, Tx},
    params,
};
use serde_json::Value;

use super::super::journal::RunEvent;

/// Adds an event under the run's next number.
pub(in super::super) async fn append(
    tx: &Tx,
    run: RunId,
    kind: &str,
    payload: &Value,
    now: i64,
) -> Result<(), Error> {
    tx.run(
        "INSERT INTO run_events (run_id, sequence, kind, payload, created_at)
         SELECT $1, COALESCE(MAX(sequence), 0) + 1, $2, $3, $4 FROM run_events WHERE run_id = $1",
        params![run, kind, payload.to_string(), now],
    )
    .await?;
    Ok(())
}

/// The last event's number, 0 when there is none.
pub(in super::super) async fn last(connection: &impl Sql, run: RunId) -> Result<i64, Error> {
    let sql = "SELECT COALESCE(MAX(sequence), 0) AS last FROM run_events WHERE run_id = $1";
    connection.one(sql, params![run]).await?.map_or(Ok(0), |row| row.int("last"))
}

pub(in super::super) async fn after(
    connection: &impl Sql,
    run: RunId,
    sequence: i64,
    limit: i64,
) -> Result<Vec<RunEvent>, Error> {
    let rows = connection
        .all(
            "SELECT sequence, kind, payload, created_at FROM run_events
             WHERE run_id = $1 AND sequence > $2 ORDER BY sequence LIMIT $3",
            params![run, sequence, limit],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(RunEvent {
                sequence: row.int("sequence")?,
                kind: row.text("kind")?,
                payload: row.text("payload")?,
                created_at: row.int("created_at")?,
            })
        })
        .collect()
}

/// The events of one kind.
pub(in super::super) async fn of_kind(
    connection: &impl Sql,
    run: RunId,
    kind: &str,
) -> Result<Vec<String>, Error> {
    let sql = "SELECT payload FROM run_events WHERE run_id = $1 AND kind = $2 ORDER BY sequence";
    let rows = connection.all(sql, params![run, kind]).await?;
    rows.iter().map(|row| row.text("payload")).collect()
}

/// Runs that ended before `before` and still have events, the oldest first.
pub(in super::super) async fn aged(
    connection: &impl Sql,
    before: i64,
    limit: i64,
) -> Result<Vec<RunId>, Error> {
    let sql = "SELECT id FROM runs WHERE events_dropped < 2 AND finished_at IS NOT NULL AND finished_at < $1
               ORDER BY finished_at LIMIT $2";
    let rows = connection.all(sql, params![before, limit]).await?;
    rows.iter().map(|row| row.parse("id")).collect()
}

/// The same of one tenant.
pub(in super::super) async fn aged_of(
    connection: &impl Sql,
    tenant: TenantId,
    before: i64,
    limit: i64,
) -> Result<Vec<RunId>, Error> {
    let sql = "SELECT id FROM runs
               WHERE tenant_id = $1 AND events_dropped < 2 AND finished_at IS NOT NULL AND finished_at < $2
               ORDER BY finished_at LIMIT $3";
    let rows = connection.all(sql, params![tenant, before, limit]).await?;
    rows.iter().map(|row| row.parse("id")).collect()
}

/// Drops some of a run's events, the first ones first; true when none is left. From the first drop on nobody is shown
/// them: half a stream would look like a whole one.
pub(in super::super) async fn drop_some(tx: &Tx, run: RunId, limit: i64) -> Result<bool, Error> {
    let dropped = tx
        .run(
            "DELETE FROM run_events WHERE run_id = $1 AND sequence IN
                 (SELECT sequence FROM run_events WHERE run_id = $1 ORDER BY sequence LIMIT $2)",
            params![run, limit],
        )
        .await?;
    let over = i64::try_from(dropped).unwrap_or(i64::MAX) < limit;
    let state: i64 = if over { 2 } else { 1 };
    tx.run("UPDATE runs SET events_dropped = $1 WHERE id = $2", params![state, run]).await?;
    Ok(over)
}
