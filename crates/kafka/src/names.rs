//! Names of topics on the cluster, and making those that are missing.

use contracts::events::Topic;
use platform::config::Kafka;
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    types::RDKafkaErrorCode,
};

use crate::{ANSWER_WAIT, Error, Quiet};

/// What a topic of dead letters ends with.
const DEAD: &str = ".dlq";
/// As many as the cluster gives a topic of which it is told no number.
const AS_THE_CLUSTER_DOES: i32 = -1;
/// Longer than an answer of a model, in JSON.
pub(crate) const LETTER_BYTES_MAX: usize = 8 << 20;
/// Such a letter in base64, and why it is dead.
pub(crate) const DEAD_LETTER_BYTES_MAX: usize = 12 << 20;

/// A topic's name on the cluster.
pub(crate) fn of(kafka: &Kafka, topic: Topic) -> String {
    format!("{}{topic}", kafka.prefix)
}

/// The name of a topic's dead letters.
pub(crate) fn of_dead(kafka: &Kafka, topic: Topic) -> String {
    format!("{}{topic}{DEAD}", kafka.prefix)
}

/// Makes topics that are not there; answers whether another try is of use. One that may not be made is told when it is
/// used, and here the first time.
pub(crate) async fn make_missing(kafka: &Kafka, first: bool) -> Result<bool, Error> {
    let admin: AdminClient<Quiet> = crate::client(kafka).create_with_context(Quiet::default())?;
    let (letter_bytes, dead_bytes) = (LETTER_BYTES_MAX.to_string(), DEAD_LETTER_BYTES_MAX.to_string());
    let mut names: Vec<_> = Topic::ALL.iter().map(|topic| (of(kafka, *topic), &letter_bytes)).collect();
    names.push((of_dead(kafka, Topic::ConversationInbound), &dead_bytes));
    let topics: Vec<NewTopic<'_>> = names
        .iter()
        .map(|(name, bytes)| {
            NewTopic::new(name, AS_THE_CLUSTER_DOES, TopicReplication::Fixed(AS_THE_CLUSTER_DOES))
                .set("max.message.bytes", bytes)
        })
        .collect();
    let options = AdminOptions::new().request_timeout(Some(ANSWER_WAIT)).operation_timeout(Some(ANSWER_WAIT));
    let made = admin.create_topics(&topics, &options).await;
    // Its end is waited for by the library, and not here.
    drop(tokio::task::spawn_blocking(move || drop(admin)));
    let mut again = false;
    for made in made? {
        match made {
            Ok(name) => tracing::info!(topic = name, "a topic was made"),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, error)) => {
                if first {
                    tracing::warn!(topic = name, %error, "a topic that may be missing could not be made");
                }
                again |= !is_final(error);
            }
        }
    }
    Ok(again)
}

/// Whether the cluster will say the same another time. While its brokers come up it refuses what it makes later.
fn is_final(error: RDKafkaErrorCode) -> bool {
    matches!(
        error,
        RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::PolicyViolation
            | RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::InvalidConfig
    )
}
