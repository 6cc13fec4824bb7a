//! What a job is, and how it ended.

use crate::language::Language;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Code to run, and where.
#[derive(Clone, Debug)]
pub struct Job {
    pub language: Language,
    /// The program's text; at most [`crate::CODE_BYTES_MAX`].
    pub code: String,
    /// An existing directory. It is `/workspace` inside: the working directory and the only place that is kept.
    pub workspace: PathBuf,
    pub limits: Limits,
}

/// What one job may use. Units are in the names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// CPU time of all processes together where cgroups count it, else of each process.
    pub cpu_seconds: u64,
    /// Memory of all processes together where there are cgroups, else address space of each process.
    pub memory_bytes: u64,
    /// Processes and threads alive at once.
    pub processes: u64,
    /// The largest file the code may write.
    pub file_bytes: u64,
    /// How much of stdout, and how much of stderr, is kept.
    pub output_bytes: usize,
    /// Time from the start of [`crate::Sandbox::run`]'s work to its end.
    pub wall: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            cpu_seconds: 15,
            memory_bytes: 512 * 1024 * 1024,
            processes: 64,
            file_bytes: 64 * 1024 * 1024,
            output_bytes: 64 * 1024,
            wall: Duration::from_secs(60),
        }
    }
}

/// What came of a job that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub outcome: Outcome,
    /// Bytes that are not UTF-8 became U+FFFD.
    pub stdout: String,
    pub stderr: String,
    /// Whether stdout or stderr was longer than `Limits::output_bytes`.
    pub truncated: bool,
    pub duration: Duration,
}

impl Report {
    pub(crate) fn cancelled_before_it_started() -> Report {
        Report {
            outcome: Outcome::Cancelled,
            stdout: String::new(),
            stderr: String::new(),
            truncated: false,
            duration: Duration::ZERO,
        }
    }
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// With this exit code. As in a shell, 128 and a signal's number means a signal, so that is `Signalled`.
    Exited(i32),
    Signalled(i32),
    /// The wall time or the CPU time was used up.
    TimedOut,
    OutOfMemory,
    Cancelled,
}

/// Why a job could not be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this host cannot run {}", .0.as_str())]
    NoSuchLanguage(Language),
    #[error("the code has {bytes} bytes, more than {}", crate::CODE_BYTES_MAX)]
    CodeTooLong { bytes: usize },
    #[error("the workspace {} cannot be used", path.display())]
    Workspace {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{what} could not be made")]
    Start {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the limits could not be set: {what}")]
    Limit {
        what: String,
        #[source]
        source: io::Error,
    },
    /// bubblewrap ended before the code began.
    #[error("bubblewrap failed: {0}")]
    Setup(String),
    /// The kernel did not end the job's processes in time.
    #[error("processes of the job outlived it")]
    Survivors,
    #[error("the thread that ran the job is gone")]
    Lost,
}

impl Error {
    pub(crate) fn start(what: &'static str, source: io::Error) -> Error {
        Error::Start { what, source }
    }
}
