//! The provider's public keys, and whether a signature is one of theirs.
//!
//! A key is found by its id among those that the provider published, and nowhere else: an id is compared, never looked
//! up in a place that it names.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use data_encoding::BASE64URL_NOPAD;
use platform::config::Algorithm;
use serde::Deserialize;
use serde_json::Value;

/// Keys that one provider may have; what is beyond is not read.
const KEYS_MAX: usize = 64;
/// Bytes of a coordinate on P-256.
const COORDINATE_BYTES: usize = 32;

/// A set of keys (RFC 7517). What is in it that this program can't use is left out.
#[derive(Debug)]
pub(super) struct KeySet(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: String,
    algorithm: Algorithm,
    public: ParsedPublicKey,
}

#[derive(Deserialize)]
pub(super) struct Published {
    keys: Vec<Value>,
}

/// The public half of a key; what else it has is not looked at.
#[derive(Deserialize)]
struct Jwk {
    kid: String,
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl From<Published> for KeySet {
    fn from(published: Published) -> Self {
        let usable = published.keys.into_iter().take(KEYS_MAX).filter_map(|key| {
            let jwk = serde_json::from_value::<Jwk>(key).ok()?;
            jwk.key()
        });
        Self(usable.collect())
    }
}

impl Jwk {
    fn key(self) -> Option<Key> {
        let algorithm = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", None) => Algorithm::Rs256,
            ("EC", Some("P-256")) => Algorithm::Es256,
            _ => return None,
        };
        let for_this = self.alg.is_none_or(|name| Algorithm::named(&name) == Some(algorithm));
        if !for_this || self.usage.is_some_and(|usage| usage != "sig") {
            return None;
        }
        let public = match algorithm {
            Algorithm::Rs256 => {
                let components = RsaPublicKeyComponents { n: decoded(self.n?)?, e: decoded(self.e?)? };
                components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok()?
            }
            Algorithm::Es256 => {
                let (x, y) = (decoded(self.x?)?, decoded(self.y?)?);
                if x.len() != COORDINATE_BYTES || y.len() != COORDINATE_BYTES {
                    return None;
                }
                let point = [&[4][..], &x, &y].concat();
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point).ok()?
            }
        };
        Some(Key { id: self.kid, algorithm, public })
    }
}

fn decoded(text: String) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(text.as_bytes()).ok()
}

impl KeySet {
    pub(super) fn has(&self, id: &str, algorithm: Algorithm) -> bool {
        self.0.iter().any(|key| key.id == id && key.algorithm == algorithm)
    }

    /// Whether the key of this id and algorithm made the signature.
    pub(super) fn verify(&self, id: &str, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let mut keys = self.0.iter().filter(|key| key.id == id && key.algorithm == algorithm);
        keys.any(|key| key.public.verify_sig(message, signature).is_ok())
    }
}
