//! Kafka: carries events from the outbox ([`Bus`]), hands those from outside to whoever does what they ask for
//! ([`consume`]), and keeps those that nobody could handle ([`dead`]).

mod bus;
mod consumer;
pub mod dead;
mod names;

use std::time::Duration;

use platform::config::Kafka;
use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
};

pub use bus::Bus;
pub use consumer::consume;

/// For a question about the cluster.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    #[error("{0}")]
    NotThere(String),
}

/// What every client of the cluster is told.
fn client(kafka: &Kafka) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &kafka.servers)
        .set("client.id", "soma")
        .set("socket.timeout.ms", "10000")
        .set("socket.connection.setup.timeout.ms", "5000")
        .set("reconnect.backoff.max.ms", "1000")
        .set("topic.metadata.refresh.interval.ms", "30000")
        // Where a broker is away it says so each second; whoever uses the client says it once.
        .set_log_level(RDKafkaLogLevel::Emerg);
    config
}

/// What the library does beside answering.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, what: &str, message: &str) {
        tracing::debug!(what, message, "Kafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka");
    }
}

impl rdkafka::consumer::ConsumerContext for Quiet {}

fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    error.rdkafka_error_code()
}
