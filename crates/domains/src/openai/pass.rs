//! A model by its name: the request's bytes go to the configured server, the answer's bytes come back, both unchanged.
//!
//! Before: policy, and one commit that holds the money and writes the audit entry. After: the real usage is read from
//! the answer as it passes. An answer that was read to its end without usage, or that its client left, settles at an
//! upper estimate of what passed; one that broke off settles at all that was held.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use contracts::{Caller, ModelCallId, model::Usage, policy::Resource};
use futures::{Stream, stream::BoxStream};
use serde::Deserialize;
use serde_json::json;

use super::{
    error::Error,
    meter::{Meter, Shape},
};
use crate::{
    App, authority,
    models::{Endpoint, NewCall, NoAnswer, OpenCall, Price},
};

/// Tokens of an answer that are held where the request names no limit.
const OUTPUT_TOKENS_DEFAULT: u64 = 4096;
/// Answers that one request may ask for.
const CHOICES_MAX: u64 = 128;
/// Bytes of a body that make a token at least.
const TOKEN_BYTES: usize = 3;
/// How much of the server's refusal is read to see whether it is in OpenAI's shape.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// What the server is told of the client's headers.
const REQUEST_HEADERS: [HeaderName; 3] =
    [header::ACCEPT, header::CONTENT_TYPE, HeaderName::from_static("openai-beta")];
/// What the client is told of the server's. Others may name the install's account, or are ours to say.
const RESPONSE_HEADERS: [HeaderName; 8] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::CACHE_CONTROL,
    header::RETRY_AFTER,
    HeaderName::from_static("openai-model"),
    HeaderName::from_static("openai-processing-ms"),
    HeaderName::from_static("openai-version"),
];

/// What of a request is looked at. A name that comes twice is refused: it could be read in two ways.
#[derive(Debug, Deserialize)]
pub(super) struct Head {
    pub model: String,
    #[serde(default)]
    max_tokens: Option<u64>,
    #[serde(default)]
    max_completion_tokens: Option<u64>,
    #[serde(default)]
    max_output_tokens: Option<u64>,
    #[serde(default)]
    n: Option<u64>,
}

impl Head {
    pub(super) fn read(body: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(body).map_err(|error| {
            Error::new(StatusCode::BAD_REQUEST, "invalid_json", format!("The body can't be read: {error}."))
        })
    }

    /// What the request can come to at most, as far as it says.
    fn most(&self, endpoint: Endpoint, bytes: usize, context_tokens: u32) -> Result<Usage, Error> {
        let input_tokens = u64::try_from(bytes.div_ceil(TOKEN_BYTES)).unwrap_or(u64::MAX);
        if endpoint == Endpoint::Embeddings {
            return Ok(Usage { input_tokens, output_tokens: 0 });
        }
        let choices = self.n.unwrap_or(1);
        if !(1..=CHOICES_MAX).contains(&choices) {
            return Err(Error::invalid("n", "invalid_value", format!("`n` is 1 to {CHOICES_MAX}.")));
        }
        let told = [self.max_completion_tokens, self.max_output_tokens, self.max_tokens];
        let each = told.into_iter().flatten().next().unwrap_or(OUTPUT_TOKENS_DEFAULT);
        Ok(Usage { input_tokens, output_tokens: each.min(u64::from(context_tokens)).saturating_mul(choices) })
    }
}

/// Passes a request on and answers what the server answers.
pub(super) async fn forward(
    app: &App,
    caller: &Caller,
    endpoint: Endpoint,
    headers: &HeaderMap,
    head: Head,
    body: Bytes,
) -> Result<Response, Error> {
    let resource = Resource::new("model", &head.model);
    let permit = authority::require(app, caller, "model:invoke", resource).await?;
    let profile = app.model.profile();
    if head.model != profile.name {
        return Err(Error::no_model(&head.model));
    }
    let Some(server) = &app.model_server else { return Err(not_embedded(endpoint)) };
    let price = Price::of(&app.config);
    let most = head.most(endpoint, body.len(), profile.context_tokens)?;
    let call = NewCall {
        id: ModelCallId::new(),
        tenant: caller.tenant,
        user: caller.user,
        model: head.model,
        amount: price.cost(most),
    };
    let entry = permit.entry(json!({ "call_id": call.id, "reserved_micros": call.amount }));
    let mut call = app.calls.open(call, entry).await?.map_err(|_| Error::over_budget())?;
    call.sent();
    let passed = filtered(headers, &REQUEST_HEADERS);
    let response = match server.send(endpoint, &passed, &body).await {
        Ok(response) => response,
        Err(error) => return Err(unanswered(call, &error)),
    };
    let status = response.status();
    if status == StatusCode::NOT_FOUND {
        call.settle(0, Usage::default());
        return not_found(endpoint, response).await;
    }
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    *answer.headers_mut() = filtered(response.headers(), &RESPONSE_HEADERS);
    let events = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let call = if status.is_success() {
        Some(call)
    } else {
        // A refusal is not charged.
        call.settle(0, Usage::default());
        None
    };
    let shape = if events { Shape::Events } else { Shape::Document };
    *answer.body_mut() = Body::from_stream(Passing {
        pieces: Box::pin(response.bytes_stream()),
        meter: Meter::new(shape),
        call,
        price,
        input_tokens: most.input_tokens,
    });
    Ok(answer)
}

