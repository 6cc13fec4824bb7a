//! What PostgreSQL needs that SQLite has by itself: one writer among all processes, and an answer to whether a commit
//! whose connection broke was made.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, SqlxPostgresConnector, Statement};
use sqlx::{
    ConnectOptions, Connection, PgConnection, Row,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{BUSY_WAIT, READERS_MAX, STATEMENTS_KEPT, location::Postgres};

/// Connections for reading; a server has a cache of its own.
const READERS: u32 = READERS_MAX * 4;
/// How long a reading waits for a connection: a server that is started again is back by then, mostly.
const READ_WAIT: Duration = Duration::from_secs(3);
/// A reading that takes longer is given up.
const READ_MAX: &str = "30s";
/// A change waits this long for a lock, as [`BUSY_WAIT`] says.
const LOCK_WAIT: &str = "10s";
/// A process that stops in the middle of a change loses its transaction, and with it the lock that all others need.
const IDLE_IN_CHANGE_MAX: &str = "15s";
/// How long the server may take to say what became of a transaction whose connection broke.
const DOUBT_MAX: Duration = Duration::from_secs(5);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Locks of a database, of which each name is one number: `soma` in ASCII, and one more byte.
pub(super) const WRITER: i64 = 0x73_6f_6d_61_01;
pub(super) const MIGRATION: i64 = 0x73_6f_6d_61_02;
pub(crate) const WORKFLOWS: i64 = 0x73_6f_6d_61_03;

/// Connections for `read_only` work, or one for changes.
pub(super) async fn connect(at: &Postgres, read_only: bool) -> Result<DatabaseConnection, DbErr> {
    let options = session(at.options(), read_only);
    let pool = PgPoolOptions::new()
        .max_connections(if read_only { READERS } else { 1 })
        .min_connections(1)
        .acquire_timeout(if read_only { READ_WAIT } else { BUSY_WAIT })
        // A server that was started again has closed them all. The writer begins anew by itself.
        .test_before_acquire(read_only)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options)
        .await
        .map_err(|error| DbErr::Conn(sea_orm::RuntimeErr::SqlxError(error.into())))?;
    Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(pool))
}

fn session(options: PgConnectOptions, read_only: bool) -> PgConnectOptions {
    let options = options.statement_cache_capacity(STATEMENTS_KEPT).options([
        ("client_min_messages", "warning"),
        // A change sees what was committed before its turn came; a snapshot from before it would not.
        ("default_transaction_isolation", "read committed"),
        ("lock_timeout", LOCK_WAIT),
        ("idle_in_transaction_session_timeout", IDLE_IN_CHANGE_MAX),
        ("synchronous_commit", "on"),
        // One that waits for its turn for a process that is gone would take it, and hold a connection meanwhile.
        ("client_connection_check_interval", "2s"),
    ]);
    if read_only {
        options.options([("default_transaction_read_only", "on"), ("statement_timeout", READ_MAX)])
    } else {
        options
    }
}

/// Waits until this transaction is the only one that changes anything, in all processes, as it is in SQLite: stores
/// read, decide and write. Answers the transaction's number.
pub(super) async fn take_turn(tx: &impl ConnectionTrait) -> Result<String, DbErr> {
    // The lock first: a number is given only to a transaction that asks for it.
    let sql = format!(
        "SELECT pg_current_xact_id()::text AS number FROM (SELECT pg_advisory_xact_lock({WRITER})) AS turn"
    );
    let row = tx.query_one_raw(Statement::from_string(tx.get_database_backend(), sql)).await?;
    row.ok_or_else(|| DbErr::RecordNotFound("the transaction's number".into()))?.try_get("", "number")
}

