//! Who carries events: this process, whenever no other of its database does, and who takes those from outside.

use std::{sync::Arc, time::Duration};

use contracts::events::Topic;
use domains::{
    App,
    events::{Inbound, check},
};
use kafka::Bus;
use platform::{
    config::{Config, EventsChoice, Kafka},
    outbox,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::commands::Failure;

/// How long what carries events is waited for at the end, and after it broke off.
const END_WAIT: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_secs(1);

/// The members of this group share the events from outside.
const GROUP: &str = "soma.conversations";

/// The cluster; `None` where nobody outside is told.
pub fn kafka_config(config: &Config) -> Option<&Kafka> {
    match &config.events {
        EventsChoice::Embedded => None,
        EventsChoice::Kafka(kafka) => Some(kafka),
    }
}

/// The bus of this install. Connects to nobody yet.
pub fn bus(config: &Config) -> Result<Option<Bus>, Failure> {
    kafka_config(config).map(a_bus).transpose()
}

fn a_bus(kafka: &Kafka) -> Result<Bus, Failure> {
    Bus::new(kafka.clone())
        .map_err(|error| Failure::Configuration(format!("SA01_KAFKA_BOOTSTRAP_SERVERS: {error}")))
}

/// What carries events, until it is told to stop.
#[derive(Debug, Default)]
pub struct Carriers(Vec<JoinHandle<()>>);

impl Carriers {
    /// The app's engine must be known: a message from outside starts a run.
    pub fn start(app: &Arc<App>, stop: &CancellationToken) -> Result<Self, Failure> {
        let (Some(events), Some(kafka)) = (app.bus.clone(), kafka_config(&app.config)) else {
            return Ok(Self::default());
        };
        // A rule can count from nothing to one only if it has seen nothing.
        metrics::counter!("outbox_dead_total").increment(0);
        metrics::counter!("events_dead_total", "topic" => Topic::ConversationInbound.as_str()).increment(0);
        let mut carriers =
            vec![tokio::spawn(outbox::relay(app.database.clone(), events, check, stop.clone()))];
        if !kafka.inbound_accounts.is_empty() {
            let handler = Inbound::new(Arc::clone(app), kafka.inbound_accounts.clone());
            let (dead_letters, stop) = (Arc::new(a_bus(kafka)?), stop.clone());
            let handler = Arc::new(handler);
            carriers.push(tokio::spawn(async move {
                while !stop.is_cancelled() {
                    let (bus, handler, until) =
                        (Arc::clone(&dead_letters), Arc::clone(&handler), stop.clone());
                    let consuming = tokio::spawn(async move {
                        kafka::consume(bus, Topic::ConversationInbound, GROUP, &*handler, until).await;
                    });
                    if let Err(error) = consuming.await {
                        tracing::error!(%error, "taking messages from outside broke off; it begins anew");
                        stop.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
                    }
                }
            }));
        }
        Ok(Self(carriers))
    }

    /// After `stop`. Nothing is lost of what is not waited for: it is carried, or taken, by whoever comes next.
    pub async fn end(self) {
        if tokio::time::timeout(END_WAIT, futures::future::join_all(self.0)).await.is_err() {
            tracing::warn!("events that are on their way are not waited for any longer");
        }
    }
}
