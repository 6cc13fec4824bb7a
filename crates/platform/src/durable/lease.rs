//! The lease of embedded workflows: one process at a time runs the turns of one database.
//!
//! It is the operating system's lock on a file beside the database, so it is free the moment its holder is gone,
//! SIGKILL included, and nothing has to expire.

use std::{fs::File, io, path::Path};

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
    pub fn acquire(database: &Path) -> Result<Self, LeaseError> {
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
