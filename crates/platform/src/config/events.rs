//! Events for the world outside: where they go, and from whom they are taken.

use contracts::UserId;

use super::read::{EMBEDDED, Reader};

/// Where events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventsChoice {
    /// Nowhere: nobody outside is told.
    Embedded,
    Kafka(Kafka),
}

/// A Kafka cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kafka {
    /// `host:port`, comma-separated.
    pub servers: String,
    /// What each topic's and group's name begins with.
    pub prefix: String,
    /// Service accounts that events from outside may act as. Without any none is taken.
    pub inbound_accounts: Vec<UserId>,
}

const SERVERS: &str = "SA01_KAFKA_BOOTSTRAP_SERVERS";
const PREFIX: &str = "SA01_KAFKA_TOPIC_PREFIX";
const ACCOUNTS: &str = "SA01_KAFKA_INBOUND_ACCOUNTS";
/// Kafka takes names of 249 characters; ours are added to it.
const PREFIX_CHARS_MAX: usize = 200;

impl Reader<'_> {
    pub(super) fn events(&mut self) -> Option<EventsChoice> {
        let servers = self.text(SERVERS);
        let prefix = self.text(PREFIX).unwrap_or_default();
        let accounts = self.text(ACCOUNTS).unwrap_or_default();
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if prefix.len() > PREFIX_CHARS_MAX || !prefix.chars().all(legal) {
            self.fault(
                PREFIX,
                format!("expected at most {PREFIX_CHARS_MAX} of letters, digits, `.`, `_` and `-`"),
            );
        }
        let ids = accounts.split(',').map(str::trim).filter(|id| !id.is_empty());
        let inbound_accounts = match ids.map(str::parse).collect::<Result<Vec<UserId>, _>>() {
            Ok(ids) => ids,
            Err(_) => {
                self.fault(ACCOUNTS, "expected ids of service accounts, comma-separated");
                Vec::new()
            }
        };
        let servers = servers?;
        if servers == EMBEDDED {
            if !inbound_accounts.is_empty() {
                self.fault(
                    ACCOUNTS,
                    format!("names accounts, but {SERVERS} names no server to take events from"),
                );
            }
            return Some(EventsChoice::Embedded);
        }
        let named = |server: &str| {
            server.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && !host.contains(['/', '@', ' ']) && port.parse::<u16>().is_ok()
            })
        };
        if !servers.split(',').map(str::trim).all(named) {
            self.fault(SERVERS, format!("expected `{EMBEDDED}`, or host:port, comma-separated"));
            return None;
        }
        Some(EventsChoice::Kafka(Kafka { servers, prefix, inbound_accounts }))
    }
}
