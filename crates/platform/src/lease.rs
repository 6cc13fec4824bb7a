//! A lease of a duty that one process at a time has for one database: to run its turns, or to carry its events.
//!
//! Beside a file of SQLite's it is the operating system's lock on another file, on a server it is a lock of the
//! database's: free the moment its holder is gone, SIGKILL included, and nothing has to expire.

use std::{
    fs::File,
    io,
    path::Path,
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    database::{Location, Postgres, postgres},
    task::outcome,
};

const WAIT_MAX: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How often the server is asked whether the lock is still held, and how long it may take to say so.
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_WAIT: Duration = Duration::from_secs(5);

/// What one process at a time does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Runs embedded workflows.
    Workflows,
    /// Carries events from the outbox to the bus.
    Relay,
}

impl Duty {
    fn as_str(self) -> &'static str {
        match self {
            Self::Workflows => "runs the workflows",
            Self::Relay => "carries the events",
        }
    }

    /// What the name of the file beside the database ends with.
    fn suffix(self) -> &'static str {
        match self {
            Self::Workflows => ".lock",
            Self::Relay => ".relay.lock",
        }
    }

    /// The number of the server's lock.
    fn number(self) -> i64 {
        match self {
            Self::Workflows => postgres::WORKFLOWS,
            Self::Relay => postgres::RELAY,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error(
        "another process {} of {database}: stop it, or give this one a database of its own (SA01_DB_DSN)", duty.as_str()
    )]
    Held { duty: Duty, database: String },
    #[error("the lock beside the database can't be taken: {0}")]
    Io(#[from] io::Error),
    #[error("the lock of the database can't be taken: {0}")]
    Server(#[from] sqlx::Error),
    #[error("the lock of the database can't be taken: the server does not answer within {PROBE_WAIT:?}")]
    Silent,
}

/// Held until dropped.
#[derive(Debug)]
pub struct Lease {
    duty: Duty,
    lock: Lock,
}

#[derive(Debug)]
enum Lock {
    File { _file: File },
    Server(postgres::Lock),
}

impl Lease {
    /// Waits a moment for a holder that is just ending: a process that it was about to start may have the file open for
    /// some milliseconds longer than itself.
    pub async fn acquire(database: &Location, duty: Duty) -> Result<Self, LeaseError> {
        let started = Instant::now();
        loop {
            match Self::try_acquire(database, duty).await? {
                Some(lease) => return Ok(lease),
                None if started.elapsed() < WAIT_MAX => tokio::time::sleep(LOOK_AGAIN).await,
                None => return Err(LeaseError::Held { duty, database: database.to_string() }),
            }
        }
    }

    /// `None` while another process holds it.
    pub async fn try_acquire(database: &Location, duty: Duty) -> Result<Option<Self>, LeaseError> {
        let lock = match database {
            Location::Sqlite(path) => on_file(path, duty)?,
            Location::Postgres(at) => on_server(at, duty).await?,
        };
        Ok(lock.map(|lock| Self { duty, lock }))
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
            let Lock::Server(lock) = &mut self.lock else { continue };
            if matches!(tokio::time::timeout(PROBE_WAIT, lock.is_held()).await, Ok(Ok(()))) {
                continue;
            }
            // If its connection lasts all the same, it is this process that would find the lock held.
            let duty = self.duty;
            drop(self);
            match Self::acquire_again(&database, duty, &stop).await? {
                Some(again) => self = again,
                None => return Ok(None),
            }
        }
        Ok(Some(self))
    }

    async fn acquire_again(
        database: &Location,
        duty: Duty,
        stop: &CancellationToken,
    ) -> Result<Option<Self>, LeaseError> {
        loop {
            match Self::acquire(database, duty).await {
                Ok(again) => {
                    tracing::warn!(?duty, "the database was away; its lock is held again");
                    return Ok(Some(again));
                }
                Err(held @ LeaseError::Held { .. }) => {
                    let does = duty.as_str();
                    tracing::error!("another process {does} of this database now: this one stops");
                    stop.cancel();
                    return Err(held);
                }
                Err(error) => {
                    tracing::warn!(%error, ?duty, "the database is away, and its lock with it")
                }
            }
            if stop.run_until_cancelled(tokio::time::sleep(PROBE_EVERY)).await.is_none() {
                return Ok(None);
            }
        }
    }
}

/// A lease that is watched over by a task of its own, from the first moment to the last.
#[derive(Debug)]
pub struct Kept {
    until: CancellationToken,
    lost: CancellationToken,
    task: JoinHandle<Result<Option<Lease>, LeaseError>>,
}

impl Lease {
    /// Watches over the lease until [`Kept::end`].
    #[must_use]
    pub fn keep(self, database: Location) -> Kept {
        let (until, lost) = (CancellationToken::new(), CancellationToken::new());
        let (stop, telling) = (until.clone(), lost.clone());
        let task = tokio::spawn(async move {
            let held = self.hold(database, stop).await;
            if held.is_err() {
                telling.cancel();
            }
            held
        });
        Kept { until, lost, task }
    }
}

impl Kept {
    /// Fires when another process has the duty.
    #[must_use]
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Gives the lease up; an error where it was lost before.
    pub async fn end(self) -> Result<(), LeaseError> {
        self.until.cancel();
        outcome(self.task).await.map(drop)
    }
}

fn on_file(database: &Path, duty: Duty) -> Result<Option<Lock>, LeaseError> {
    let mut name = database.as_os_str().to_owned();
    name.push(duty.suffix());
    let file = File::options().create(true).truncate(false).write(true).open(&name)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock::File { _file: file })),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

async fn on_server(at: &Postgres, duty: Duty) -> Result<Option<Lock>, LeaseError> {
    let taken = tokio::time::timeout(PROBE_WAIT, postgres::Lock::take(at, duty.number())).await;
    Ok(taken.map_err(|_| LeaseError::Silent)??.map(Lock::Server))
}
