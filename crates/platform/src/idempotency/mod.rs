//! `Idempotency-Key`: a request that is sent again gets the first one's answer, and is not done again.
//!
//! The answer is stored in the same commit as the change it answers for. Changes go one after another, so of a
//! hundred copies at once one is done and the others find its answer.

mod store;

use axum::extract::FromRequestParts;
use axum::http::{StatusCode, request::Parts};
use contracts::Caller;
use serde::{Serialize, de::DeserializeOwned};

pub use store::MIGRATIONS;

use crate::{
    database::{self, Tx},
    durable::unix_ms,
    http::Problem,
};

const HEADER: &str = "idempotency-key";
const KEY_CHARS_MAX: usize = 255;
/// A key is remembered for this long, then free again.
const KEPT_MS: i64 = 24 * 60 * 60 * 1000;

/// The header's value, if the client sent one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdempotencyKey(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(HEADER) else { return Ok(Self(None)) };
        let text = value.to_str().ok().filter(|text| (1..=KEY_CHARS_MAX).contains(&text.len()));
        match text {
            Some(text) => Ok(Self(Some(text.to_owned()))),
            None => Err(Problem::invalid(
                "Idempotency-Key",
                format!("expected 1 to {KEY_CHARS_MAX} visible characters"),
            )),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this Idempotency-Key came before with another request")]
    OtherRequest,
    #[error(transparent)]
    Database(#[from] database::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::OtherRequest => {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_mismatch", error.to_string())
            }
            Error::Database(error) => error.into(),
        }
    }
}

/// One request that may come again: who sent it, what for, and the hash of its body.
#[derive(Debug, Clone)]
pub struct Guard {
    key: Option<String>,
    tenant: String,
    user: String,
    operation: String,
    body_hash: String,
}

impl Guard {
    /// `operation` names the method and the path with its ids.
    #[must_use]
    pub fn new(key: IdempotencyKey, caller: &Caller, operation: String, body_hash: String) -> Self {
        Self {
            key: key.0,
            tenant: caller.tenant.to_string(),
            user: caller.user.to_string(),
            operation,
            body_hash,
        }
    }

    /// Whether the client named a key: without one nothing is kept.
    #[must_use]
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// The answer given before, if the request came before. Call it first in the change.
    pub async fn earlier<T: DeserializeOwned>(&self, tx: &Tx) -> Result<Option<T>, Error> {
        let Some(key) = &self.key else { return Ok(None) };
        let Some(kept) = store::find(tx, &self.tenant, &self.user, key, unix_ms() - KEPT_MS).await? else {
            return Ok(None);
        };
        if kept.operation != self.operation || kept.body_hash != self.body_hash {
            return Err(Error::OtherRequest);
        }
        let answer = serde_json::from_str(&kept.answer);
        Ok(Some(
            answer.map_err(|error| database::Error::Corrupt(format!("idempotency_keys.answer: {error}")))?,
        ))
    }

    /// Keeps the answer, in the same change.
    pub async fn keep<T: Serialize>(&self, tx: &Tx, answer: &T) -> Result<(), Error> {
        let Some(key) = &self.key else { return Ok(()) };
        let answer = serde_json::to_string(answer)
            .map_err(|error| database::Error::Corrupt(format!("idempotency answer: {error}")))?;
        let kept =
            store::Kept { operation: self.operation.clone(), body_hash: self.body_hash.clone(), answer };
        Ok(store::insert(tx, &self.tenant, &self.user, key, &kept, unix_ms()).await?)
    }
}
