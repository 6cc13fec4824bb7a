//! The configured server: its address, its keys taken in turn, one client for all calls.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use platform::{
    config::Model,
    egress::{self, ClientOptions, Egress},
};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Server {
    base: Url,
    client: reqwest::Client,
    keys: Vec<SecretString>,
    next_key: AtomicUsize,
    /// The longest silence, before an answer and in it.
    pub(super) idle: Duration,
}

impl Server {
    /// `base` ends before `/chat/completions`.
    pub(super) fn new(model: &Model, base: &Url, egress: &Egress) -> Result<Self, egress::Error> {
        let idle = Duration::from_millis(model.idle_timeout_ms);
        let options = ClientOptions { connect_timeout: CONNECT_TIMEOUT, read_timeout: idle };
        Ok(Self {
            client: egress.client_for(base, options)?,
            base: base.clone(),
            keys: model.keys.clone(),
            next_key: AtomicUsize::new(0),
            idle,
        })
    }

    pub(super) fn endpoint(&self, path: &str) -> Url {
        let mut endpoint = self.base.clone();
        endpoint.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        endpoint
    }

    /// A request with the next key.
    pub(super) fn post(&self, endpoint: &Url) -> reqwest::RequestBuilder {
        let request = self.client.post(endpoint.clone());
        if self.keys.is_empty() {
            return request;
        }
        let turn = self.next_key.fetch_add(1, Ordering::Relaxed);
        match self.keys.get(turn % self.keys.len()) {
            Some(key) => request.bearer_auth(key.expose_secret()),
            None => request,
        }
    }

    pub(super) fn has_several_keys(&self) -> bool {
        self.keys.len() > 1
    }
}

/// What was at the bottom of an error; reqwest's own text names the URL.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
