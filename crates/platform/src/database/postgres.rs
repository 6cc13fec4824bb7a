//! What PostgreSQL needs that SQLite has by itself: one writer among all processes, and an answer to whether a commit
//! whose connection broke was made.

use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, SqlxPostgresConnector, Statement};
use sqlx::{
    ConnectOptions, Connection, PgConnection, Row,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use contracts::RunId;

use super::{BUSY_WAIT, Migration, READERS_MAX, STATEMENTS_KEPT, location::Postgres};

/// Connections for reading; a server has a cache of its own.
pub(super) const READERS: u32 = READERS_MAX * 4;
/// How long a reading waits for a connection: a server that is started again is back by then, mostly.
const READ_WAIT: Duration = Duration::from_secs(6);
/// A reading that takes longer is given up.
const READ_MAX: &str = "30s";
/// A change waits this long for a lock, as [`BUSY_WAIT`] says.
const LOCK_WAIT: &str = "10s";
/// A process that stops in the middle of a change loses its transaction, and with it the lock that all others need.
const IDLE_IN_CHANGE_MAX: &str = "15s";
/// How long the server may take to say what became of a transaction whose connection broke.
const DOUBT_MAX: Duration = Duration::from_secs(5);
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// SQLSTATE of a transaction's number that is in the future.
const NOT_GIVEN_OUT: &str = "22023";
/// A writer that has changed nothing for so long is none.
const FORGET_MARKS: &str = "DELETE FROM writer_marks WHERE marked_at < now() - interval '7 days'";

/// Locks of a database, of which each name is one number: `soma` in ASCII, and one more byte.
pub(super) const WRITER: i64 = 0x73_6f_6d_61_01;
pub(super) const MIGRATION: i64 = 0x73_6f_6d_61_02;
pub(crate) const WORKFLOWS: i64 = 0x73_6f_6d_61_03;
pub(crate) const RELAY: i64 = 0x73_6f_6d_61_04;

/// Connections for `read_only` work, or one for changes.
pub(super) async fn connect(at: &Postgres, read_only: bool) -> Result<DatabaseConnection, DbErr> {
    let options = session(at.options(), read_only);
    let pool = PgPoolOptions::new()
        .max_connections(if read_only { at.readers } else { 1 })
        .min_connections(1)
        .acquire_timeout(if read_only { READ_WAIT } else { BUSY_WAIT })
        // A server that was started again has closed them all. The writer begins anew by itself.
        .test_before_acquire(read_only)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(options);
    let failed = |error: sqlx::Error| DbErr::Conn(sea_orm::RuntimeErr::SqlxError(error.into()));
    // The first connection is waited for as long as a change is: a server that is busy when somebody starts is no fault.
    let began = Instant::now();
    loop {
        match pool.acquire().await {
            Ok(_) => return Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(pool)),
            Err(sqlx::Error::PoolTimedOut) if began.elapsed() < BUSY_WAIT => {}
            Err(error) => return Err(failed(error)),
        }
    }
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

/// The marks of writers: one row for each, which every change of it numbers anew. Nothing but the commit itself leaves a
/// number there, so it says for certain whether one was made.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "database_0001_writer_marks",
    // SQLite's file has no connection that could break.
    statements: &[],
    postgres: Some(&["CREATE TABLE writer_marks (
        writer TEXT PRIMARY KEY,
        number BIGINT NOT NULL,
        marked_at TIMESTAMPTZ NOT NULL
    )"]),
}];

/// Who a process's writer is, and the number of its newest transaction.
#[derive(Debug)]
pub(super) struct Marks {
    writer: String,
    number: i64,
    /// Whether the table is there: before the migration that makes it there is none.
    kept: bool,
}

/// A transaction whose turn it is.
#[derive(Debug)]
pub(super) struct Turn {
    /// PostgreSQL's number of it.
    transaction: String,
    /// Its writer's, where marks are kept.
    mark: Option<i64>,
}

impl Marks {
    pub(super) fn new() -> Self {
        Self { writer: RunId::new().to_string(), number: 0, kept: false }
    }

    /// Looks on a new connection whether marks are kept, and removes those of writers that are long gone.
    pub(super) async fn look(&mut self, connection: &DatabaseConnection) -> Result<(), DbErr> {
        let backend = connection.get_database_backend();
        let sql = "SELECT to_regclass('writer_marks') IS NOT NULL AS kept";
        let row = connection.query_one_raw(Statement::from_string(backend, sql)).await?;
        self.kept = row.is_some_and(|row| row.try_get("", "kept").unwrap_or(false));
        if self.kept {
            connection.execute_unprepared(FORGET_MARKS).await?;
        }
        Ok(())
    }

