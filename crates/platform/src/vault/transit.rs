//! Encryption by a key that never leaves Vault: its transit engine.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::{Bearer, Client, Error};
use crate::{
    config::TransitKey,
    secrets::{Sealer, SealerAway},
};

/// How all that it has encrypted begins.
const MARK: &str = "vault:";
/// Given to the key at the start, to see that it may be used.
const TRIED: &str = "soma";

#[derive(Debug)]
pub struct Transit {
    client: Arc<Client>,
    bearer: Bearer,
    key: TransitKey,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Encrypted {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Decrypted {
    plaintext: SecretString,
}

impl Transit {
    pub(super) async fn tried(client: Arc<Client>, bearer: Bearer, key: TransitKey) -> Result<Self, Error> {
        let transit = Self { client, bearer, key };
        let sealed = transit.seal(TRIED).await?;
        match transit.open(&sealed).await? {
            Some(plain) if plain.expose_secret() == TRIED => Ok(transit),
            _ => Err(Error::OtherText),
        }
    }

    fn path(&self, action: &str) -> String {
        format!("{}/{action}/{}", self.key.mount, self.key.name)
    }

    async fn seal(&self, plain: &str) -> Result<String, Error> {
        let body = json!({ "plaintext": STANDARD.encode(plain) });
        let (path, token) = (self.path("encrypt"), self.bearer.get());
        let answer: Answer<Encrypted> =
            self.client.call("encryption", Method::POST, &path, Some(&token), Some(&body)).await?;
        Ok(answer.data.ciphertext)
    }

    async fn open(&self, sealed: &str) -> Result<Option<SecretString>, Error> {
        let body = json!({ "ciphertext": sealed });
        let (path, token) = (self.path("decrypt"), self.bearer.get());
        let answer = self.client.call("decryption", Method::POST, &path, Some(&token), Some(&body)).await;
        let answer: Answer<Decrypted> = match answer {
            // What this key has not made.
            Err(Error::Refused { status: 400, .. }) => return Ok(None),
            answer => answer?,
        };
        let plain = STANDARD.decode(answer.data.plaintext.expose_secret()).ok();
        Ok(plain.and_then(|plain| String::from_utf8(plain).ok()).map(SecretString::from))
    }
}

#[async_trait::async_trait]
impl Sealer for Transit {
    async fn encrypt(&self, plain: &str) -> Result<String, SealerAway> {
        self.seal(plain).await.map_err(away)
    }

    async fn decrypt(&self, sealed: &str) -> Result<Option<SecretString>, SealerAway> {
        self.open(sealed).await.map_err(away)
    }

    fn has_made(&self, sealed: &str) -> bool {
        sealed.starts_with(MARK)
    }
}

/// Where the server is, and what it said, is the operator's to read.
fn away(error: Error) -> SealerAway {
    tracing::warn!(%error, "Vault's key can't be used");
    SealerAway
}
