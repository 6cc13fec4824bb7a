//! The SQL of the outbox.

use std::sync::LazyLock;

use contracts::events::{Event, Letter, Topic};

use super::headers;
use crate::{
    database::{Error, InsertRows, Migration, Param as _, Row, Sql, Text, Tx, Value},
    params,
};

macro_rules! table {
    ($id:literal) => {
        concat!(
            "CREATE TABLE outbox (id ",
            $id,
            ", event_id TEXT NOT NULL, topic TEXT NOT NULL, event_key TEXT NOT NULL, headers TEXT NOT NULL,
            payload TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'pending', attempts BIGINT NOT NULL DEFAULT 0,
            due_at BIGINT NOT NULL DEFAULT 0, error TEXT, created_at BIGINT NOT NULL)"
        )
    };
}

pub const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "platform_0003_outbox",
        // Given out under the lock that all changes take, so that the order of the numbers is that of the commits.
        postgres: Some(&[table!("BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"), INDEX]),
        statements: &[table!("INTEGER PRIMARY KEY AUTOINCREMENT"), INDEX],
    },
    Migration { name: "platform_0005_outbox_refused", postgres: None, statements: &[INDEX_OF_REFUSED] },
];

const INDEX: &str = "CREATE INDEX outbox_state ON outbox (state, id)";
const INDEX_OF_REFUSED: &str =
    "CREATE INDEX outbox_refused ON outbox (topic, event_key) WHERE state = 'pending' AND due_at > 0";

const COLUMNS: usize = 6;

static INSERT: LazyLock<InsertRows> = LazyLock::new(|| {
    InsertRows::new(COLUMNS, 1, |rows| {
        format!("INSERT INTO outbox (event_id, topic, event_key, headers, payload, created_at) VALUES {rows}")
    })
});

fn columns(event: &Event) -> [Value; COLUMNS] {
    [
        event.id.as_str().param(),
        event.topic.as_str().param(),
        event.key().param(),
        serde_json::to_string(&headers(event)).unwrap_or_default().param(),
        event.payload().param(),
        event.at.param(),
    ]
}

/// Adds events in their order.
pub(crate) async fn insert(tx: &Tx, events: &[Event]) -> Result<(), Error> {
    for (sql, now) in INSERT.parts(events) {
        tx.run(sql, now.iter().flat_map(columns).collect()).await?;
    }
    Ok(())
}

/// An event that waits, or waits no more.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub id: i64,
    pub event_id: String,
    pub letter: Letter,
    pub attempts: i64,
    pub error: Option<String>,
    pub created_at: i64,
}

macro_rules! kept {
    ($rest:literal) => {
        concat!(
            "SELECT id, event_id, topic, event_key, headers, payload, attempts, error, created_at FROM outbox ",
            $rest
        )
    };
}

fn kept(row: &Row) -> Result<Kept, Error> {
    let topic = row.text("topic")?;
    let topic = Topic::named(&topic).ok_or_else(|| Error::Corrupt(format!("outbox.topic: {topic}")))?;
    Ok(Kept {
        id: row.int("id")?,
        event_id: row.text("event_id")?,
        letter: Letter {
            topic,
            key: row.text("event_key")?,
            headers: row.json("headers")?,
            payload: row.text("payload")?,
        },
        attempts: row.int("attempts")?,
        error: row.text_opt("error")?,
        created_at: row.int("created_at")?,
    })
}

static PENDING: LazyLock<String> = LazyLock::new(|| {
    let topics: Vec<String> = Topic::ALL.iter().map(|topic| format!("'{topic}'")).collect();
    format!(
        kept!(
            "WHERE state = 'pending' AND topic IN ({}) AND NOT EXISTS (
                 SELECT 1 FROM outbox refused
                 WHERE refused.state = 'pending' AND refused.due_at > 0 AND refused.due_at > $1
                   AND refused.topic = outbox.topic AND refused.event_key = outbox.event_key
                 LIMIT 1 OFFSET 0)
             ORDER BY id LIMIT $2"
        ),
        topics.join(", ")
    )
});

// `OFFSET 0` keeps PostgreSQL at a look into the index for each event: what it makes of it else compares each with each.
/// The oldest events whose time has come, in the order of their commits. What has the topic and the key of one that was
/// refused waits with it. Those of topics that only a newer version knows are left to it.
pub(super) async fn pending(connection: &impl Sql, now: i64, limit: i64) -> Result<Vec<Kept>, Error> {
    connection.all(PENDING.as_str(), params![now, limit]).await?.iter().map(kept).collect()
}

const AMONG: Text = Text {
    sqlite: "DELETE FROM outbox WHERE id IN (SELECT value FROM json_each($1))",
    postgres: "DELETE FROM outbox WHERE id IN (SELECT CAST(value AS BIGINT) FROM jsonb_array_elements_text($1::jsonb))",
};

/// Takes events away that the bus has.
pub(super) async fn remove(tx: &Tx, ids: &[i64]) -> Result<(), Error> {
    let ids = serde_json::to_string(ids).unwrap_or_default();
    tx.run(AMONG.of(tx), params![ids]).await?;
    Ok(())
}

/// Notes that the bus refused an event: it is tried again at `due_at`, or never, when it is dead.
pub(super) async fn refused(
    tx: &Tx,
    id: i64,
    attempts: i64,
    due_at: Option<i64>,
    error: &str,
) -> Result<(), Error> {
    let state = if due_at.is_some() { "pending" } else { "dead" };
    tx.run(
        "UPDATE outbox SET state = $2, attempts = $3, due_at = $4, error = $5 WHERE id = $1",
        params![id, state, attempts, due_at.unwrap_or(0), error],
    )
    .await?;
    Ok(())
}

/// How many wait, but no more than `limit` are counted.
pub(super) async fn count_pending(connection: &impl Sql, limit: i64) -> Result<i64, Error> {
    let sql = "SELECT COUNT(*) AS events FROM (
                   SELECT 1 FROM outbox WHERE state = 'pending' ORDER BY id LIMIT $1) AS first_ones";
    connection.one(sql, params![limit]).await?.map_or(Ok(0), |row| row.int("events"))
}

/// Dead events after one, in their order.
pub(super) async fn dead(connection: &impl Sql, after: i64, limit: i64) -> Result<Vec<Kept>, Error> {
    let sql = kept!("WHERE state = 'dead' AND id > $1 ORDER BY id LIMIT $2");
    connection.all(sql, params![after, limit]).await?.iter().map(kept).collect()
}

pub(super) async fn find_dead(connection: &impl Sql, id: i64) -> Result<Option<Kept>, Error> {
    let sql = kept!("WHERE state = 'dead' AND id = $1");
    connection.one(sql, params![id]).await?.as_ref().map(kept).transpose()
}

/// Makes a dead event one that waits again, at its old place.
pub(super) async fn revive(tx: &Tx, id: i64) -> Result<bool, Error> {
    let sql = "UPDATE outbox SET state = 'pending', attempts = 0, due_at = 0, error = NULL
               WHERE state = 'dead' AND id = $1";
    Ok(tx.run(sql, params![id]).await? > 0)
}
