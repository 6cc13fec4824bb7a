//! The ledger's SQL.

use contracts::RunId;

use super::{
    Effect,
    ledger::{Recorded, State, StepRecord},
};
use crate::{
    database::{Error, Migration, Row, Sql, Tx},
    params,
};

pub const MIGRATIONS: &[Migration] = &[STEPS, SIGNALS, LEASES];

const STEPS: Migration = Migration {
    name: "platform_0001_steps",
    postgres: None,
    statements: &["CREATE TABLE steps (
        run_id TEXT NOT NULL,
        ordinal BIGINT NOT NULL,
        name TEXT NOT NULL,
        input_hash TEXT NOT NULL,
        effect TEXT NOT NULL,
        attempt BIGINT NOT NULL,
        owner TEXT NOT NULL,
        state TEXT NOT NULL,
        result TEXT,
        started_at BIGINT NOT NULL,
        finished_at BIGINT,
        PRIMARY KEY (run_id, ordinal)
    )"],
};

const SIGNALS: Migration = Migration {
    name: "platform_0002_signals",
    postgres: None,
    statements: &["CREATE TABLE signals (
        run_id TEXT NOT NULL,
        name TEXT NOT NULL,
        created_at BIGINT NOT NULL,
        PRIMARY KEY (run_id, name)
    )"],
};

/// Until when, in milliseconds since 1970, whoever is at a step that may be done once only counts as alive.
const LEASES: Migration = Migration {
    name: "platform_0004_step_leases",
    postgres: None,
    statements: &["ALTER TABLE steps ADD COLUMN leased_until BIGINT"],
};

/// Which step a row is about, and what it must have been asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub run: RunId,
    pub ordinal: u32,
    pub name: &'static str,
    pub input_hash: String,
}

fn recorded(row: &Row) -> Result<(u32, Recorded), Error> {
    let ordinal = u32::try_from(row.int("ordinal")?).map_err(|_| Error::Corrupt("steps.ordinal".into()))?;
    let recorded = Recorded {
        name: row.text("name")?,
        input_hash: row.text("input_hash")?,
        attempt: row.int("attempt")?,
        owner: row.text("owner")?,
        leased_until: row.int_opt("leased_until")?,
        state: State::parse(&row.text("state")?).ok_or_else(|| Error::Corrupt("steps.state".into()))?,
        result: row.text_opt("result")?,
    };
    Ok((ordinal, recorded))
}

const COLUMNS_OF_RUN: &str = "SELECT ordinal, name, input_hash, attempt, owner, leased_until, state, result FROM steps WHERE run_id = $1";
const COLUMNS_OF_STEP: &str =
    "SELECT ordinal, name, input_hash, attempt, owner, leased_until, state, result FROM steps
     WHERE run_id = $1 AND ordinal = $2";

pub(super) async fn of_run(connection: &impl Sql, run: RunId) -> Result<Vec<(u32, Recorded)>, Error> {
    connection.all(COLUMNS_OF_RUN, params![run.to_string()]).await?.iter().map(recorded).collect()
}

pub(super) async fn one(connection: &impl Sql, run: RunId, ordinal: u32) -> Result<Option<Recorded>, Error> {
    let row = connection.one(COLUMNS_OF_STEP, params![run.to_string(), i64::from(ordinal)]).await?;
    Ok(row.as_ref().map(recorded).transpose()?.map(|(_, recorded)| recorded))
}

/// Everything but the result, for people.
pub(super) async fn records(connection: &impl Sql, run: RunId) -> Result<Vec<StepRecord>, Error> {
    let sql = "SELECT ordinal, name, input_hash, effect, attempt, state, started_at, finished_at FROM steps
               WHERE run_id = $1 ORDER BY ordinal";
    let rows = connection.all(sql, params![run.to_string()]).await?;
    rows.iter()
        .map(|row| {
            Ok(StepRecord {
                ordinal: u32::try_from(row.int("ordinal")?)
                    .map_err(|_| Error::Corrupt("steps.ordinal".into()))?,
                name: row.text("name")?,
                input_hash: row.text("input_hash")?,
                effect: row.text("effect")?,
                attempt: row.int("attempt")?,
                state: row.text("state")?,
                started_at: row.int("started_at")?,
                finished_at: row.int_opt("finished_at")?,
            })
        })
        .collect()
}

