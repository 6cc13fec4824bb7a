//! Dead letters: events from outside that nobody could handle, in a topic of their own, with their bytes and the reason.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use contracts::events::{BusError, Received, Topic};
use data_encoding::BASE64;
use platform::{config::Kafka, durable::unix_ms, task::outcome};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    types::RDKafkaErrorCode,
};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use crate::{ANSWER_WAIT, Bus, Error, Quiet, bus::Parcel, code, consumer::received, names};

/// Whose place in a topic of dead letters says up to where they were sent again.
const GROUP: &str = "soma.dlq";
/// Dead letters that are sent again before their place is noted.
const TOGETHER: usize = 500;
/// More of a reason is not kept.
const REASON_BYTES_MAX: usize = 4096;
/// How long reading to the end of a topic may take.
const READ_WAIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);

/// Why an event is dead.
pub(crate) struct Reason {
    pub code: String,
    pub message: String,
    pub tries: u32,
}

/// A dead letter's payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Payload {
    /// The event's own text.
    #[serde(skip_serializing_if = "Option::is_none")]
    original_event: Option<String>,
    /// Its bytes, where they are no text, or one that is longer in JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    original_event_base64: Option<String>,
    source_topic: String,
    error_message: String,
    error_type: String,
    retry_count: u32,
    /// Milliseconds since 1970.
    timestamp: i64,
}

pub(crate) async fn bury(bus: &Bus, event: &Received, reason: &Reason) -> Result<(), BusError> {
    let mut payload = Payload {
        original_event: None,
        original_event_base64: None,
        source_topic: names::of(bus.kafka(), event.topic),
        error_message: shortened(&reason.message),
        error_type: reason.code.clone(),
        retry_count: reason.tries,
        timestamp: unix_ms(),
    };
    let in_base64 = BASE64.encode(&event.payload);
    match String::from_utf8(event.payload.clone()) {
        Ok(text) if json_bytes(&text) <= in_base64.len() => payload.original_event = Some(text),
        _ => payload.original_event_base64 = Some(in_base64),
    }
    let parcel = |payload: &Payload, key, headers| Parcel {
        topic: names::of_dead(bus.kafka(), event.topic),
        key,
        headers,
        payload: serde_json::to_vec(payload).unwrap_or_default(),
        bytes_max: names::DEAD_LETTER_BYTES_MAX,
    };
    let whole = bus
        .send(vec![parcel(&payload, event.key.clone(), event.headers.clone())])
        .await
        .into_iter()
        .collect();
    let Err(BusError::Impossible(_)) = whole else { return whole };
    // An operator's topic may take shorter letters only. What is behind this one must not wait for ever.
    payload.original_event = None;
    payload.original_event_base64 = None;
    let bytes = event.payload.len();
    payload.error_message =
        format!("{} (its {bytes} bytes are too many for this topic)", payload.error_message);
    tracing::error!(topic = %event.topic, bytes, "the topic of dead letters does not take an event's bytes: they are left out");
    bus.send(vec![parcel(&payload, Vec::new(), Vec::new())]).await.into_iter().collect()
}

/// A text's length as JSON.
fn json_bytes(text: &str) -> usize {
    serde_json::to_string(text).map_or(usize::MAX, |json| json.len())
}

/// A fault of an event may quote all of it.
fn shortened(reason: &str) -> String {
    match reason.get(..reason.floor_char_boundary(REASON_BYTES_MAX)) {
        Some(first) if first.len() < reason.len() => format!("{first}…"),
        _ => reason.to_owned(),
    }
}

/// A dead letter, as it lies in its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub topic: Topic,
    pub partition: i32,
    pub offset: i64,
    pub key: Vec<u8>,
    pub headers: Vec<(String, Vec<u8>)>,
    /// The event's own bytes; `None` where they were too many for the topic.
    pub original: Option<Vec<u8>>,
    pub error_type: String,
    pub error_message: String,
    pub retry_count: u32,
    /// Milliseconds since 1970.
    pub at: i64,
}

/// Which dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    All,
    /// Those that were not sent again yet.
    Open,
    At {
        partition: i32,
        offset: i64,
    },
}

/// Dead letters of a topic, in the order of their partitions; at most `limit`.
pub async fn list(kafka: &Kafka, topic: Topic, which: Which, limit: usize) -> Result<Vec<DeadLetter>, Error> {
    let kafka = kafka.clone();
    outcome(spawn_blocking(move || read(&reader(&kafka)?, &kafka, topic, which, limit))).await
}

/// Sends events again to where they came from, and notes the place of those that were open. Answers how many. Those that
/// come back meanwhile are left for the next time.
pub async fn replay(bus: &Bus, topic: Topic, which: Which) -> Result<usize, Error> {
    let began = unix_ms();
    let mut later = HashSet::new();
    let mut sent = 0;
    loop {
        let letters = list(bus.kafka(), topic, which, TOGETHER).await?;
        if let (Which::At { partition, offset }, []) = (which, letters.as_slice()) {
            return Err(Error::NotThere(format!("{topic} has no dead letter at {partition}:{offset}")));
        }
        let full = letters.len() == TOGETHER;
        let before = sent;
        let mut places: HashMap<i32, i64> = HashMap::new();
        for letter in letters {
            if which == Which::Open && letter.at > began {
                // With all behind it: a place that is noted is past all before it.
                later.insert(letter.partition);
            }
            if later.contains(&letter.partition) {
                continue;
            }
            let Some(payload) = letter.original else {
                if which != Which::Open {
                    return Err(Error::NotThere("its bytes were too many to be kept".to_owned()));
                }
                places.insert(letter.partition, letter.offset + 1);
                continue;
            };
            let parcel = Parcel {
                topic: names::of(bus.kafka(), topic),
                key: letter.key,
                headers: letter.headers,
                payload,
                bytes_max: names::LETTER_BYTES_MAX,
            };
            let result: Result<(), _> = bus.send(vec![parcel]).await.into_iter().collect();
            if let Err(error) = result {
                note(bus.kafka(), topic, which, places).await?;
                return Err(Error::NotThere(format!("{sent} were sent again, and then: {error}")));
            }
            places.insert(letter.partition, letter.offset + 1);
            sent += 1;
        }
        note(bus.kafka(), topic, which, places).await?;
        if which != Which::Open || !full || sent == before {
            return Ok(sent);
        }
    }
}

