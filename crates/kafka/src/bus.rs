//! The bus: an idempotent producer, whose letters count once all replicas that are in sync have them.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use contracts::events::{BusError, EventBus, Letter};
use futures::future::join_all;
use platform::{config::Kafka, task::outcome};
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer as _, PurgeConfig},
};

use crate::{Error, Quiet, code, names};

/// How long a letter is tried before the cluster counts as away.
const LETTER_WAIT_MS: &str = "10000";
/// Longer than all letters of a call are tried: a producer that has not answered for one by then never will.
const SEND_WAIT: Duration = Duration::from_secs(30);
/// For so long a producer may bring nothing to the cluster; then another takes its place. The library's may stay where
/// they are for good, when brokers went away and came back while letters were on their way.
const SILENT_MAX: Duration = Duration::from_secs(30);
/// The same for who only asks whether the cluster is there.
const UNREADY_MAX: Duration = Duration::from_secs(300);
/// How long topics that could not be made are left alone.
const MAKE_AGAIN: Duration = Duration::from_secs(30);
/// For readiness.
const READY_WAIT: Duration = Duration::from_secs(2);

type Producer = FutureProducer<Quiet>;

pub struct Bus {
    kafka: Kafka,
    /// What the brokers said to the producer.
    quiet: Quiet,
    sending: Mutex<Sending>,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("kafka", &self.kafka).finish_non_exhaustive()
    }
}

struct Sending {
    /// Replaced when it has failed for good, or brings nothing to the cluster.
    producer: Arc<Producer>,
    silent_since: Option<Instant>,
    unready_since: Option<Instant>,
    /// When topics that may be missing are to be made.
    make_topics_at: Option<Instant>,
    /// Whether the cluster has been asked to.
    topics_made: bool,
}

/// Letters that nobody waits for any more are not sent: whoever carries after this one sends them.
struct Waiting(Option<Arc<Producer>>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(producer) = self.0.take() {
            tokio::task::spawn_blocking(move || forget(&producer));
        }
    }
}

fn forget(producer: &Producer) {
    producer.purge(PurgeConfig::default().queue().inflight());
}

/// What is sent, whole.
pub(crate) struct Parcel {
    pub topic: String,
    pub key: Vec<u8>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub payload: Vec<u8>,
    /// The longest payload that such a letter may have.
    pub bytes_max: usize,
}

impl Bus {
    /// Connects to nobody yet.
    pub fn new(kafka: Kafka) -> Result<Self, Error> {
        let quiet = Quiet::default();
        let producer = Arc::new(producer(&kafka, &quiet)?);
        let make_topics_at = Some(Instant::now());
        let sending = Mutex::new(Sending {
            producer,
            silent_since: None,
            unready_since: None,
            make_topics_at,
            topics_made: false,
        });
        Ok(Self { kafka, quiet, sending })
    }

