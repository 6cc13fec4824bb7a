//! A JSON body, checked: its size, its type, its UTF-8, its depth and its fields, each with an error that names what
//! is wrong.

use axum::{
    extract::{FromRequest, Request},
    http::{StatusCode, header},
};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{BODY_BYTES_MAX, Problem};

/// How much of a body that is too large is read all the same.
const READ_ON_BYTES_MAX: usize = 8 * BODY_BYTES_MAX;

/// A request's body as `T`, and the hash of its bytes for `Idempotency-Key`.
#[derive(Debug)]
pub struct Body<T> {
    pub value: T,
    pub hash: String,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let json =
            request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(
                |value| value.split(';').next().is_some_and(|kind| kind.trim() == "application/json"),
            );
        if !json {
            let detail = "Send the body as `Content-Type: application/json`.";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", detail));
        }
        let bytes = read(request.into_body()).await?;
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

/// Reads a body up to its bound. One that is larger is read on for a while and forgotten, since a client that still
/// writes when the connection is closed never sees the answer.
async fn read(body: axum::body::Body) -> Result<Vec<u8>, Problem> {
    let mut pieces = body.into_data_stream();
    let (mut bytes, mut length) = (Vec::new(), 0_usize);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| bad("The body broke off.".into()))?;
        length += piece.len();
        if length > READ_ON_BYTES_MAX {
            break;
        }
        if length <= BODY_BYTES_MAX {
            bytes.extend_from_slice(&piece);
        }
    }
    if length <= BODY_BYTES_MAX {
        return Ok(bytes);
    }
    let detail = format!("The body is larger than {BODY_BYTES_MAX} bytes.");
    Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail))
}

fn bad(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "malformed", detail)
}
