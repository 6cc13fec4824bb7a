//! Events for the world outside: where they go, and from whom they are taken.

use contracts::UserId;
use secrecy::SecretString;

use super::{
    read::{EMBEDDED, Reader},
    tls::ClientTls,
};

/// Where events go.
#[derive(Debug, Clone)]
pub enum EventsChoice {
    /// Nowhere: nobody outside is told.
    Embedded,
    Kafka(Kafka),
}

/// A Kafka cluster.
#[derive(Debug, Clone, Default)]
pub struct Kafka {
    /// `host:port`, comma-separated.
    pub servers: String,
    /// What each topic's and group's name begins with.
    pub prefix: String,
    /// Service accounts that events from outside may act as. Without any none is taken.
    pub inbound_accounts: Vec<UserId>,
    pub tls: Option<ClientTls>,
    pub sasl: Option<Sasl>,
}

/// How this program says to brokers who it is.
#[derive(Debug, Clone)]
pub struct Sasl {
    /// By its standard name.
    pub mechanism: &'static str,
    pub username: String,
    pub password: SecretString,
}

const SERVERS: &str = "SA01_KAFKA_BOOTSTRAP_SERVERS";
const PREFIX: &str = "SA01_KAFKA_TOPIC_PREFIX";
const ACCOUNTS: &str = "SA01_KAFKA_INBOUND_ACCOUNTS";
const PROTOCOL: &str = "SA01_KAFKA_SECURITY_PROTOCOL";
const TLS: &str = "SA01_KAFKA_TLS";
const MECHANISM: &str = "SA01_KAFKA_SASL_MECHANISM";
const MECHANISMS: [&str; 3] = ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"];
const USERNAME: &str = "SA01_KAFKA_SASL_USERNAME";
const PASSWORD: &str = "SA01_KAFKA_SASL_PASSWORD";
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
        let security = self.kafka_security();
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
        let (tls, sasl) = security?;
        Some(EventsChoice::Kafka(Kafka { servers, prefix, inbound_accounts, tls, sasl }))
    }

    /// TLS and who this is, by the names that Kafka gives its listeners' protocols. `None` after a fault.
    fn kafka_security(&mut self) -> Option<(Option<ClientTls>, Option<Sasl>)> {
        let protocol = self.text(PROTOCOL)?.to_ascii_lowercase();
        let (by_tls, by_sasl) = match protocol.as_str() {
            "plaintext" => (false, false),
            "ssl" => (true, false),
            "sasl_plaintext" => (false, true),
            "sasl_ssl" => (true, true),
            _ => {
                self.fault(PROTOCOL, "expected `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`");
                return None;
            }
        };
        let tls = self.client_tls(
            TLS,
            by_tls,
            &format!("counts for nothing: {PROTOCOL} is {protocol}, which is without TLS"),
        );
        let sasl = self.sasl(by_sasl, &protocol);
        (sasl.is_some() == by_sasl).then_some((tls, sasl))
    }

    fn sasl(&mut self, spoken: bool, protocol: &str) -> Option<Sasl> {
        let mechanism = self.text(MECHANISM)?.to_ascii_uppercase();
        let mechanism = MECHANISMS.into_iter().find(|known| *known == mechanism);
        if mechanism.is_none() {
            self.fault(MECHANISM, format!("expected one of {}", MECHANISMS.join(", ")));
        }
        let (username, password) = (self.text(USERNAME), self.text(PASSWORD));
        for (name, given) in [(USERNAME, username.is_some()), (PASSWORD, password.is_some())] {
            if given && !spoken {
                self.fault(
                    name,
                    format!("counts for nothing: {PROTOCOL} is {protocol}, which asks for no name"),
                );
            } else if spoken && !given {
                self.fault(name, format!("is required with {PROTOCOL} {protocol}"));
            }
        }
        spoken.then_some(Sasl {
            mechanism: mechanism?,
            username: username?,
            password: SecretString::from(password?),
        })
    }
}
