//! Topics of a Kafka cluster, as somebody outside reads and writes them.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use serde_json::Value;

use crate::engines::Printed;

const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// More than a topic of ours takes.
const BYTES_MAX: &str = "16777216";
const POLL: Duration = Duration::from_millis(100);
/// Longest time for reading what is there.
const READ_WAIT: Duration = Duration::from_secs(30);

/// A cluster, and what the names of an install's topics begin with.
#[derive(Debug, Clone)]
pub struct Topics {
    servers: String,
    prefix: String,
    /// What else is needed to be let in, as the library names it.
    further: Vec<(&'static str, String)>,
}

/// What somebody finds in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub partition: i32,
    pub offset: i64,
    pub key: String,
    pub headers: HashMap<String, String>,
    pub payload: Vec<u8>,
}

impl Found {
    /// # Panics
    /// When its payload is no JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).expect("an event is JSON")
    }
}

/// From where to where a partition goes. One that was just made has no leader for a moment.
fn marks(consumer: &BaseConsumer, topic: &str, partition: i32) -> (i64, i64) {
    let began = Instant::now();
    loop {
        match consumer.fetch_watermarks(topic, partition, ANSWER_WAIT) {
            Ok(marks) => return marks,
            Err(error) => assert!(began.elapsed() < ANSWER_WAIT, "the cluster answers: {error}"),
        }
        std::thread::sleep(POLL);
    }
}

impl Topics {
    pub fn new(servers: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self { servers: servers.into(), prefix: prefix.into(), further: Vec::new() }
    }

    /// One that speaks TLS and asks for a certificate and a password, as `scripts/engines` printed of it.
    #[must_use]
    pub fn secure(printed: &Printed, prefix: impl Into<String>) -> Self {
        let setting = |name| printed.setting(name).to_owned();
        let further = vec![
            ("security.protocol", setting("SA01_KAFKA_SECURITY_PROTOCOL")),
            ("ssl.ca.location", setting("SA01_KAFKA_TLS_CA")),
            ("ssl.certificate.location", setting("SA01_KAFKA_TLS_CERT")),
            ("ssl.key.location", setting("SA01_KAFKA_TLS_KEY")),
            ("sasl.mechanism", "SCRAM-SHA-512".to_owned()),
            ("sasl.username", setting("SA01_KAFKA_SASL_USERNAME")),
            ("sasl.password", setting("SA01_KAFKA_SASL_PASSWORD")),
        ];
        Self { further, ..Self::new(setting("SA01_KAFKA_BOOTSTRAP_SERVERS"), prefix) }
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers).set_log_level(RDKafkaLogLevel::Emerg);
        for (name, value) in &self.further {
            config.set(*name, value);
        }
        config
    }

    /// All that is in a topic, by partition and place; nothing where there is no such topic. Blocks.
    ///
    /// # Panics
    /// When the cluster does not answer.
    #[must_use]
    pub fn read(&self, topic: &str) -> Vec<Found> {
        let name = format!("{}{topic}", self.prefix);
        let mut config = self.client();
        config
            .set("group.id", "nobody")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let metadata = consumer.fetch_metadata(Some(&name), ANSWER_WAIT).expect("the cluster answers");
        let found = metadata.topics().iter().find(|found| found.name() == name && found.error().is_none());
        let mut wanted = TopicPartitionList::new();
        let mut ends = HashMap::new();
        for partition in found.into_iter().flat_map(|found| found.partitions()) {
            let (low, high) = marks(&consumer, &name, partition.id());
            if low < high {
                wanted.add_partition_offset(&name, partition.id(), Offset::Beginning).expect("a place");
                ends.insert(partition.id(), high);
            }
        }
        consumer.assign(&wanted).expect("an assignment");
        let (mut all, began) = (Vec::new(), Instant::now());
        while !ends.is_empty() {
            assert!(began.elapsed() < READ_WAIT, "{name} is not read to its end within {READ_WAIT:?}");
            let Some(Ok(message)) = consumer.poll(POLL) else { continue };
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let headers = message.headers().map(|headers| {
                headers.iter().map(|one| (one.key.to_owned(), text(one.value.unwrap_or_default()))).collect()
            });
            if message.offset() + 1 >= ends.get(&message.partition()).copied().unwrap_or(0) {
                ends.remove(&message.partition());
            }
            all.push(Found {
                partition: message.partition(),
                offset: message.offset(),
                key: text(message.key().unwrap_or_default()),
                headers: headers.unwrap_or_default(),
                payload: message.payload().unwrap_or_default().to_vec(),
            });
        }
        all.sort_by_key(|found| (found.partition, found.offset));
        all
    }

    /// Makes a topic that takes payloads of so many bytes.
    ///
    /// # Panics
    /// When the cluster does not make it.
    pub async fn make(&self, topic: &str, bytes_max: &str) {
        let name = format!("{}{topic}", self.prefix);
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("a client");
        let new = NewTopic::new(&name, 1, TopicReplication::Fixed(1)).set("max.message.bytes", bytes_max);
        let made = admin.create_topics([&new], &AdminOptions::new()).await.expect("the cluster answers");
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }

    /// Puts something into a topic. Blocks until the cluster has it.
    ///
    /// # Panics
    /// When the cluster does not take it.
    pub fn write(&self, topic: &str, key: &str, payload: &[u8]) {
        let name = format!("{}{topic}", self.prefix);
        let mut config = self.client();
        config.set("message.max.bytes", BYTES_MAX);
        let producer: BaseProducer = config.create().expect("a producer");
        producer.send(BaseRecord::to(&name).key(key).payload(payload)).expect("a place in the queue");
        producer.flush(ANSWER_WAIT).expect("the cluster takes it");
    }
}