    pub(crate) fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    fn sending(&self) -> MutexGuard<'_, Sending> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn producer(&self) -> Arc<Producer> {
        Arc::clone(&self.sending().producer)
    }

    /// Puts another in the producer's place.
    fn replace(&self, why: &str) {
        tracing::warn!(why, "the producer is made anew");
        let new = match producer(&self.kafka, &self.quiet) {
            Ok(new) => Arc::new(new),
            Err(error) => return tracing::error!(%error, "the producer can't be made anew"),
        };
        let mut sending = self.sending();
        sending.silent_since = None;
        sending.unready_since = None;
        let old = std::mem::replace(&mut sending.producer, new);
        drop(sending);
        // Its end is waited for, and not here. What it still has is not sent: whoever gave it to it does so again.
        tokio::task::spawn_blocking(move || {
            forget(&old);
            drop(old);
        });
    }

    /// For how long nothing has come to the cluster. What is too long for it says nothing about that.
    fn silent_for(&self, results: &[Result<(), BusError>]) -> Duration {
        let mut sending = self.sending();
        if results.iter().any(|result| matches!(result, Ok(()) | Err(BusError::Refused(_)))) {
            sending.silent_since = None;
        } else if results.iter().any(|result| matches!(result, Err(BusError::Away(_)))) {
            sending.silent_since.get_or_insert_with(Instant::now);
        }
        sending.silent_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// For how long no broker has answered who only asks. Brokers that answer may still bring nothing on.
    fn unready_for(&self, answered: bool) -> Duration {
        let mut sending = self.sending();
        if answered {
            sending.unready_since = None;
        } else {
            sending.unready_since.get_or_insert_with(Instant::now);
        }
        sending.unready_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Makes topics that may be missing, if it is time for that. The first time nothing is sent before.
    async fn make_topics(&self) -> Result<(), Error> {
        let first = {
            let sending = self.sending();
            if sending.make_topics_at.is_none_or(|at| at > Instant::now()) {
                return Ok(());
            }
            !sending.topics_made
        };
        let made = names::make_missing(&self.kafka, first).await;
        let mut sending = self.sending();
        match made {
            Err(error) if first => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "topics that may be missing were not made");
                sending.make_topics_at = Some(Instant::now() + MAKE_AGAIN);
            }
            Ok(again) => {
                sending.topics_made = true;
                sending.make_topics_at = again.then(|| Instant::now() + MAKE_AGAIN);
            }
        }
        Ok(())
    }

    /// Sends parcels in this order, and answers for each.
    pub(crate) async fn send(&self, parcels: Vec<Parcel>) -> Vec<Result<(), BusError>> {
        if let Err(error) = self.make_topics().await {
            // The producer has tried by itself, and heard why not.
            return vec![Err(BusError::Away(self.quiet.tell(&error))); parcels.len()];
        }
        let producer = self.producer();
        let sent: Vec<_> = parcels
            .iter()
            .map(|parcel| {
                if parcel.payload.len() > parcel.bytes_max {
                    return Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge));
                }
                let record = FutureRecord::to(&parcel.topic)
                    .key(&parcel.key)
                    .payload(&parcel.payload)
                    .headers(headers(&parcel.headers));
                producer.send_result(record).map_err(|(error, _)| error)
            })
            .collect();
        let answers = join_all(sent.into_iter().map(|sent| async move {
            match sent?.await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err((error, _))) => Err(error),
                Err(_) => Err(KafkaError::Canceled),
            }
        }));
        let mut waiting = Waiting(Some(Arc::clone(&producer)));
        let answers = tokio::time::timeout(SEND_WAIT, answers).await;
        waiting.0 = None;
        let fatal = producer.client().fatal_error();
        // Before it is replaced: whoever has it last waits for its end.
        drop(producer);
        let Ok(answers) = answers else {
            self.replace("it has not answered for all letters");
            return vec![Err(BusError::Away("the producer does not answer".into())); parcels.len()];
        };
        let results: Vec<_> =
            answers.into_iter().map(|answer| answer.map_err(|error| told(&error, &self.quiet))).collect();
        if results.iter().any(|result| matches!(result, Err(BusError::Refused(_)))) {
            // Perhaps for want of its topic.
            self.sending().make_topics_at.get_or_insert_with(|| Instant::now() + MAKE_AGAIN);
        }
        let silent = self.silent_for(&results);
        if let Some((_, why)) = fatal {
            self.replace(&why);
        } else if silent > SILENT_MAX {
            self.replace("nothing has come to the cluster for a while");
        }
        results
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
            bytes_max: names::LETTER_BYTES_MAX,
        };
        self.send(letters.into_iter().map(parcel).collect()).await
    }

    async fn ready(&self) -> Result<(), BusError> {
        let producer = self.producer();
        let asked = move || producer.client().fetch_metadata(None, READY_WAIT).map(drop);
        let answered = outcome(tokio::task::spawn_blocking(asked)).await;
        // A process that only asks may have certificates whose time is over.
        if self.unready_for(answered.is_ok()) > UNREADY_MAX {
            self.replace("no broker has answered for a while");
        }
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
        // With its key and headers.
        .set("message.max.bytes", (2 * names::DEAD_LETTER_BYTES_MAX).to_string())
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
