//! Key material: checked once, held as `SecretString`, never written, printed or made up.
//!
//! [`generate`] is the only place that makes a key, and only `soma keygen` calls it.

use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE};
use hmac::{Hmac, KeyInit, Mac};
use rand::Rng;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// RFC 2104 asks for a key at least as long as the hash.
const SECRET_KEY_BYTES_MIN: usize = 32;
/// A key with fewer different characters was typed, not drawn.
const SECRET_KEY_DISTINCT_MIN: usize = 8;
/// Parts of keys that are published somewhere: a copy of one is no secret.
const PLACEHOLDERS: &[&str] = &[
    "django-insecure",
    "changeme",
    "change-me",
    "change_me",
    "change-in-prod",
    "placeholder",
    "your-secret",
    "your_secret",
    "secret_key",
    "example",
    "insecure",
    "password",
    "0123456789abcdef0123456789abcdef",
];

/// Says what is wrong with SECRET_KEY, without saying what it is.
pub fn check_secret_key(key: &SecretString) -> Result<(), String> {
    let key = key.expose_secret();
    if key.len() < SECRET_KEY_BYTES_MIN {
        return Err(format!("is too short: at least {SECRET_KEY_BYTES_MIN} bytes; `soma keygen` makes one"));
    }
    let lower = key.to_lowercase();
    let distinct = key.bytes().collect::<std::collections::HashSet<_>>().len();
    if PLACEHOLDERS.iter().any(|known| lower.contains(known)) || distinct < SECRET_KEY_DISTINCT_MIN {
        return Err("is a known placeholder: make a real one with `soma keygen`".into());
    }
    Ok(())
}

/// The Fernet keys: the first encrypts, all decrypt, so that keys can be rotated.
#[derive(Clone)]
pub struct Ring(Arc<fernet::MultiFernet>);

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ring(..)")
    }
}

impl Ring {
    pub fn parse(keys: &SecretString) -> Result<Self, String> {
        let mut ring = Vec::new();
        for (index, key) in keys.expose_secret().split(',').map(str::trim).enumerate() {
            let key = fernet::Fernet::new(key).ok_or_else(|| {
                format!(
                    "key {} is no Fernet key (32 bytes in URL-safe base64); `soma keygen` makes one",
                    index + 1
                )
            })?;
            ring.push(key);
        }
        Ok(Self(Arc::new(fernet::MultiFernet::new(ring))))
    }

    #[must_use]
    pub fn encrypt(&self, plain: &str) -> String {
        self.0.encrypt(plain.as_bytes())
    }

    /// `None` when no key of the ring made this text.
    #[must_use]
    pub fn decrypt(&self, sealed: &str) -> Option<SecretString> {
        let plain = self.0.decrypt(sealed).ok()?;
        String::from_utf8(plain).ok().map(SecretString::from)
    }
}

/// A key that is elsewhere, and works there.
#[async_trait::async_trait]
pub trait Sealer: Send + Sync + fmt::Debug {
    async fn encrypt(&self, plain: &str) -> Result<String, SealerAway>;

    /// `None` when it has not made this text.
    async fn decrypt(&self, sealed: &str) -> Result<Option<SecretString>, SealerAway>;

    /// Whether it has made this text, going by how it looks.
    fn has_made(&self, sealed: &str) -> bool;
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Secrets can't be read or kept now: the key that encrypts them is in Vault, which does not answer.")]
pub struct SealerAway;

/// What the program may do with its keys. The keys themselves stay here.
#[derive(Debug, Clone)]
pub struct Keys {
    secret_key: SecretString,
    /// Absent where a key elsewhere does all of it.
    ring: Option<Ring>,
    sealer: Option<Arc<dyn Sealer>>,
}

impl Keys {
    #[must_use]
    pub fn new(secret_key: SecretString, ring: Option<Ring>) -> Self {
        Self { secret_key, ring, sealer: None }
    }

    /// From now on `sealer` encrypts. What the Fernet keys have encrypted they still decrypt.
    pub fn seal_with(&mut self, sealer: Arc<dyn Sealer>) {
        self.sealer = Some(sealer);
    }

    pub async fn encrypt(&self, plain: &str) -> Result<String, SealerAway> {
        match (&self.sealer, &self.ring) {
            (Some(sealer), _) => sealer.encrypt(plain).await,
            (None, Some(ring)) => Ok(ring.encrypt(plain)),
            (None, None) => Err(SealerAway),
        }
    }

    /// `None` when no key of today's made this text.
    pub async fn decrypt(&self, sealed: &str) -> Result<Option<SecretString>, SealerAway> {
        match &self.sealer {
            Some(sealer) if sealer.has_made(sealed) => sealer.decrypt(sealed).await,
            _ => Ok(self.ring.as_ref().and_then(|ring| ring.decrypt(sealed))),
        }
    }

    /// HMAC-SHA-256 under SECRET_KEY, in hexadecimal. `purpose` keeps two uses of one key apart.
    #[must_use]
    pub fn mac(&self, purpose: &str, text: &str) -> String {
        // HMAC takes a key of any length, so this never fails; an empty digest would match nothing.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.secret_key.expose_secret().as_bytes()) else {
            return String::new();
        };
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(text.as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }
}

/// 32 random bytes from the operating system, in URL-safe base64.
#[must_use]
pub fn random_token() -> SecretString {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    SecretString::from(URL_SAFE.encode(bytes).trim_end_matches('=').to_owned())
}

/// New keys for an operator: SECRET_KEY and a Fernet key.
#[must_use]
pub fn generate() -> (SecretString, SecretString) {
    (random_token(), SecretString::from(fernet::Fernet::generate_key()))
}
