//! The bus: an idempotent producer, whose letters count once all replicas that are in sync have them.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use contracts::events::{BusError, EventBus, Letter};
use futures::future::join_all;
use platform::{config::Kafka, task::outcome};
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer as _},
};

use crate::{Error, Quiet, code, names};

/// How long a letter is tried before the cluster counts as away.
const LETTER_WAIT_MS: &str = "10000";
/// For readiness.
const READY_WAIT: Duration = Duration::from_secs(2);

type Producer = FutureProducer<Quiet>;

pub struct Bus {
    kafka: Kafka,
    /// What the brokers said to the producer.
    quiet: Quiet,
    /// Replaced when it has failed for good.
    producer: Mutex<Arc<Producer>>,
    /// Whether missing topics were made.
    made: AtomicBool,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("kafka", &self.kafka).finish_non_exhaustive()
    }
}

/// What is sent, whole.
pub(crate) struct Parcel {
    pub topic: String,
    pub key: Vec<u8>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub payload: Vec<u8>,
}

impl Bus {
    /// Connects to nobody yet.
    pub fn new(kafka: Kafka) -> Result<Self, Error> {
        let quiet = Quiet::default();
        let producer = Mutex::new(Arc::new(producer(&kafka, &quiet)?));
        Ok(Self { kafka, quiet, producer, made: AtomicBool::new(false) })
    }

    pub(crate) fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    fn producer(&self) -> Arc<Producer> {
        Arc::clone(&self.producer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A producer that has failed for good can send no more.
    fn replace(&self) -> Result<(), Error> {
        let new = Arc::new(producer(&self.kafka, &self.quiet)?);
        let old = std::mem::replace(&mut *self.producer.lock().unwrap_or_else(PoisonError::into_inner), new);
        // Its end is waited for, and not here.
        tokio::task::spawn_blocking(move || drop(old));
        Ok(())
    }

    /// Sends parcels in this order, and answers for each.
    pub(crate) async fn send(&self, parcels: Vec<Parcel>) -> Vec<Result<(), BusError>> {
        if !self.made.load(Ordering::Relaxed) {
            match names::make_missing(&self.kafka).await {
                Ok(()) => self.made.store(true, Ordering::Relaxed),
                // The producer has tried by itself, and heard why not.
                Err(error) => return vec![Err(BusError::Away(self.quiet.tell(&error))); parcels.len()],
            }
        }
        let producer = self.producer();
        let sent: Vec<_> = parcels
            .iter()
            .map(|parcel| {
                let record = FutureRecord::to(&parcel.topic)
                    .key(&parcel.key)
                    .payload(&parcel.payload)
                    .headers(headers(&parcel.headers));
                producer.send_result(record).map_err(|(error, _)| error)
            })
            .collect();
        let results = join_all(sent.into_iter().map(|sent| async move {
            match sent?.await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err((error, _))) => Err(error),
                Err(_) => Err(KafkaError::Canceled),
            }
        }))
        .await;
        if producer.client().fatal_error().is_some()
            && let Err(error) = self.replace()
        {
            tracing::error!(%error, "the producer can't be made anew");
        }
        results.into_iter().map(|result| result.map_err(|error| told(&error, &self.quiet))).collect()
    }
}

#[async_trait::async_trait]
impl EventBus for Bus {
    async fn publish(&self, letters: Vec<Letter>) -> Vec<Result<(), BusError>> {
        let parcel = |letter: Letter| Parcel {
            topic: names::of(&self.kafka, letter.topic),
            key: letter.key.into_bytes(),
            headers: letter
                .headers
                .into_iter()
                .map(|header| (header.name, header.value.into_bytes()))
                .collect(),
            payload: letter.payload.into_bytes(),
        };
        self.send(letters.into_iter().map(parcel).collect()).await
    }

    async fn ready(&self) -> Result<(), BusError> {
        let producer = self.producer();
        let asked = move || producer.client().fetch_metadata(None, READY_WAIT).map(drop);
        let answered = outcome(tokio::task::spawn_blocking(asked)).await;
        answered.map_err(|error| match self.quiet.refusal() {
            Some(why) => BusError::Refused(why),
            None => BusError::Away(error.to_string()),
        })
    }
}

fn producer(kafka: &Kafka, quiet: &Quiet) -> Result<Producer, Error> {
    let mut config = crate::client(kafka);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", LETTER_WAIT_MS)
        .set("message.max.bytes", names::LETTER_BYTES_MAX)
        .set("compression.type", "lz4")
        .set("linger.ms", "2")
        // The same as Java's clients, so that a key is in the same partition whoever writes it.
        .set("partitioner", "murmur2_random");
    Ok(config.create_with_context(quiet.clone())?)
}

pub(crate) fn headers(of: &[(String, Vec<u8>)]) -> OwnedHeaders {
    of.iter().fold(OwnedHeaders::new_with_capacity(of.len()), |headers, (name, value)| {
        headers.insert(Header { key: name, value: Some(value) })
    })
}

fn told(error: &KafkaError, context: &Quiet) -> BusError {
    let text = context.tell(error);
    match code(error) {
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
            BusError::Impossible(text)
        }
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::InvalidRecord
            | RDKafkaErrorCode::PolicyViolation,
        ) => BusError::Refused(text),
        _ => BusError::Away(text),
    }
}
