//! What processes of one install share beside the database, on a Redis server: that a run has new events, and how many
//! requests were made. Nothing here is the truth of anything. Without the server readers look at the database more often,
//! and each process counts for itself, with less to give.

mod counts;
#[cfg(test)]
mod tests;
mod wakes;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use contracts::RunId;
use redis::{
    AsyncCommands as _, Client, ErrorKind, RedisError,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::sync::CancellationToken;

pub use counts::{Counts, Wanted};

/// For a connection, and for an answer: a request waits for it.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const ANSWER_TIMEOUT: Duration = Duration::from_millis(250);
/// Tries of a connection before a call that needs it fails. The next call tries again.
const RETRIES: usize = 0;
/// How often a process says that it is there, and for how long that counts.
const PRESENT_EVERY: Duration = Duration::from_secs(2);
const PRESENT_FOR_MS: i64 = 10_000;
const PROCESSES: &str = "soma:processes";
/// How many processes there may be while the server has never said.
const PROCESSES_UNKNOWN: u32 = 8;

/// `redis://[USER[:PASSWORD]@]HOST[:PORT][/NUMBER]`, or `rediss://` for TLS. Never printed: it may hold a password.
#[derive(Clone)]
pub struct Address(SecretString);

impl Address {
    /// # Errors
    /// What is expected of the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = "expected `embedded:`, or redis(s)://[USER[:PASSWORD]@]HOST[:PORT][/NUMBER]";
        let networked = text.starts_with("redis://") || text.starts_with("rediss://");
        match Client::open(text) {
            Ok(_) if networked => Ok(Self(text.to_owned().into())),
            _ => Err(expected.to_owned()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address(..)")
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl Eq for Address {}

/// The address can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{}", told(.0))]
pub struct Error(#[from] RedisError);

/// A server. Clones share its connection, which is made when it is first needed, and again when it broke.
#[derive(Clone)]
pub struct Redis {
    client: Client,
    connection: ConnectionManager,
    /// Processes that use the server, as it last said.
    processes: Arc<AtomicU32>,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("processes", &self.processes).finish_non_exhaustive()
    }
}

impl Redis {
    /// Connects to nobody yet.
    pub fn new(address: &Address) -> Result<Self, Error> {
        let client = Client::open(address.0.expose_secret())?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT))
            .set_number_of_retries(RETRIES);
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), config)?;
        Ok(Self { client, connection, processes: Arc::new(AtomicU32::new(PROCESSES_UNKNOWN)) })
    }

    /// Whether it answers, for readiness.
    pub async fn ready(&self) -> Result<(), Error> {
        Ok(self.connection.clone().ping::<()>().await?)
    }

    /// Processes among which what there is for all is divided while the server is away.
    fn processes(&self) -> u32 {
        self.processes.load(Ordering::Relaxed).max(1)
    }

    /// Until `stop`: says that this process is there, and learns how many there are.
    async fn be_present(self, stop: CancellationToken) {
        let name = RunId::new().to_string();
        while let Some(present) = stop.run_until_cancelled(self.say_present(&name)).await {
            match present {
                Ok(processes) => self.processes.store(processes, Ordering::Relaxed),
                // Whoever hears wakes says it aloud, once.
                Err(error) => tracing::debug!(error = told(&error), "Redis is away"),
            }
            if stop.run_until_cancelled(tokio::time::sleep(PRESENT_EVERY)).await.is_none() {
                break;
            }
        }
        // Whoever is left may have it all at once.
        let gone: Result<(), RedisError> = self.connection.clone().zrem(PROCESSES, &name).await;
        drop(gone);
    }

    async fn say_present(&self, name: &str) -> Result<u32, RedisError> {
        let mut connection = self.connection.clone();
        // The server's clock: those of its clients may differ.
        let (seconds, _): (i64, i64) = redis::cmd("TIME").query_async(&mut connection).await?;
        let now = seconds.saturating_mul(1000);
        let (count,): (u32,) = redis::pipe()
            .atomic()
            .zadd(PROCESSES, name, now)
            .ignore()
            .zrembyscore(PROCESSES, i64::MIN, now - PRESENT_FOR_MS)
            .ignore()
            .zcard(PROCESSES)
            .query_async(&mut connection)
            .await?;
        Ok(count)
    }
}

/// What may be said of an error: not the server's own words, in which a command may stand.
fn told(error: &RedisError) -> &'static str {
    match error.kind() {
        ErrorKind::Io if error.is_timeout() => "no answer in time",
        ErrorKind::Io => "it can't be reached, or the connection broke",
        ErrorKind::AuthenticationFailed => "it does not take the password",
        _ => "it refused a command",
    }
}