/// Takes the step for a new attempt. False when the row is final already.
pub(super) async fn start(
    tx: &Tx,
    key: &Key,
    effect: Effect,
    attempt: i64,
    owner: &str,
    leased_until: Option<i64>,
    now: i64,
) -> Result<bool, Error> {
    let changed = tx
        .run(
            "INSERT INTO steps (run_id, ordinal, name, input_hash, effect, attempt, owner, leased_until, state, started_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'started', $9)
             ON CONFLICT (run_id, ordinal) DO UPDATE
             SET attempt = excluded.attempt, owner = excluded.owner, leased_until = excluded.leased_until,
                 effect = excluded.effect
             WHERE steps.state = 'started' AND steps.attempt < excluded.attempt",
            params![
                key.run.to_string(),
                i64::from(key.ordinal),
                key.name,
                key.input_hash.as_str(),
                effect.as_str(),
                attempt,
                owner,
                leased_until,
                now
            ],
        )
        .await?;
    Ok(changed == 1)
}

/// Says that whoever is at a step is alive.
pub(super) async fn renew(tx: &Tx, key: &Key, owner: &str, leased_until: i64) -> Result<(), Error> {
    let sql = "UPDATE steps SET leased_until = $4
               WHERE run_id = $1 AND ordinal = $2 AND owner = $3 AND state = 'started'";
    tx.run(sql, params![key.run.to_string(), i64::from(key.ordinal), owner, leased_until]).await?;
    Ok(())
}

/// The attempt of a wait's row: it has just one.
pub(super) const WAIT_ATTEMPT: i64 = 0;

/// Opens a wait's row; a sleep's result is when it is over. A row that is there already stays as it is.
pub(super) async fn wait(tx: &Tx, key: &Key, owner: &str, due: Option<i64>, now: i64) -> Result<(), Error> {
    tx.run(
        "INSERT INTO steps (run_id, ordinal, name, input_hash, effect, attempt, owner, state, result, started_at)
         VALUES ($1, $2, $3, $4, 'repeatable', $5, $6, 'started', $7, $8)
         ON CONFLICT (run_id, ordinal) DO NOTHING",
        params![
            key.run.to_string(), i64::from(key.ordinal), key.name, key.input_hash.as_str(), WAIT_ATTEMPT, owner,
            due.map(|due| due.to_string()), now
        ],
    )
    .await?;
    Ok(())
}

/// Writes the final state. False when another attempt owns the row or it is final already: the fence.
pub(super) async fn finish(
    tx: &Tx,
    key: &Key,
    attempt: i64,
    owner: &str,
    state: State,
    result: &str,
    now: i64,
) -> Result<bool, Error> {
    let changed = tx
        .run(
            "INSERT INTO steps (run_id, ordinal, name, input_hash, effect, attempt, owner, state, result, started_at, finished_at)
             VALUES ($1, $2, $3, $4, 'repeatable', $5, $6, $7, $8, $9, $9)
             ON CONFLICT (run_id, ordinal) DO UPDATE
             SET state = excluded.state, result = excluded.result, finished_at = excluded.finished_at
             WHERE steps.state = 'started' AND steps.attempt = excluded.attempt",
            params![
                key.run.to_string(), i64::from(key.ordinal), key.name, key.input_hash.as_str(), attempt, owner,
                state.as_str(), result, now
            ],
        )
        .await?;
    Ok(changed == 1)
}

/// Signals a run, as part of the change that the run waits for. Tell the engine once it is committed.
pub async fn signal(tx: &Tx, run: RunId, name: &str, now: i64) -> Result<(), Error> {
    let sql = "INSERT INTO signals (run_id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    tx.run(sql, params![run, name, now]).await?;
    Ok(())
}

pub(super) async fn signalled(connection: &impl Sql, run: RunId, name: &str) -> Result<bool, Error> {
    let sql = "SELECT 1 AS one FROM signals WHERE run_id = $1 AND name = $2";
    Ok(connection.one(sql, params![run, name]).await?.is_some())
}

/// Closes what a run has open that is given up, as part of the change that ends it: whoever still works on it finds
/// itself overtaken.
pub async fn close_open(tx: &Tx, run: RunId, now: i64) -> Result<(), Error> {
    let sql = "UPDATE steps SET state = 'cancelled', result = 'null', finished_at = $2
               WHERE run_id = $1 AND state = 'started'";
    tx.run(sql, params![run.to_string(), now]).await?;
    Ok(())
}

/// Whether the attempt still owns the step.
pub(super) async fn owns(tx: &Tx, key: &Key, attempt: i64) -> Result<bool, Error> {
    let row = one(tx, key.run, key.ordinal).await?;
    Ok(row.is_some_and(|row| row.state == State::Started && row.attempt == attempt))
}

/// For the fault switch `ledger_off`: drops the row of a step that has effects, as if it had never been.
pub(super) async fn forget(tx: &Tx, key: &Key) -> Result<(), Error> {
    let sql = "DELETE FROM steps WHERE run_id = $1 AND ordinal = $2 AND effect <> 'repeatable'";
    tx.run(sql, params![key.run.to_string(), i64::from(key.ordinal)]).await?;
    Ok(())
}
