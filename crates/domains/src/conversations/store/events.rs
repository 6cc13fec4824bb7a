//! The SQL of run events: every stream's truth.

use contracts::RunId;
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
