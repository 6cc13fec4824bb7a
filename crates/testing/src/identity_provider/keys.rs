//! Keys made for a test, and tokens signed with them, as good or as bad as the test wants.

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

pub(super) fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[derive(Debug)]
enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
}

/// A key pair with its id.
#[derive(Debug)]
pub struct SigningKey {
    pub id: String,
    pair: Pair,
}

impl SigningKey {
    /// For RS256.
    ///
    /// # Panics
    /// When no key can be made.
    #[must_use]
    pub fn rsa(id: &str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key");
        Self { id: id.to_owned(), pair: Pair::Rsa(pair) }
    }

    /// For ES256.
    ///
    /// # Panics
    /// When no key can be made.
    #[must_use]
    pub fn p256(id: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a P-256 key");
        Self { id: id.to_owned(), pair: Pair::P256(pair) }
    }

    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
        }
    }

    /// The public half, as DER (RSA) or as a point (P-256).
    #[must_use]
    pub fn public_bytes(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref().to_vec(),
            Pair::P256(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    /// The public half as a JSON Web Key (RFC 7517).
    #[must_use]
    pub fn jwk(&self) -> Value {
        let public = self.public_bytes();
        let named = json!({ "kid": self.id, "use": "sig", "alg": self.algorithm() });
        let own = match self.pair {
            Pair::Rsa(_) => {
                // SEQUENCE { INTEGER n, INTEGER e }
                let (sequence, _) = der(&public);
                let (modulus, rest) = der(sequence);
                let (exponent, _) = der(rest);
                json!({ "kty": "RSA", "n": encoded(unsigned(modulus)), "e": encoded(unsigned(exponent)) })
            }
            // 0x04, then x and y.
            Pair::P256(_) => {
                json!({ "kty": "EC", "crv": "P-256", "x": encoded(&public[1..33]), "y": encoded(&public[33..]) })
            }
        };
        merged(&named, &own)
    }

    /// A token with the usual header and these claims.
    #[must_use]
    pub fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({}), claims)
    }

    /// The same, with other or further fields of the header; null takes one out.
    #[must_use]
    pub fn token_with(&self, header: &Value, claims: &Value) -> String {
        let usual = json!({ "alg": self.algorithm(), "typ": "JWT", "kid": self.id });
        self.signed(&merged(&usual, header).to_string(), &claims.to_string())
    }

    /// A token of these very texts, whatever they are.
    ///
    /// # Panics
    /// When it can't be signed.
    #[must_use]
    pub fn signed(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encoded(header), encoded(claims));
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).expect("signed");
                signature
            }
            Pair::P256(pair) => pair.sign(&random, message.as_bytes()).expect("signed").as_ref().to_vec(),
        };
        format!("{message}.{}", encoded(signature))
    }
}

/// A token under HMAC-SHA-256, for whoever takes a public key for a shared secret.
#[must_use]
pub fn hs256(secret: &[u8], header: &Value, claims: &Value) -> String {
    let usual = json!({ "alg": "HS256", "typ": "JWT" });
    let message = format!("{}.{}", encoded(merged(&usual, header).to_string()), encoded(claims.to_string()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", encoded(tag))
}

/// A token that says that it is not signed, and is not.
#[must_use]
pub fn unsigned_token(algorithm: &str, claims: &Value) -> String {
    let header = json!({ "alg": algorithm, "typ": "JWT" });
    format!("{}.{}.", encoded(header.to_string()), encoded(claims.to_string()))
}

/// `base` with the fields of `changes`; null takes one out.
///
/// # Panics
/// When either is no object.
#[must_use]
pub fn merged(base: &Value, changes: &Value) -> Value {
    let mut all = base.as_object().expect("an object").clone();
    for (name, value) in changes.as_object().expect("an object") {
        if value.is_null() {
            all.remove(name);
        } else {
            all.insert(name.clone(), value.clone());
        }
    }
    Value::Object(all)
}

/// What a DER value holds, and what follows it.
fn der(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (length, start) = match bytes[1] {
        short @ ..0x80 => (usize::from(short), 2),
        long => {
            let count = usize::from(long & 0x7f);
            let length = bytes[2..2 + count].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (length, 2 + count)
        }
    };
    bytes[start..].split_at(length)
}

/// An integer without the zero that keeps it positive.
fn unsigned(integer: &[u8]) -> &[u8] {
    integer.strip_prefix(&[0]).unwrap_or(integer)
}