/// Whether a transaction was committed, asked on another connection than its own.
pub(super) async fn was_committed(at: &Postgres, number: &str) -> Result<bool, DbErr> {
    let asked = std::time::Instant::now();
    loop {
        match status(at, number).await {
            Ok(Some(status)) if status == "in progress" => {}
            Ok(status) => return Ok(status.as_deref() == Some("committed")),
            Err(error) if asked.elapsed() > DOUBT_MAX => return Err(error),
            Err(_) => {}
        }
        if asked.elapsed() > DOUBT_MAX {
            return Err(DbErr::Custom("the transaction does not end".into()));
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

async fn status(at: &Postgres, number: &str) -> Result<Option<String>, DbErr> {
    let connection = connect(at, false).await?;
    let sql = "SELECT pg_xact_status(CAST($1 AS xid8)) AS status";
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, [number.into()]);
    let row = connection.query_one_raw(statement).await?;
    let status = row.map(|row| row.try_get("", "status")).transpose()?.flatten();
    connection.close().await?;
    Ok(status)
}

/// A statement that makes a table, with every text compared by its bytes, as SQLite does it: ids, cursors and ranges of
/// them rely on it, and the server's own language would order them otherwise.
pub(super) fn by_bytes(statement: &str) -> String {
    if !statement.starts_with("CREATE TABLE") && !statement.starts_with("ALTER TABLE") {
        return statement.to_owned();
    }
    let mut made = String::with_capacity(statement.len() + 64);
    let mut rest = statement;
    while let Some(at) = rest.find("TEXT") {
        let (before, after) = rest.split_at(at);
        let after = &after["TEXT".len()..];
        let whole = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        made.push_str(before);
        made.push_str("TEXT");
        if whole(before.chars().next_back()) && whole(after.chars().next()) {
            made.push_str(" COLLATE \"C\"");
        }
        rest = after;
    }
    made.push_str(rest);
    made
}

/// A lock that one process holds as long as its connection lasts: free the moment it is gone.
#[derive(Debug)]
pub(crate) struct Lock(Box<PgConnection>);

impl Lock {
    /// `None` while another holds it.
    pub(crate) async fn take(at: &Postgres, number: i64) -> Result<Option<Self>, sqlx::Error> {
        let mut connection = at.options().connect().await?;
        let sql = sqlx::query("SELECT pg_try_advisory_lock($1)").bind(number);
        let taken: bool = sql.fetch_one(&mut connection).await?.try_get(0)?;
        Ok(taken.then(|| Self(Box::new(connection))))
    }

    /// Asks the server; an error means that it is lost.
    pub(crate) async fn is_held(&mut self) -> Result<(), sqlx::Error> {
        self.0.ping().await
    }
}

/// A character that no language uses, before what stands for NUL, which the server takes in no text, and before itself.
const ESCAPE: char = '\u{f8ff}';
const NUL: char = '0';

/// A text as the server takes it.
pub(super) fn storable(text: String) -> String {
    if !text.contains(['\0', ESCAPE]) {
        return text;
    }
    let mut stored = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c == '\0' || c == ESCAPE {
            stored.push(ESCAPE);
        }
        stored.push(if c == '\0' { NUL } else { c });
    }
    stored
}

/// What [`storable`] was given.
pub(super) fn restored(text: String) -> String {
    if !text.contains(ESCAPE) {
        return text;
    }
    let mut restored = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let meant = if c == ESCAPE { chars.next() } else { Some(c) };
        restored.extend(meant.map(|meant| if c == ESCAPE && meant == NUL { '\0' } else { meant }));
    }
    restored
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_as_it_was() {
        for text in ["", "plain 0", "a\0b", "\0", "\u{f8ff}", "\u{f8ff}0\0\u{f8ff}\u{f8ff}", "0\u{f8ff}"] {
            let stored = storable(text.to_owned());
            assert!(!stored.contains('\0'));
            assert_eq!(restored(stored), text);
        }
    }

    #[test]
    fn texts_of_tables_are_ordered_by_their_bytes() {
        assert_eq!(
            by_bytes("CREATE TABLE a (id TEXT PRIMARY KEY, CONTEXT_TEXT TEXT, n BIGINT)"),
            "CREATE TABLE a (id TEXT COLLATE \"C\" PRIMARY KEY, CONTEXT_TEXT TEXT COLLATE \"C\", n BIGINT)"
        );
        assert_eq!(
            by_bytes("ALTER TABLE a ADD COLUMN b TEXT"),
            "ALTER TABLE a ADD COLUMN b TEXT COLLATE \"C\""
        );
        assert_eq!(by_bytes("CREATE INDEX a ON b (TEXT)"), "CREATE INDEX a ON b (TEXT)");
    }
}
