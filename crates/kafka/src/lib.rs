//! Kafka: carries events from the outbox ([`Bus`]), hands those from outside to whoever does what they ask for
//! ([`consume`]), and keeps those that nobody could handle ([`dead`]).

mod bus;
mod consumer;
pub mod dead;
mod names;

use std::{
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use platform::config::Kafka;
use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
};
use secrecy::ExposeSecret as _;

pub use bus::Bus;
pub use consumer::consume;

/// For a question about the cluster.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// For how long after they were last refused connections count as refused. They are tried each second.
const REFUSED_FOR: Duration = Duration::from_secs(15);

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
    let protocol = match (&kafka.tls, &kafka.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if let Some(tls) = &kafka.tls {
        // OpenSSL is compiled in, so it has to look where this system keeps its authorities.
        let authorities = tls.authorities.as_ref().map_or("probe".into(), |file| file.to_string_lossy());
        config.set("ssl.ca.location", authorities);
        if let Some(shown) = &tls.shown {
            config
                .set("ssl.certificate.location", shown.certificate.to_string_lossy())
                .set("ssl.key.location", shown.key.to_string_lossy());
        }
    }
    if let Some(sasl) = &kafka.sasl {
        config
            .set("sasl.mechanism", sasl.mechanism)
            .set("sasl.username", &sasl.username)
            .set("sasl.password", sasl.password.expose_secret());
    }
    config
}

/// What the library does beside answering.
#[derive(Clone, Default)]
struct Quiet {
    /// Why brokers did not let this program in, and when they last said so: an error itself is that there is no broker.
    refused: Arc<Mutex<Option<(String, Instant)>>>,
}

impl Quiet {
    fn refusal(&self) -> Option<String> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.as_ref().filter(|(_, at)| at.elapsed() < REFUSED_FOR).map(|(why, _)| why.clone())
    }

    /// An error in words.
    fn tell(&self, error: &impl Display) -> String {
        match self.refusal() {
            Some(why) => format!("{error}: {why}"),
            None => error.to_string(),
        }
    }
}

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, what: &str, message: &str) {
        tracing::debug!(what, message, "Kafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka");
        if matches!(code(&error), Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL)) {
            let said = (reason.to_owned(), Instant::now());
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
        }
    }
}

impl rdkafka::consumer::ConsumerContext for Quiet {}

fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    error.rdkafka_error_code()
}
