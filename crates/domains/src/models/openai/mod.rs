//! Any server that speaks OpenAI's chat completions.
//!
//! A call is tried again only while nothing of its answer has been streamed: after that, a second try would be a
//! second answer. Several keys are taken in turn.

mod pass;
mod server;
mod wire;

use std::{sync::Arc, time::Duration};

use contracts::model::{ChatEvent, ChatModel, ChatRequest, ModelError, ModelProfile};
use eventsource_stream::Eventsource;
use futures::{StreamExt, stream::BoxStream};
use platform::{
    config::Model,
    egress::{self, Egress},
};
use reqwest::StatusCode;
use url::Url;

pub use pass::PassThrough;
pub(crate) use pass::{Endpoint, NoAnswer};
use server::Server;

/// Tries of one call, each with the next key.
const TRIES_MAX: usize = 3;
const BACKOFF: Duration = Duration::from_millis(300);
/// Longest wait that a server may ask for by `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// How much of a server's error text is kept.
const ERROR_CHARS_MAX: usize = 300;

#[derive(Debug, Clone)]
pub struct OpenAiModel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    profile: ModelProfile,
    server: Server,
    endpoint: Url,
}

impl OpenAiModel {
    /// `base` ends before `/chat/completions`.
    pub fn new(model: &Model, base: &Url, egress: &Egress) -> Result<Self, egress::Error> {
        let server = Server::new(model, base, egress)?;
        Ok(Self(Arc::new(Inner {
            profile: ModelProfile {
                name: model.name.clone(),
                context_tokens: model.context_tokens,
                tools: model.tools,
            },
            endpoint: server.endpoint("chat/completions"),
            server,
        })))
    }
}

impl ChatModel for OpenAiModel {
    fn profile(&self) -> &ModelProfile {
        &self.0.profile
    }

    /// No tokenizer is at hand. Three bytes a token is above what English, code or JSON need.
    fn count_tokens(&self, text: &str) -> u32 {
        u32::try_from(text.len() / 3 + 1).unwrap_or(u32::MAX)
    }

    fn chat(&self, request: ChatRequest) -> BoxStream<'static, Result<ChatEvent, ModelError>> {
        let inner = Arc::clone(&self.0);
        let body = wire::body(&inner.profile.name, &request);
        Box::pin(async_stream::stream! {
            let response = match inner.open(&body).await {
                Ok(response) => response,
                Err(error) => {
                    yield Err(error);
                    return;
                }
            };
            let mut answer = wire::Answer::default();
            let mut events = response.bytes_stream().eventsource();
            loop {
                let event = match tokio::time::timeout(inner.server.idle, events.next()).await {
                    Err(_) => {
                        yield Err(ModelError::Interrupted(format!("silent for {} s", inner.server.idle.as_secs())));
                        return;
                    }
                    Ok(None) => break,
                    Ok(Some(Err(error))) => {
                        yield Err(ModelError::Interrupted(error.to_string()));
                        return;
                    }
                    Ok(Some(Ok(event))) => event,
                };
                if event.data.trim() == "[DONE]" {
                    break;
                }
                match answer.read(&event.data) {
                    Ok(Some(text)) => yield Ok(ChatEvent::Delta(text)),
                    Ok(None) => {}
                    Err(error) => {
                        yield Err(error);
                        return;
                    }
                }
            }
            for event in answer.end() {
                yield event;
            }
        })
    }
}

impl Inner {
    /// Sends the request, again where that may help, and returns a response whose stream is open.
    async fn open(&self, body: &serde_json::Value) -> Result<reqwest::Response, ModelError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let (error, wait) = match self.send(body).await {
                Ok(response) => return Ok(response),
                Err(Unsent::Final(error)) => return Err(error),
                Err(Unsent::Again(error, wait)) => (error, wait),
            };
            if tries >= TRIES_MAX {
                return Err(error);
            }
            tracing::warn!(%error, tries, "a model call is tried again");
            let backoff = BACKOFF * u32::try_from(tries).unwrap_or(1);
            tokio::time::sleep(wait.unwrap_or(backoff).min(RETRY_AFTER_MAX)).await;
        }
    }

    async fn send(&self, body: &serde_json::Value) -> Result<reqwest::Response, Unsent> {
        let request = self.server.post(&self.endpoint).json(body);
        // A server that took the request and says nothing may be at work on it: not asked twice.
        let silent = || {
            let silent = format!("no answer within {} s", self.server.idle.as_secs());
            Err(Unsent::Final(ModelError::Unavailable(silent)))
        };
        let response = match tokio::time::timeout(self.server.idle, request.send()).await {
            Err(_) => return silent(),
            // The client's own timer for reads runs for as long, and may be the first.
            Ok(Err(error)) if error.is_timeout() && !error.is_connect() => return silent(),
            // reqwest's own text names the URL, which the log has no need of.
            Ok(Err(error)) => {
                let error = ModelError::Unavailable(server::root_cause(&error));
                return Err(Unsent::Again(error, None));
            }
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let wait = retry_after(&response);
        let mut text = response.text().await.unwrap_or_default();
        if let Some((end, _)) = text.char_indices().nth(ERROR_CHARS_MAX) {
            text.truncate(end);
        }
        let text = format!("status {}: {text}", status.as_u16());
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            return Err(Unsent::Again(ModelError::Unavailable(text), wait));
        }
        // Another key may be a good one.
        if status == StatusCode::UNAUTHORIZED && self.server.has_several_keys() {
            return Err(Unsent::Again(ModelError::Refused(text), Some(Duration::ZERO)));
        }
        Err(Unsent::Final(ModelError::Refused(text)))
    }
}

enum Unsent {
    Again(ModelError, Option<Duration>),
    Final(ModelError),
}

fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let seconds = response.headers().get(reqwest::header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
