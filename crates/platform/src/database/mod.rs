//! The database: many readers, one writer, and commits shared by all who wait for one.
//!
//! SQLite takes one writer at a time and pays one disk sync a commit. So every change goes through one queue, whose
//! task runs all waiting changes in one `BEGIN IMMEDIATE` transaction (each in a savepoint of its own, so that one
//! failure undoes only itself) and answers nobody before the commit is on disk. On PostgreSQL it is the same, and a
//! lock that each such transaction takes first makes all processes' writers one.
//!
//! Nothing is written outside [`Database::write`]. SQL itself stands only in stores.

mod location;
mod migrate;
pub(crate) mod postgres;
mod row;
mod rows;
#[cfg(test)]
mod tests;
mod writer;

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use sea_orm::{
    ConnectOptions, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, RuntimeErr,
    sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous},
};

use crate::outbox::Switch;

pub use location::{Location, Postgres};
pub use migrate::{Migration, MigrationTrait, migrate, pending};
pub use postgres::MIGRATIONS;
pub use row::{Param, Row, Sql, Text};
pub use rows::InsertRows;
pub use sea_orm::{DbBackend, Value};
pub use sea_orm_migration::MigratorTrait;

/// A change in progress; it is on disk once [`Database::write`] has returned.
pub type Tx = DatabaseTransaction;

/// Connections for reading. Each holds a page cache, so this bounds memory too.
const READERS_MAX: u32 = 4;
/// How long a change waits for another process (a command line beside the server) that holds the write lock.
const BUSY_WAIT: Duration = Duration::from_secs(10);
/// How long readiness waits for an answer.
const READY_WAIT: Duration = Duration::from_secs(2);
/// Prepared statements kept by each connection.
const STATEMENTS_KEPT: usize = 256;

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("the disk is full: nothing was stored; free some space and send it again")]
    Full,
    #[error("the database can't be written: {0}")]
    Stopped(String),
    /// No connection to it could be had, or the one that was had broke before a commit.
    #[error("the database can't be reached: {0}")]
    Away(String),
    #[error("the change's own code panicked: nothing was stored")]
    Panicked,
    /// The connection broke in the middle of the commit.
    #[error("whether it was stored is not known, for the database went away: {0}")]
    Unknown(String),
    #[error("database: {0}")]
    Query(Arc<DbErr>),
    #[error("the database holds what no version of this program writes: {0}")]
    Corrupt(String),
    /// It has migrations that this version does not know, and lacks some that it needs.
    #[error(
        "the schema is another version's: {0} has not run, and this version does not know {1}; use a version that \
         knows both"
    )]
    OtherVersion(String, String),
}

/// SQLite's codes for "database or disk is full" and for an input/output error while writing.
const SQLITE_FULL: [&str; 2] = ["(code: 13)", "database or disk is full"];

/// PostgreSQL's code for the same.
const POSTGRES_FULL: &str = "53100";
/// Its codes, or classes of them, for a connection that it does not take, or ends: broken, too many, shutting down or
/// starting.
const POSTGRES_AWAY: [&str; 3] = ["08", "53300", "57P0"];

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        let text = error.to_string();
        if SQLITE_FULL.iter().any(|mark| text.contains(mark))
            || text.contains("No space left")
            || state_of(&error).as_deref() == Some(POSTGRES_FULL)
        {
            return Self::Full;
        }
        if is_away(&error) {
            return Self::Away(text);
        }
        Self::Query(Arc::new(error))
    }
}

impl Error {
    /// Whether the same statement fails in the same way however often it is tried: it breaks a constraint, or is no
    /// statement.
    #[must_use]
    pub fn is_final(&self) -> bool {
        let Self::Query(error) = self else { return false };
        // Classes of SQLSTATE: data, integrity, syntax or access, and errors that a trigger raises.
        let refused = |state: String| ["22", "23", "42", "P0"].iter().any(|class| state.starts_with(class));
        error.sql_err().is_some() || state_of(error).is_some_and(refused)
    }
}

