//! The database: many readers, one writer, and commits shared by all who wait for one.
//!
//! SQLite takes one writer at a time and pays one disk sync a commit. So every change goes through one queue, whose
//! task runs all waiting changes in one `BEGIN IMMEDIATE` transaction (each in a savepoint of its own, so that one
//! failure undoes only itself) and answers nobody before the commit is on disk.
//!
//! Nothing is written outside [`Database::write`]. SQL itself stands only in stores.

mod migrate;
mod row;
#[cfg(test)]
mod tests;
mod writer;

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use sea_orm::{
    ConnectOptions, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr,
    sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous},
};

pub use migrate::{Migration, MigrationTrait, migrate, pending};
pub use row::{Param, Row, Sql};
pub use sea_orm::Value;
pub use sea_orm_migration::MigratorTrait;

/// A change in progress; it is on disk once [`Database::write`] has returned.
pub type Tx = DatabaseTransaction;

/// Connections for reading. Each holds a page cache, so this bounds memory too.
const READERS_MAX: u32 = 4;
/// How long a change waits for another process (a command line beside the server) that holds the write lock.
const BUSY_WAIT: Duration = Duration::from_secs(10);
/// Prepared statements kept by each connection.
const STATEMENTS_KEPT: usize = 256;

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("the disk is full: nothing was stored; free some space and send it again")]
    Full,
    #[error("the database can't be written: {0}")]
    Stopped(String),
    #[error("the change's own code panicked: nothing was stored")]
    Panicked,
    #[error("database: {0}")]
    Query(Arc<DbErr>),
    #[error("the database holds what no version of this program writes: {0}")]
    Corrupt(String),
}

/// SQLite's codes for "database or disk is full" and for an input/output error while writing.
const SQLITE_FULL: [&str; 2] = ["(code: 13)", "database or disk is full"];

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        let text = error.to_string();
        if SQLITE_FULL.iter().any(|mark| text.contains(mark)) || text.contains("No space left") {
            return Self::Full;
        }
        Self::Query(Arc::new(error))
    }
}

#[derive(Clone)]
pub struct Database {
    readers: DatabaseConnection,
    writer: writer::Handle,
    path: PathBuf,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Database {
    /// Opens (and makes, when absent) the SQLite file at `path`.
    pub async fn open(path: PathBuf) -> Result<Self, Error> {
        // The writer comes first: it makes the file and turns the write-ahead log on.
        let writer = connect(&path, 1, false).await?;
        let readers = connect(&path, READERS_MAX, true).await?;
        Ok(Self { readers, writer: writer::start(writer, path.clone()), path })
    }

    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.path
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
        self.readers.execute_unprepared("SELECT 1").await?;
        Ok(())
    }
}

async fn connect(
    path: &std::path::Path,
    connections: u32,
    read_only: bool,
) -> Result<DatabaseConnection, Error> {
    let file = path.to_owned();
    let mut options = ConnectOptions::new("sqlite::memory:");
    options
        .max_connections(connections)
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
