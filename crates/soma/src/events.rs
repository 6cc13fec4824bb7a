//! Who carries events: this process, whenever no other of its database does, and who takes those from outside.

use std::sync::Arc;

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
        let mut carriers =
            vec![tokio::spawn(outbox::relay(app.database.clone(), events, check, stop.clone()))];
        if !kafka.inbound_accounts.is_empty() {
            let handler = Inbound::new(Arc::clone(app), kafka.inbound_accounts.clone());
            let (dead_letters, stop) = (Arc::new(a_bus(kafka)?), stop.clone());
            carriers.push(tokio::spawn(async move {
                let consumed =
                    kafka::consume(dead_letters, Topic::ConversationInbound, GROUP, &handler, stop).await;
                if let Err(error) = consumed {
                    tracing::error!(%error, "messages from outside are not taken");
                }
            }));
        }
        Ok(Self(carriers))
    }

    /// After `stop`.
    pub async fn end(self) {
        for carrier in self.0 {
            drop(carrier.await);
        }
    }
}
