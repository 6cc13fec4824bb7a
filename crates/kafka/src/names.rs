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
pub(crate) const LETTER_BYTES_MAX: &str = "8388608";

/// A topic's name on the cluster.
pub(crate) fn of(kafka: &Kafka, topic: Topic) -> String {
    format!("{}{topic}", kafka.prefix)
}

/// The name of a topic's dead letters.
pub(crate) fn of_dead(kafka: &Kafka, topic: Topic) -> String {
    format!("{}{topic}{DEAD}", kafka.prefix)
}

/// Makes topics that are not there. One that may not be made is told when it is used.
pub(crate) async fn make_missing(kafka: &Kafka) -> Result<(), Error> {
    let admin: AdminClient<Quiet> = crate::client(kafka).create_with_context(Quiet::default())?;
    let mut names: Vec<String> = Topic::ALL.iter().map(|topic| of(kafka, *topic)).collect();
    names.push(of_dead(kafka, Topic::ConversationInbound));
    let topics: Vec<NewTopic<'_>> = names
        .iter()
        .map(|name| {
            NewTopic::new(name, AS_THE_CLUSTER_DOES, TopicReplication::Fixed(AS_THE_CLUSTER_DOES))
                .set("max.message.bytes", LETTER_BYTES_MAX)
        })
        .collect();
    let options = AdminOptions::new().request_timeout(Some(ANSWER_WAIT)).operation_timeout(Some(ANSWER_WAIT));
    for made in admin.create_topics(&topics, &options).await? {
        match made {
            Ok(name) => tracing::info!(topic = name, "a topic was made"),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, error)) => {
                tracing::warn!(topic = name, %error, "a topic that may be missing could not be made")
            }
        }
    }
    Ok(())
}