    /// Waits until this transaction is the only one that changes anything, in all processes, as it is in SQLite: stores
    /// read, decide and write.
    pub(super) async fn take_turn(&mut self, tx: &impl ConnectionTrait) -> Result<Turn, DbErr> {
        self.number += 1;
        let backend = tx.get_database_backend();
        // The lock first: a transaction's number is given only to one that asks for it.
        let lock = format!("SELECT pg_advisory_xact_lock({WRITER})");
        let statement = if self.kept {
            let sql = format!(
                "INSERT INTO writer_marks (writer, number, marked_at) SELECT $1, $2, now() FROM ({lock}) AS turn
                 ON CONFLICT (writer) DO UPDATE SET number = excluded.number, marked_at = excluded.marked_at
                 RETURNING pg_current_xact_id()::text AS number"
            );
            Statement::from_sql_and_values(backend, sql, [self.writer.clone().into(), self.number.into()])
        } else {
            let sql = format!("SELECT pg_current_xact_id()::text AS number FROM ({lock}) AS turn");
            Statement::from_string(backend, sql)
        };
        let row = tx.query_one_raw(statement).await?;
        let row = row.ok_or_else(|| DbErr::RecordNotFound("the transaction's number".into()))?;
        Ok(Turn { transaction: row.try_get("", "number")?, mark: self.kept.then_some(self.number) })
    }

    /// Whether a transaction was committed, asked on another connection than its own.
    ///
    /// Its number alone does not say so: a server that crashes forgets numbers that were given out and not stored, and
    /// gives them to others, whose commits would pass for this one. But while it is in progress under its number the
    /// mark says nothing yet.
    pub(super) async fn was_committed(&self, at: &Postgres, turn: &Turn) -> Result<bool, DbErr> {
        let asked = Instant::now();
        loop {
            match self.look_for(at, turn).await {
                Ok(Some(committed)) => return Ok(committed),
                Err(error) if asked.elapsed() > DOUBT_MAX => return Err(error),
                Ok(None) | Err(_) => {}
            }
            if asked.elapsed() > DOUBT_MAX {
                return Err(DbErr::Custom("the transaction does not end".into()));
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// `None` while it is in progress.
    async fn look_for(&self, at: &Postgres, turn: &Turn) -> Result<Option<bool>, DbErr> {
        let connection = connect(at, false).await?;
        let found = self.look_on(&connection, turn).await;
        connection.close().await?;
        found
    }

    async fn look_on(&self, connection: &DatabaseConnection, turn: &Turn) -> Result<Option<bool>, DbErr> {
        let backend = connection.get_database_backend();
        let sql = "SELECT pg_xact_status(CAST($1 AS xid8)) AS status";
        let statement = Statement::from_sql_and_values(backend, sql, [turn.transaction.clone().into()]);
        let status: Option<String> = match connection.query_one_raw(statement).await {
            Ok(row) => row.map(|row| row.try_get("", "status")).transpose()?.flatten(),
            // A number that it has not given out, after a crash.
            Err(error) if super::state_of(&error).as_deref() == Some(NOT_GIVEN_OUT) => None,
            Err(error) => return Err(error),
        };
        let committed = status.as_deref() == Some("committed");
        if status.as_deref() == Some("in progress") {
            return Ok(None);
        }
        let Some(number) = turn.mark else {
            let doubt = "without marks of writers a number may be another transaction's";
            return if committed { Err(DbErr::Custom(doubt.into())) } else { Ok(Some(false)) };
        };
        let sql = "SELECT number FROM writer_marks WHERE writer = $1";
        let statement = Statement::from_sql_and_values(backend, sql, [self.writer.clone().into()]);
        let row = connection.query_one_raw(statement).await?;
        let marked: Option<i64> = row.map(|row| row.try_get("", "number")).transpose()?;
        Ok(Some(marked == Some(number)))
    }
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

/// A process that is stopped, though its connection lasts, holds no lock for longer than this. Others ask each second.
const UNHEARD_MAX: &str = "SET idle_session_timeout = '15s'";

/// A lock that one process holds as long as its connection lasts: free the moment it is gone.
#[derive(Debug)]
pub(crate) struct Lock(Box<PgConnection>);

impl Lock {
    /// `None` while another holds it.
    pub(crate) async fn take(at: &Postgres, number: i64) -> Result<Option<Self>, sqlx::Error> {
        let mut connection = at.options().connect().await?;
        sqlx::query(UNHEARD_MAX).execute(&mut connection).await?;
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
