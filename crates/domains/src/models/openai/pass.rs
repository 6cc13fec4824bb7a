//! Requests that pass through to the configured server as they are: their bytes, our key.
//!
//! Nothing is tried again but what another key may mend: whoever called decides about the rest.

use std::sync::Arc;

use platform::{
    config::Model,
    egress::{self, Egress},
};
use reqwest::{Response, StatusCode, header::HeaderMap};
use url::Url;

use super::server::{Server, root_cause};

/// Tries of one request that the server refuses for its key, each with the next.
const KEY_TRIES_MAX: usize = 3;

/// What of the server can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    ChatCompletions,
    Responses,
    Embeddings,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// The request did not reach the server.
    #[error("the model's server can't be reached: {0}")]
    Unreachable(String),
    /// It may be at work on the request.
    #[error("the model's server said nothing for {0} s")]
    Silent(u64),
    /// It broke off before its answer began.
    #[error("the model's server broke off: {0}")]
    Broken(String),
    #[error("the model's server refuses this install's key")]
    Key,
}

/// The configured server, for requests that are somebody else's. Clones share its connections.
#[derive(Debug, Clone)]
pub struct PassThrough(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    server: Server,
    chat_completions: Url,
    responses: Url,
    embeddings: Url,
}

impl PassThrough {
    /// `base` ends before `/chat/completions`.
    pub(crate) fn new(model: &Model, base: &Url, egress: &Egress) -> Result<Self, egress::Error> {
        let server = Server::new(model, base, egress)?;
        Ok(Self(Arc::new(Inner {
            chat_completions: server.endpoint("chat/completions"),
            responses: server.endpoint("responses"),
            embeddings: server.endpoint("embeddings"),
            server,
        })))
    }

    /// Sends these bytes and answers once the server's headers are there, whatever its status.
    pub(crate) async fn send(
        &self,
        endpoint: Endpoint,
        headers: &HeaderMap,
        body: &axum::body::Bytes,
    ) -> Result<Response, NoAnswer> {
        let inner = &*self.0;
        let url = match endpoint {
            Endpoint::ChatCompletions => &inner.chat_completions,
            Endpoint::Responses => &inner.responses,
            Endpoint::Embeddings => &inner.embeddings,
        };
        let mut tries = 0;
        loop {
            tries += 1;
            let request = inner.server.post(url).headers(headers.clone()).body(body.clone());
            let silent = || NoAnswer::Silent(inner.server.idle.as_secs());
            let response = match tokio::time::timeout(inner.server.idle, request.send()).await {
                Err(_) => return Err(silent()),
                Ok(Err(error)) if error.is_connect() => {
                    return Err(NoAnswer::Unreachable(root_cause(&error)));
                }
                Ok(Err(error)) if error.is_timeout() => return Err(silent()),
                Ok(Err(error)) => return Err(NoAnswer::Broken(root_cause(&error))),
                Ok(Ok(response)) => response,
            };
            if response.status() != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            if tries >= KEY_TRIES_MAX || !inner.server.has_several_keys() {
                return Err(NoAnswer::Key);
            }
        }
    }
}
