//! Hands events from outside to whoever does what they ask for, one after the other in each partition.
//!
//! An event's place is noted once its effect is there, so a process that dies hands it out again. One that can't be
//! handled becomes a dead letter, with its own bytes and the reason, before its place is noted. What waits for an engine
//! that is away waits, and so does what comes after it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use contracts::events::{BusError, EventHandler, HandleError, Received, Topic};
use platform::{config::Kafka, task::outcome};
use rdkafka::{
    Message as _, Offset,
    consumer::{Consumer as _, StreamConsumer},
    message::{BorrowedMessage, Headers as _},
};
use tokio_util::sync::CancellationToken;

use crate::{Bus, Error, Quiet, dead, names};

/// Times that an event is handled before it is dead. The n-th comes 2^(n-1) seconds after the one before.
const ATTEMPTS_MAX: u32 = 5;
/// Wait while something is away. Short enough to be heard of by the group meanwhile.
const AWAY_WAIT: Duration = Duration::from_secs(1);
/// After a failure of the consumer itself.
const AGAIN: Duration = Duration::from_secs(1);
/// How long nothing may come before the cluster is asked whether it is there.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// A consumer to whom no broker has spoken for so long is made anew: it may have certificates whose time is over.
const SILENT_MAX: Duration = Duration::from_secs(300);

/// Until `stop`: handles a topic's events as a member of `group`.
pub async fn consume(
    bus: Arc<Bus>,
    topic: Topic,
    group: &str,
    handler: &dyn EventHandler,
    stop: CancellationToken,
) {
    let group = format!("{}{group}", bus.kafka().prefix);
    let mut said = false;
    while !stop.is_cancelled() {
        let consumed = async {
            let consumer = Arc::new(consumer(bus.kafka(), &group)?);
            consumer.subscribe(&[&names::of(bus.kafka(), topic)])?;
            let mut here = Consuming {
                bus: &bus,
                topic,
                handler,
                consumer: &consumer,
                tries: HashMap::new(),
                waits: false,
                silent_since: None,
            };
            let consumed = here.until(&stop, &mut said).await;
            // Leaving a group is waited for by the library.
            drop(tokio::task::spawn_blocking(move || drop(consumer)).await);
            consumed
        };
        if let Err(error) = consumed.await {
            tracing::warn!(%topic, %error, "events are not consumed; trying again");
            stop.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
        }
    }
}

fn consumer(kafka: &Kafka, group: &str) -> Result<StreamConsumer<Quiet>, Error> {
    let mut config = crate::client(kafka);
    config
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        // What is committed is what was handled.
        .set("enable.auto.offset.store", "false")
        .set("session.timeout.ms", "10000")
        .set("heartbeat.interval.ms", "3000")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("isolation.level", "read_committed");
    Ok(config.create_with_context(Quiet::default())?)
}

struct Consuming<'a> {
    bus: &'a Bus,
    topic: Topic,
    handler: &'a dyn EventHandler,
    consumer: &'a Arc<StreamConsumer<Quiet>>,
    /// How often the event at a place was handled in vain, by partition.
    tries: HashMap<i32, (i64, u32)>,
    /// Whether it was said that something is away.
    waits: bool,
    /// Since when no broker has spoken to the consumer.
    silent_since: Option<Instant>,
}

