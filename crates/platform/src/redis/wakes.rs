//! Tells all processes that a run has new events, so that readers in another one need not look again and again.

use std::{sync::Arc, time::Duration};

use contracts::RunId;
use futures::StreamExt as _;
use redis::AsyncCommands as _;
use tokio_util::sync::CancellationToken;

use super::{Redis, told};
use crate::hub::{Hub, Outgoing};

const CHANNEL: &str = "soma:wakes";
/// Between ids in one message.
const BETWEEN: char = ' ';
/// How long readers wait for a wake while wakes come. One may be lost with a connection.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// After a failure.
const AGAIN: Duration = Duration::from_millis(500);
/// How often a server that says nothing is asked whether it is there.
const PROBE_EVERY: Duration = Duration::from_secs(2);

impl Redis {
    /// Until `stop`: hands on what this process's hub is told, and hears what others are.
    pub fn relay(&self, hub: &Hub, stop: &CancellationToken) {
        let outgoing = hub.outgoing();
        tokio::spawn(stop.clone().run_until_cancelled_owned(self.clone().tell(outgoing)));
        tokio::spawn(stop.clone().run_until_cancelled_owned(self.clone().hear(hub.clone())));
        tokio::spawn(self.clone().be_present(stop.clone()));
    }

    async fn tell(self, outgoing: Arc<Outgoing>) {
        loop {
            let runs = outgoing.take().await;
            let text = runs.iter().map(RunId::to_string).collect::<Vec<_>>().join(&BETWEEN.to_string());
            let said: Result<(), _> = self.connection.clone().publish(CHANNEL, text).await;
            if said.is_err() {
                outgoing.put_back(runs);
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    async fn hear(self, hub: Hub) {
        // Said once for each time that it is away.
        let mut said = false;
        loop {
            let mut heard = false;
            if let Err(error) = self.hear_on_a_connection(&hub, &mut heard).await
                && (heard || !said)
            {
                tracing::warn!(
                    error = told(&error),
                    "Redis is away: wakes from other processes are not heard"
                );
                said = true;
            }
            hub.look_as_told();
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// `heard` says whether it came to hearing.
    async fn hear_on_a_connection(&self, hub: &Hub, heard: &mut bool) -> Result<(), redis::RedisError> {
        let connecting = tokio::time::timeout(super::CONNECT_TIMEOUT, self.client.get_async_pubsub()).await;
        let timed_out = |_| redis::RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        let (mut sink, mut messages) = connecting.map_err(timed_out)??.split();
        sink.subscribe(CHANNEL).await?;
        hub.look_again_in(LOOK_AGAIN);
        *heard = true;
        tracing::info!("wakes from other processes are heard");
        loop {
            let next = tokio::time::timeout(PROBE_EVERY, messages.next()).await;
            match next {
                Ok(Some(message)) => {
                    let text: String = message.get_payload()?;
                    for run in text.split(BETWEEN).filter_map(|run| run.parse().ok()) {
                        hub.wake_here(run);
                    }
                }
                Ok(None) => return Ok(()),
                // Silence may be a server that hangs.
                Err(_) => {
                    let asked = sink.ping::<redis::Value>();
                    tokio::time::timeout(super::ANSWER_TIMEOUT, asked).await.map_err(timed_out)??;
                }
            }
        }
    }
}
