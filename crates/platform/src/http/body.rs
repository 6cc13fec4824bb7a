//! A JSON body, checked: its size, its type, its UTF-8, its depth and its fields, each with an error that names what
//! is wrong.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{StatusCode, header},
};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{BODY_BYTES_MAX, Problem};

/// How many times its bound of a body that is too large is read all the same.
const READ_ON: usize = 8;

/// A request's body as `T`, and the hash of its bytes for `Idempotency-Key`.
#[derive(Debug)]
pub struct Body<T> {
    pub value: T,
    pub hash: String,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        check_type(&request)?;
        let bytes = read(request.into_body(), BODY_BYTES_MAX).await?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|error| bad(format!("The body is no UTF-8 from byte {} on.", error.valid_up_to())))?;
        // serde_json stops at 128 levels, so a deep body can't exhaust the stack.
        let mut reader = serde_json::Deserializer::from_str(text);
        let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let field = error.path().to_string();
            let inner = error.into_inner();
            match inner.classify() {
                serde_json::error::Category::Data => {
                    Problem::invalid(if field == "." { "body" } else { &field }, inner.to_string())
                }
                _ => bad(format!("The body is no JSON: {inner}.")),
            }
        })?;
        reader.end().map_err(|error| bad(format!("The body has more after its JSON: {error}.")))?;
        // serde takes a list for a struct, by position; no client means that.
        if !text.trim_start().starts_with('{') {
            return Err(Problem::invalid("body", "expected a JSON object"));
        }
        Ok(Self { value, hash: hex::encode(Sha256::digest(&bytes)) })
    }
}

/// A body that says it is JSON, as its bytes, up to a bound of its own.
#[derive(Debug)]
pub struct RawJson<const BYTES_MAX: usize>(pub Bytes);

impl<S: Send + Sync, const BYTES_MAX: usize> FromRequest<S> for RawJson<BYTES_MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        check_type(&request)?;
        Ok(Self(read(request.into_body(), BYTES_MAX).await?))
    }
}

fn check_type(request: &Request) -> Result<(), Problem> {
    let json =
        request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(
            |value| value.split(';').next().is_some_and(|kind| kind.trim() == "application/json"),
        );
    if json {
        return Ok(());
    }
    let detail = "Send the body as `Content-Type: application/json`.";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", detail))
}

/// Reads a body up to its bound. One that is larger is read on for a while and forgotten, since a client that still
/// writes when the connection is closed never sees the answer.
async fn read(body: axum::body::Body, bytes_max: usize) -> Result<Bytes, Problem> {
    let mut pieces = body.into_data_stream();
    // Nearly every body comes in one piece, which is then not copied.
    let (mut first, mut bytes, mut length) = (Bytes::new(), Vec::new(), 0_usize);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| bad("The body broke off.".into()))?;
        length += piece.len();
        if length > bytes_max.saturating_mul(READ_ON) {
            break;
        }
        if first.is_empty() && bytes.is_empty() && length <= bytes_max {
            first = piece;
        } else if length <= bytes_max {
            if bytes.is_empty() {
                bytes.extend_from_slice(&first);
            }
            bytes.extend_from_slice(&piece);
        }
    }
    if length <= bytes_max {
        return Ok(if bytes.is_empty() { first } else { bytes.into() });
    }
    let detail = format!("The body is larger than {bytes_max} bytes.");
    Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail))
}

fn bad(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "malformed", detail)
}
