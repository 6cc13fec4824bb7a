//! The lease of embedded workflows: one process at a time runs the turns of one database.
//!
//! It is the operating system's lock on a file beside the database, so it is free the moment its holder is gone,
//! SIGKILL included, and nothing has to expire.

use std::{
    fs::File,
    io,
    path::Path,
    time::{Duration, Instant},
};

const WAIT_MAX: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error(
        "another process runs the workflows of {0}: stop it, or give this one a database of its own (SA01_DB_DSN)"
    )]
    Held(String),
    #[error("the lock beside the database can't be taken: {0}")]
    Io(#[from] io::Error),
}

/// Held until dropped.
#[derive(Debug)]
pub struct Lease {
    _file: File,
}

impl Lease {
    /// Waits a moment for a holder that is just ending: a process that it was about to start may have the file open for
    /// some milliseconds longer than itself.
    pub async fn acquire(database: &Path) -> Result<Self, LeaseError> {
        let started = Instant::now();
        loop {
            match Self::try_acquire(database) {
                Err(LeaseError::Held(_)) if started.elapsed() < WAIT_MAX => {
                    tokio::time::sleep(LOOK_AGAIN).await
                }
                acquired => return acquired,
            }
        }
    }

    fn try_acquire(database: &Path) -> Result<Self, LeaseError> {
        let mut name = database.as_os_str().to_owned();
        name.push(".lock");
        let file = File::options().create(true).truncate(false).write(true).open(&name)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(std::fs::TryLockError::WouldBlock) => Err(LeaseError::Held(database.display().to_string())),
            Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
        }
    }
}