async fn note(kafka: &Kafka, topic: Topic, which: Which, places: HashMap<i32, i64>) -> Result<(), Error> {
    if which != Which::Open || places.is_empty() {
        return Ok(());
    }
    let kafka = kafka.clone();
    let commit = move || {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in places {
            list.add_partition_offset(&names::of_dead(&kafka, topic), partition, Offset::Offset(offset))?;
        }
        Ok(reader(&kafka)?.commit(&list, CommitMode::Sync)?)
    };
    outcome(spawn_blocking(commit)).await
}

fn reader(kafka: &Kafka) -> Result<BaseConsumer<Quiet>, Error> {
    let mut config = crate::client(kafka);
    config
        .set("group.id", format!("{}{GROUP}", kafka.prefix))
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "false")
        .set("auto.offset.reset", "earliest");
    Ok(config.create_with_context(Quiet::default())?)
}

fn read(
    consumer: &BaseConsumer<Quiet>,
    kafka: &Kafka,
    topic: Topic,
    which: Which,
    limit: usize,
) -> Result<Vec<DeadLetter>, Error> {
    let name = names::of_dead(kafka, topic);
    let metadata = consumer.fetch_metadata(Some(&name), ANSWER_WAIT)?;
    let partitions: Vec<i32> = metadata
        .topics()
        .iter()
        .filter(|found| found.name() == name && found.error().is_none())
        .flat_map(|found| found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id))
        .collect();
    let mut wanted = TopicPartitionList::new();
    let mut ends = HashMap::new();
    for partition in partitions {
        let (low, high) = match consumer.fetch_watermarks(&name, partition, ANSWER_WAIT) {
            Ok(marks) => marks,
            Err(error) if code(&error) == Some(RDKafkaErrorCode::UnknownTopicOrPartition) => continue,
            Err(error) => return Err(error.into()),
        };
        let (from, to) = match which {
            Which::All => (low, high),
            Which::Open => (noted_place(consumer, &name, partition)?.unwrap_or(low).max(low), high),
            Which::At { partition: at, offset } if at == partition => (offset.max(low), high.min(offset + 1)),
            Which::At { .. } => continue,
        };
        if from < to {
            wanted.add_partition_offset(&name, partition, Offset::Offset(from))?;
            ends.insert(partition, to);
        }
    }
    let mut letters = Vec::new();
    if ends.is_empty() {
        return Ok(letters);
    }
    consumer.assign(&wanted)?;
    let began = Instant::now();
    while !ends.is_empty() && letters.len() < limit {
        if began.elapsed() > READ_WAIT {
            return Err(Error::NotThere(format!("{name} could not be read to its end within {READ_WAIT:?}")));
        }
        let Some(message) = consumer.poll(POLL) else { continue };
        let message = message?;
        let Some(end) = ends.get(&message.partition()) else { continue };
        let last = message.offset() + 1 >= *end;
        if message.offset() < *end {
            letters.push(letter(topic, message.partition(), message.offset(), received(topic, &message)));
        }
        if last {
            ends.remove(&message.partition());
        }
    }
    letters.sort_by_key(|letter| (letter.partition, letter.offset));
    Ok(letters)
}

fn noted_place(consumer: &BaseConsumer<Quiet>, name: &str, partition: i32) -> Result<Option<i64>, Error> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition(name, partition);
    let committed = consumer.committed_offsets(asked, ANSWER_WAIT)?;
    let place = committed.find_partition(name, partition).map(|found| found.offset());
    Ok(match place {
        Some(Offset::Offset(offset)) => Some(offset),
        _ => None,
    })
}

/// What is no dead letter of ours is shown as it is.
fn letter(topic: Topic, partition: i32, offset: i64, received: Received) -> DeadLetter {
    let Received { key, headers, payload, .. } = received;
    let read: Option<Payload> = serde_json::from_slice(&payload).ok();
    let original = match &read {
        None => Some(payload),
        Some(Payload { original_event: Some(text), .. }) => Some(text.clone().into_bytes()),
        Some(Payload { original_event_base64: Some(encoded), .. }) => BASE64.decode(encoded.as_bytes()).ok(),
        Some(_) => None,
    };
    let (error_type, error_message, retry_count, at) = match read {
        Some(read) => (read.error_type, read.error_message, read.retry_count, read.timestamp),
        None => ("unknown".to_owned(), "not a dead letter of this program".to_owned(), 0, 0),
    };
    DeadLetter {
        topic,
        partition,
        offset,
        key,
        headers,
        original,
        error_type,
        error_message,
        retry_count,
        at,
    }
}