fn is_away(error: &DbErr) -> bool {
    let broken = |error: &sqlx::Error| {
        matches!(
            error,
            sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed
        )
    };
    let told =
        || state_of(error).is_some_and(|state| POSTGRES_AWAY.iter().any(|code| state.starts_with(code)));
    match error {
        DbErr::ConnectionAcquire(_) => true,
        error => of_driver(error).is_some_and(broken) || told(),
    }
}

fn of_driver(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => Some(error),
        _ => None,
    }
}

/// PostgreSQL's SQLSTATE. SQLite has numbers of its own, which look otherwise.
fn state_of(error: &DbErr) -> Option<String> {
    let code = of_driver(error)?.as_database_error()?.code()?;
    (code.len() == 5).then(|| code.into_owned())
}

#[derive(Clone)]
pub struct Database {
    readers: DatabaseConnection,
    writer: writer::Handle,
    location: Arc<Location>,
    outbox: Switch,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("location", &self.location).finish_non_exhaustive()
    }
}

impl Database {
    /// Opens a database. A file of SQLite's is made where there is none; on a server it has to be there.
    pub async fn open(location: &Location) -> Result<Self, Error> {
        // The writer comes first: it makes the file and turns the write-ahead log on.
        let writer = connect(location, false).await?;
        let readers = connect(location, true).await?;
        let location = Arc::new(location.clone());
        let outbox = Switch::default();
        let writer = writer::start(writer, Arc::clone(&location), outbox.clone());
        Ok(Self { readers, writer, location, outbox })
    }

    /// From here on changes keep the events that they put: somebody carries them on.
    pub fn keep_events(&self) {
        self.outbox.turn_on();
    }

    pub(crate) fn outbox(&self) -> &Switch {
        &self.outbox
    }

    #[must_use]
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// For reading outside a change. Sees what was committed before the call.
    ///
    /// Whoever has begun to read must be polled to the end: a future that is left alone meanwhile (another arm of a
    /// `select!` runs, a client does not take what a stream has) keeps one of the few connections from everybody.
    #[must_use]
    pub fn read(&self) -> &DatabaseConnection {
        &self.readers
    }

    /// Runs `change` and returns when it is durable. An `Err` from `change` undoes it, and it alone.
    /// A caller that goes away doesn't stop a change that is queued.
    pub async fn write<T, E, F>(&self, change: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: for<'a> FnOnce(&'a Tx) -> BoxFuture<'a, Result<T, E>> + Send + 'static,
    {
        self.writer.submit(change).await
    }

    /// Whether the database answers, for readiness.
    pub async fn ready(&self) -> Result<(), Error> {
        if !self.writer.at_work() {
            return Err(Error::Stopped("its writer has ended".into()));
        }
        let asked = self.readers.execute_unprepared("SELECT 1");
        let answered = tokio::time::timeout(READY_WAIT, asked).await;
        answered.map_err(|_| Error::Away("it does not answer".into()))??;
        Ok(())
    }
}

/// Connections for reading, or one for changes.
async fn connect(location: &Location, read_only: bool) -> Result<DatabaseConnection, Error> {
    match location {
        Location::Sqlite(path) => connect_sqlite(path, read_only).await,
        Location::Postgres(at) => Ok(postgres::connect(at, read_only).await?),
    }
}

async fn connect_sqlite(path: &std::path::Path, read_only: bool) -> Result<DatabaseConnection, Error> {
    let file = path.to_owned();
    let mut options = ConnectOptions::new("sqlite::memory:");
    options
        .max_connections(if read_only { READERS_MAX } else { 1 })
        .min_connections(1)
        .acquire_timeout(BUSY_WAIT)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .sqlx_logging(false)
        .map_sqlx_sqlite_opts(move |sqlite| {
            let sqlite = sqlite
                .in_memory(false)
                .shared_cache(false)
                .filename(&file)
                .busy_timeout(BUSY_WAIT)
                .foreign_keys(true)
                .statement_cache_capacity(STATEMENTS_KEPT);
            if read_only {
                sqlite.pragma("query_only", "ON")
            } else {
                sqlite
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
            }
        });
    Ok(sea_orm::Database::connect(options).await?)
}
