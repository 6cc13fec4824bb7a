//! Configuration: every setting is declared once in [`registry`], and this module alone reads the environment.
//!
//! A value comes from the environment, else from a private `.env` file in the working directory. All faults are
//! found before anything starts and reported together, by name and never by value.

mod dotenv;
mod events;
mod gateway;
mod oidc;
mod read;
mod registry;
mod sign_in;
#[cfg(test)]
mod tests;
mod tls;
mod vault;

use std::{collections::HashMap, net::SocketAddr, path::PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

pub use events::{EventsChoice, Kafka, Sasl};
pub use gateway::{ConnectionLimits, Gateway, RateLimits};
pub use oidc::{Algorithm, Oidc};
pub use read::{Fault, Faults};
pub use registry::{Kind, SETTINGS, Setting};
pub use sign_in::{Mail, SignIn};
pub use tls::{ClientTls, TlsFiles};
pub use vault::{TransitKey, Vault, VaultAuth};

use crate::{database::Location, egress::AllowList, redis, secrets::Keys};

/// Where settings come from. A trait, so that tests need no process environment.
pub trait Source: Send + Sync {
    fn get(&self, name: &str) -> Option<String>;
}

/// Settings given directly, for tests and for `soma demo`.
#[derive(Debug, Clone, Default)]
pub struct Fixed(pub HashMap<String, String>);

impl Source for Fixed {
    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }
}

/// The process environment, over a `.env` file in the working directory.
#[derive(Debug)]
pub struct Environment {
    file: HashMap<String, String>,
}

impl Environment {
    /// Reads `.env` when there is one. A file that others may read is refused: its secrets are no secrets.
    pub fn open() -> Result<Self, Fault> {
        Ok(Self { file: dotenv::read(std::path::Path::new(".env"))? })
    }
}

impl Source for Environment {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().or_else(|| self.file.get(name).cloned())
    }
}

/// The environment, and beside it the settings that a secret of Vault's holds.
#[derive(Debug)]
pub struct WithSecrets {
    environment: Environment,
    secrets: HashMap<String, SecretString>,
}

impl WithSecrets {
    /// What is there twice is a fault, since one of the two would not count; and so is a name that is no setting, or one
    /// of those that say where Vault is.
    pub fn new(environment: Environment, secrets: HashMap<String, SecretString>) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        for name in secrets.keys() {
            if name.starts_with(vault::PREFIX) || !SETTINGS.iter().any(|setting| setting.name == name) {
                faults.push(Fault::new(name, "is in Vault, and no setting that can come from there"));
            } else if environment.get(name).is_some_and(|value| !value.is_empty()) {
                faults.push(Fault::new(name, "is set in Vault and in the environment: take it out of one"));
            }
        }
        faults.sort_by(|one, other| one.name.cmp(&other.name));
        if faults.is_empty() { Ok(Self { environment, secrets }) } else { Err(Faults(faults)) }
    }
}

impl Source for WithSecrets {
    fn get(&self, name: &str) -> Option<String> {
        let secret = self.secrets.get(name).map(|value| value.expose_secret().to_owned());
        secret.or_else(|| self.environment.get(name))
    }
}

/// Which model answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelChoice {
    /// llama.cpp in this process.
    Embedded,
    /// An OpenAI-compatible server; the address ends before `/chat/completions`.
    Server(Url),
}

#[derive(Debug, Clone)]
pub enum WorkflowChoice {
    Embedded,
    Temporal(TemporalServer),
}

/// Where a Temporal server is, and how it is spoken to.
#[derive(Debug, Clone)]
pub struct TemporalServer {
    /// `host:port`.
    pub address: String,
    pub tls: Option<ClientTls>,
    /// What it lets this program in by, where it asks for a key.
    pub api_key: Option<SecretString>,
}

impl TemporalServer {
    /// One that asks for nothing and is spoken to without TLS.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), tls: None, api_key: None }
    }
}

/// What processes share beside the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisChoice {
    /// Nothing: there is one process, or each counts for itself.
    Embedded,
    Server(redis::Address),
}

/// Who evaluates the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyChoice {
    /// regorus in this process.
    Embedded,
    /// An OPA server; the address ends before `/v1/data`.
    Server(Url),
}

#[derive(Debug, Clone)]
pub struct Model {
    pub choice: ModelChoice,
    pub name: String,
    pub keys: Vec<SecretString>,
    pub context_tokens: u32,
    pub tools: bool,
    /// The embedded model's GGUF file.
    pub path: Option<PathBuf>,
    /// Millionths of a US dollar for a million tokens, in and out.
    pub input_price: u64,
    pub output_price: u64,
    /// Silence from the model for this long ends the call.
    pub idle_timeout_ms: u64,
}

#[derive(Debug, Clone)]
pub struct Workflows {
    pub choice: WorkflowChoice,
    pub namespace: String,
    pub queue: String,
    /// Of tool calls.
    pub tools_queue: String,
    /// The name under which workers are versions of one deployment.
    pub deployment: Option<String>,
    pub concurrency: usize,
}

/// Every setting, checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub keys: Keys,
    /// The key of Vault's that encrypts in place of the Fernet keys.
    pub transit: Option<TransitKey>,
    pub data_dir: PathBuf,
    pub database: Location,
    pub listen: SocketAddr,
    pub gateway: Gateway,
    pub model: Model,
    pub workflows: Workflows,
    pub policy: PolicyChoice,
    pub redis: RedisChoice,
    pub events: EventsChoice,
    pub egress: AllowList,
    /// The identity provider that people may sign in at.
    pub oidc: Option<Oidc>,
    /// How long a tool call waits for a person's approval.
    pub approval_expiry_ms: i64,
    pub sign_in: SignIn,
    /// The collector of traces; the address ends before `/v1/traces`.
    pub otlp: Option<Url>,
    /// How long the events of a run that has ended are kept.
    pub run_events_kept_ms: i64,
    pub log: String,
}

impl Config {
    /// Reads and checks every setting; reports all faults at once.
    pub fn load(source: &dyn Source) -> Result<Self, Faults> {
        read::config(source)
    }
}

/// Reads one optional setting outside [`Config`]: what a client of a server needs, or `soma registry` shows.
/// `None` too when the setting is not declared, so that nothing reads an undeclared name.
#[must_use]
pub fn lookup(source: &dyn Source, name: &str) -> Option<String> {
    let setting = SETTINGS.iter().find(|setting| setting.name == name)?;
    source.get(name).filter(|value| !value.is_empty()).or_else(|| setting.default.map(str::to_owned))
}
