//! A signed token (RFC 7515, compact): taken apart strictly, and worth nothing before its signature was checked.

use data_encoding::BASE64URL_NOPAD;
use platform::config::Algorithm;
use serde::Deserialize;
use serde_json::Value;

use super::{claims::Claims, keys::KeySet};

/// Longest token that is looked at.
pub(super) const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Longest id of a key.
const KEY_ID_BYTES_MAX: usize = 256;

/// Why a token is not taken. For the log: whoever sent it hears only that it was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("it is no signed token, or a claim is of the wrong kind")]
    Malformed,
    #[error("its header brings its own key, or asks for what is not known here")]
    Header,
    #[error("its algorithm is not one of SA01_OIDC_ALGORITHMS")]
    Algorithm,
    #[error("its key is not one of the provider's")]
    UnknownKey,
    #[error("its signature is wrong")]
    Signature,
    #[error("it is a token of another kind")]
    Kind,
    #[error("it is of another issuer")]
    Issuer,
    #[error("it names no subject, or one that is too long")]
    Subject,
    #[error("it is meant for somebody else")]
    Audience,
    #[error("it was made for another client")]
    AuthorizedParty,
    #[error("it has ended")]
    Ended,
    #[error("it is not valid yet, or says that it was made in the future")]
    NotYet,
    #[error("it lasts longer, or is older, than a token of its kind may")]
    TooLong,
    #[error("it answers another request")]
    Nonce,
    #[error("it belongs to another access token")]
    AccessToken,
}

/// The protected header. Of a field that would bring a key, or a place to fetch one from, it matters only that it is there.
#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
    jwk: Option<Value>,
    jku: Option<Value>,
    x5u: Option<Value>,
    x5c: Option<Value>,
    b64: Option<Value>,
    zip: Option<Value>,
}

/// A token that was taken apart, and whose signature was not checked yet.
pub(super) struct Unverified<'a> {
    pub algorithm: Algorithm,
    pub key_id: String,
    kind: Option<String>,
    message: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
}

impl<'a> Unverified<'a> {
    pub(super) fn parse(token: &'a str, algorithms: &[Algorithm]) -> Result<Self, Refused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refused::Malformed);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Refused::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(Refused::Malformed)?;
        if payload.contains('.') {
            return Err(Refused::Malformed);
        }
        let header: Header = serde_json::from_slice(&decoded(header)?).map_err(|_| Refused::Malformed)?;
        let named = Algorithm::named(&header.alg).filter(|algorithm| algorithms.contains(algorithm));
        let algorithm = named.ok_or(Refused::Algorithm)?;
        let strange =
            [&header.crit, &header.jwk, &header.jku, &header.x5u, &header.x5c, &header.b64, &header.zip];
        if strange.iter().any(|field| field.is_some()) {
            return Err(Refused::Header);
        }
        let key_id = header.kid.filter(|id| id.len() <= KEY_ID_BYTES_MAX).ok_or(Refused::UnknownKey)?;
        Ok(Self { algorithm, key_id, kind: header.typ, message, payload, signature: decoded(signature)? })
    }

    pub(super) fn verify(self, keys: &KeySet) -> Result<Verified, Refused> {
        if !keys.has(&self.key_id, self.algorithm) {
            return Err(Refused::UnknownKey);
        }
        if !keys.verify(&self.key_id, self.algorithm, self.message.as_bytes(), &self.signature) {
            return Err(Refused::Signature);
        }
        let claims = serde_json::from_slice(&decoded(self.payload)?).map_err(|_| Refused::Malformed)?;
        Ok(Verified { kind: self.kind.map(|kind| kind.to_lowercase()), claims })
    }
}

fn decoded(part: &str) -> Result<Vec<u8>, Refused> {
    BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| Refused::Malformed)
}

/// A token that the provider signed. What it says is still to be checked.
#[derive(Debug)]
pub(super) struct Verified {
    /// `typ` of the header, in lower case.
    pub kind: Option<String>,
    pub claims: Claims,
}