fn filtered(headers: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(names.len());
    for name in names {
        if let Some(value) = headers.get(name) {
            kept.insert(name.clone(), HeaderValue::clone(value));
        }
    }
    kept
}

fn not_embedded(endpoint: Endpoint) -> Error {
    let what = match endpoint {
        Endpoint::ChatCompletions => "server",
        Endpoint::Responses => "Responses protocol; use /v1/chat/completions",
        Endpoint::Embeddings => "embeddings",
    };
    let message = format!("The model is embedded in this program and has no {what}.");
    Error::new(StatusCode::NOT_FOUND, "model_not_found", message).about("model")
}

/// A request that got no answer at all.
fn unanswered(call: OpenCall, error: &NoAnswer) -> Error {
    tracing::warn!(%error, "a request could not be passed on");
    let message = format!("{error}.");
    match error {
        NoAnswer::Unreachable(_) | NoAnswer::Key => {
            call.settle(0, Usage::default());
            Error::new(StatusCode::BAD_GATEWAY, "model_unavailable", message)
        }
        // It drops, and settles in full.
        NoAnswer::Silent(_) => Error::new(StatusCode::GATEWAY_TIMEOUT, "model_timeout", message),
        NoAnswer::Broken(_) => Error::new(StatusCode::BAD_GATEWAY, "model_unavailable", message),
    }
}

/// The server has no such model, and says so in OpenAI's shape; or it has no such path.
async fn not_found(endpoint: Endpoint, response: reqwest::Response) -> Result<Response, Error> {
    let headers = filtered(response.headers(), &RESPONSE_HEADERS);
    let small = response.content_length().is_none_or(|length| length <= REFUSAL_BYTES_MAX as u64);
    let body = if small { response.bytes().await.unwrap_or_default() } else { Bytes::new() };
    let shaped = serde_json::from_slice::<serde_json::Value>(&body)
        .is_ok_and(|body| body.get("error").is_some_and(serde_json::Value::is_object));
    if shaped {
        let mut answer = Response::new(Body::from(body));
        *answer.status_mut() = StatusCode::NOT_FOUND;
        *answer.headers_mut() = headers;
        return Ok(answer);
    }
    let what = match endpoint {
        Endpoint::ChatCompletions => "chat completions",
        Endpoint::Responses => "the Responses protocol; use /v1/chat/completions",
        Endpoint::Embeddings => "embeddings",
    };
    let message = format!("The model's server does not know {what}.");
    Err(Error::new(StatusCode::NOT_FOUND, "model_not_found", message).about("model"))
}

/// An answer on its way through.
struct Passing {
    pieces: BoxStream<'static, Result<Bytes, reqwest::Error>>,
    meter: Meter,
    /// Until it is settled.
    call: Option<OpenCall>,
    price: Price,
    input_tokens: u64,
}

impl Stream for Passing {
    type Item = Result<Bytes, reqwest::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = std::task::ready!(self.pieces.as_mut().poll_next(context));
        match &next {
            Some(Ok(piece)) if self.call.is_some() => self.meter.see(piece),
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::warn!(%error, "an answer broke off on its way through");
                // Dropped unsettled: in full.
                drop(self.call.take());
            }
            None => self.settle(),
        }
        Poll::Ready(next)
    }
}

impl Passing {
    fn settle(&mut self) {
        let Some(call) = self.call.take() else { return };
        if let Some(usage) = self.meter.told() {
            call.settle(self.price.cost(usage), usage);
            return;
        }
        let usage = Usage { input_tokens: self.input_tokens, output_tokens: self.meter.output_tokens() };
        let cost = self.price.cost(usage).min(call.reserved());
        call.settle(cost, usage);
    }
}

impl Drop for Passing {
    /// The client has it all, or went away: the model's server is told so by its connection.
    fn drop(&mut self) {
        self.settle();
    }
}
