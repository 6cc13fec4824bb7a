//! Settings from Vault or OpenBao: read once at the start, and watched over while the program runs.
//!
//! The program logs in, reads one secret of the key-value engine, and holds it in memory alone. From then on the token is
//! renewed, and the secret looked at again. While the server can't say that both still stand, the program is not ready;
//! when their time is over, or somebody took them back, it ends. It never writes to Vault.

mod client;
mod transit;
mod watch;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use secrecy::SecretString;

use crate::{
    config::{TransitKey, Vault},
    egress::{self, Egress},
};

use client::{Client, Secret, Token};

pub use transit::Transit;
pub use watch::Standing;

/// Why there are no settings from Vault. Holds no secret: what a server says of an error names paths at most.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{file} can't be read: {error}")]
    File { file: String, error: std::io::Error },
    #[error("Vault can't be called: {0}")]
    Call(#[from] egress::Error),
    #[error("Vault has not answered within {} s", client::TIMEOUT.as_secs())]
    TimedOut,
    #[error("Vault is sealed, or in standby without an active server")]
    Sealed,
    #[error("Vault refuses the {what}: {said}")]
    Refused { what: &'static str, status: u16, said: String },
    #[error("Vault has no secret at {0}, or its time is over")]
    NoSecret(String),
    #[error("the value of `{0}` in Vault is no text")]
    NoText(String),
    #[error("Vault answers {status} to the {what}")]
    Status { what: &'static str, status: u16 },
    #[error("Vault's answer to the {0} is not what its API describes")]
    Shape(&'static str),
    #[error("Vault's key gives back another text than it was given")]
    OtherText,
    #[error("the time of the secrets from Vault is over")]
    Over,
}

impl Error {
    /// Whether asking again changes nothing: what this program was given was taken back.
    fn is_final(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::NoSecret(_) | Self::Over)
    }

    /// The same for whoever asks: without where the server is.
    fn for_anybody(&self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            _ => "does not answer",
        }
    }
}

/// The token of now.
#[derive(Debug, Clone)]
struct Bearer(Arc<RwLock<SecretString>>);

impl Bearer {
    fn new(token: SecretString) -> Self {
        Self(Arc::new(RwLock::new(token)))
    }

    fn get(&self) -> SecretString {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, token: SecretString) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = token;
    }
}

/// What was read, with the right to it.
#[derive(Debug)]
pub struct Session {
    client: Arc<Client>,
    token: Token,
    /// The same, for those who call with it.
    bearer: Bearer,
    /// The longest time that a token had when it was given.
    lifetime: Duration,
    secret: Secret,
    /// The newest version of the secret that was seen.
    newest: u64,
}

impl Session {
    /// Logs in and reads the secret.
    pub async fn open(vault: &Vault, egress: &Egress) -> Result<Self, Error> {
        let client = Arc::new(Client::new(vault, egress)?);
        let token = client.log_in().await?;
        let secret = client.read(&token).await?;
        let (lifetime, newest) = (token.lifetime, secret.version);
        let bearer = Bearer::new(token.value.clone());
        Ok(Self { client, token, bearer, lifetime, secret, newest })
    }

    /// The key that encrypts in Vault, once it was seen to.
    pub async fn transit(&self, key: &TransitKey) -> Result<Transit, Error> {
        Transit::tried(Arc::clone(&self.client), self.bearer.clone(), key.clone()).await
    }

    /// The settings by their names. Can be taken once.
    pub fn take_settings(&mut self) -> HashMap<String, SecretString> {
        std::mem::take(&mut self.secret.values)
    }
}