impl Consuming<'_> {
    async fn until(&mut self, stop: &CancellationToken, said: &mut bool) -> Result<(), Error> {
        let consumer = self.consumer;
        while let Some(received) =
            stop.run_until_cancelled(tokio::time::timeout(IDLE_MAX, consumer.recv())).await
        {
            let received = match received {
                Ok(received) => received.map_err(Error::from),
                Err(_) => match self.ask().await {
                    Ok(()) => {
                        self.silent_since = None;
                        continue;
                    }
                    Err(error) => Err(error),
                },
            };
            let message = match received {
                Ok(message) => message,
                Err(error) => {
                    let silent = self.silent_since.get_or_insert_with(Instant::now).elapsed();
                    if consumer.client().fatal_error().is_some() || silent > SILENT_MAX {
                        return Err(error);
                    }
                    if !std::mem::replace(said, true) {
                        tracing::warn!(topic = %self.topic, %error, "events are waited for");
                    }
                    stop.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
                    continue;
                }
            };
            *said = false;
            self.silent_since = None;
            if let Some(wait) = self.take(&message).await? {
                let offset = Offset::Offset(message.offset());
                stop.run_until_cancelled(tokio::time::sleep(wait)).await;
                // Heard again at its own place, with all that follow it.
                self.consumer.seek(message.topic(), message.partition(), offset, crate::ANSWER_WAIT)?;
            }
        }
        Ok(())
    }

    /// Whether a broker answers.
    async fn ask(&self) -> Result<(), Error> {
        let consumer = Arc::clone(self.consumer);
        let asked = move || consumer.fetch_metadata(None, crate::ANSWER_WAIT).map(drop).map_err(Error::from);
        outcome(tokio::task::spawn_blocking(asked)).await
    }

    /// Handles an event; answers after what wait it is to be handled again, if it is.
    async fn take(&mut self, message: &BorrowedMessage<'_>) -> Result<Option<Duration>, Error> {
        let event = received(self.topic, message);
        let (partition, offset) = (message.partition(), message.offset());
        let tries =
            self.tries.get(&partition).filter(|(at, _)| *at == offset).map_or(1, |(_, tries)| tries + 1);
        let (code, problem) = match self.handler.handle(&event).await {
            Ok(()) => {
                metrics::counter!("events_consumed_total", "topic" => self.topic.as_str()).increment(1);
                return self.done(message).map(|()| None);
            }
            Err(HandleError::Away(problem)) => {
                if !std::mem::replace(&mut self.waits, true) {
                    tracing::warn!(topic = %self.topic, partition, offset, problem, "events wait");
                }
                return Ok(Some(AWAY_WAIT));
            }
            Err(HandleError::Again { code, message: problem }) if tries < ATTEMPTS_MAX => {
                tracing::warn!(topic = %self.topic, partition, offset, code, problem, tries, "an event is handled again");
                self.tries.insert(partition, (offset, tries));
                return Ok(Some(Duration::from_secs(1 << (tries - 1))));
            }
            Err(HandleError::Again { code, message } | HandleError::Never { code, message }) => {
                (code, message)
            }
        };
        let letter = dead::Reason { code, message: problem, tries };
        match dead::bury(self.bus, &event, &letter).await {
            Ok(()) => {}
            Err(error @ BusError::Impossible(_)) => {
                tracing::error!(%error, "the topic of dead letters takes none: a dead event is in this log alone");
            }
            Err(error) => {
                tracing::warn!(%error, "a dead letter waits");
                return Ok(Some(AWAY_WAIT));
            }
        }
        metrics::counter!("events_dead_total", "topic" => self.topic.as_str()).increment(1);
        tracing::error!(topic = %self.topic, partition, offset, code = letter.code, problem = letter.message,
            "an event is dead: `soma dlq` shows it and sends it again");
        self.done(message).map(|()| None)
    }

    fn done(&mut self, message: &BorrowedMessage<'_>) -> Result<(), Error> {
        self.tries.remove(&message.partition());
        if std::mem::take(&mut self.waits) {
            tracing::info!(topic = %self.topic, "events are handled again");
        }
        match self.consumer.store_offset_from_message(message) {
            Ok(()) => Ok(()),
            // Its partition went to another member meanwhile, who handles it once more.
            Err(error) => {
                tracing::debug!(%error, "an event's place was not noted");
                Ok(())
            }
        }
    }
}

pub(crate) fn received(topic: Topic, message: &BorrowedMessage<'_>) -> Received {
    let headers = message.headers().map(|headers| {
        let header = |header: rdkafka::message::Header<'_, &[u8]>| {
            (header.key.to_owned(), header.value.unwrap_or_default().to_vec())
        };
        headers.iter().map(header).collect()
    });
    Received {
        topic,
        key: message.key().unwrap_or_default().to_vec(),
        headers: headers.unwrap_or_default(),
        payload: message.payload().unwrap_or_default().to_vec(),
    }
}
