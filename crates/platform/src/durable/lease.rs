//! The lease of embedded workflows: one process at a time runs the turns of one database.
//!
//! Beside a file of SQLite's it is the operating system's lock on another file, on a server it is a lock of the
//! database's: free the moment its holder is gone, SIGKILL included, and nothing has to expire.

use std::{
    fs::File,
    io,
    path::Path,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use crate::database::{Location, Postgres, postgres};

const WAIT_MAX: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How often the server is asked whether the lock is still held, and how long it may take to say so.
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error(
        "another process runs the workflows of {0}: stop it, or give this one a database of its own (SA01_DB_DSN)"
    )]
    Held(String),
    #[error("the lock beside the database can't be taken: {0}")]
    Io(#[from] io::Error),
    #[error("the lock of the database can't be taken: {0}")]
    Server(#[from] sqlx::Error),
    #[error("the lock of the database can't be taken: the server does not answer within {PROBE_WAIT:?}")]
    Silent,
}

/// Held until dropped.
#[derive(Debug)]
pub struct Lease(Lock);

#[derive(Debug)]
enum Lock {
    File { _file: File },
    Server(postgres::Lock),
}

impl Lease {
    /// Waits a moment for a holder that is just ending: a process that it was about to start may have the file open for
    /// some milliseconds longer than itself.
    pub async fn acquire(database: &Location) -> Result<Self, LeaseError> {
        let started = Instant::now();
        loop {
            let acquired = match database {
                Location::Sqlite(path) => on_file(path),
                Location::Postgres(at) => on_server(at, database).await,
            };
            match acquired {
                Err(LeaseError::Held(_)) if started.elapsed() < WAIT_MAX => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                acquired => return acquired,
            }
        }
    }

    /// Watches over the lease until `stop`, and gives it back, to be dropped when what it is for has ended; nothing if the
    /// server was away by then. A server that went away has given the lock up: it is taken again, or, if another process
    /// has it by then, `stop` is cancelled, and the answer is [`LeaseError::Held`].
    pub async fn hold(
        mut self,
        database: Location,
        stop: CancellationToken,
    ) -> Result<Option<Self>, LeaseError> {
        while stop.run_until_cancelled(tokio::time::sleep(PROBE_EVERY)).await.is_some() {
            let Lock::Server(lock) = &mut self.0 else { continue };
            if matches!(tokio::time::timeout(PROBE_WAIT, lock.is_held()).await, Ok(Ok(()))) {
                continue;
            }
            // If its connection lasts all the same, it is this process that would find the lock held.
            drop(self);
            match Self::acquire_again(&database, &stop).await? {
                Some(again) => self = again,
                None => return Ok(None),
            }
        }
        Ok(Some(self))
    }

    async fn acquire_again(
        database: &Location,
        stop: &CancellationToken,
    ) -> Result<Option<Self>, LeaseError> {
        loop {
            match Self::acquire(database).await {
                Ok(again) => {
                    tracing::warn!("the database was away; its lock on workflows is held again");
                    return Ok(Some(again));
                }
                Err(held @ LeaseError::Held(_)) => {
                    tracing::error!(
                        "another process runs the workflows of this database now: this one stops"
                    );
                    stop.cancel();
                    return Err(held);
                }
                Err(error) => {
                    tracing::warn!(%error, "the database is away, and its lock on workflows with it")
                }
            }
            if stop.run_until_cancelled(tokio::time::sleep(PROBE_EVERY)).await.is_none() {
                return Ok(None);
            }
        }
    }
}

fn on_file(database: &Path) -> Result<Lease, LeaseError> {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    let file = File::options().create(true).truncate(false).write(true).open(&name)?;
    match file.try_lock() {
        Ok(()) => Ok(Lease(Lock::File { _file: file })),
        Err(std::fs::TryLockError::WouldBlock) => Err(LeaseError::Held(database.display().to_string())),
        Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

async fn on_server(at: &Postgres, name: &Location) -> Result<Lease, LeaseError> {
    let taken = tokio::time::timeout(PROBE_WAIT, postgres::Lock::take(at, postgres::WORKFLOWS)).await;
    let lock = taken.map_err(|_| LeaseError::Silent)??;
    lock.map(|lock| Lease(Lock::Server(lock))).ok_or_else(|| LeaseError::Held(name.to_string()))
}
