//! A model server that follows a script: OpenAI's `/v1/chat/completions`, streamed or not, `/v1/embeddings` and
//! `/v1/models`.
//!
//! It is as strict as the real one about what it is sent, counts what it sees, and fails in every way a real one
//! does. `GET /stats` answers its counts to other processes, `POST /release` does what [`ScriptedModel::release`] does.
//!
//! Tokens are counted as four characters each (rounded up), of all messages for the input and of the answer for the
//! output, so a test can work out what a call costs.

pub mod directive;
mod perform;
mod request;
mod script;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use request::ParsedRequest;
pub use script::{Answer, Script};
pub use wire::tokens;

use crate::server::Server;

const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Requests kept for assertions unless [`Options::recorded_max`] says otherwise; older ones are forgotten.
const RECORDED_MAX: usize = 256;

#[derive(Debug, Clone)]
pub struct Options {
    /// Port 0 takes any free one.
    pub address: SocketAddr,
    pub script: Script,
    /// API keys that are let in. None at all: everyone is, with or without a key.
    pub keys: Vec<String>,
    /// Models that exist; another name gets a 404. None at all: any name will do.
    pub models: Vec<String>,
    /// How many requests are kept for assertions; 0 in benchmarks.
    pub recorded_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            script: Script::by_directive(),
            keys: Vec::new(),
            models: Vec::new(),
            recorded_max: RECORDED_MAX,
        }
    }
}

/// What the server has seen since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Chat requests that were let in and understood.
    pub requests: u64,
    /// Of those, the ones whose answer has not ended, nor been given up by the client.
    pub in_flight: u64,
    pub in_flight_max: u64,
    /// 401, for a missing or wrong key.
    pub unauthorised: u64,
    /// 400 or 404, for what a real server would not understand either.
    pub invalid: u64,
    /// `requests` by API key; the empty key stands for none.
    pub by_key: BTreeMap<String, u64>,
}

/// The server, until it is dropped; then its port is closed and every open answer breaks off.
#[derive(Debug)]
pub struct ScriptedModel {
    shared: Arc<Shared>,
    server: Server,
}

impl ScriptedModel {
    /// [`Script::by_directive`] on any free loopback port.
    ///
    /// # Panics
    /// When no port can be had.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(Options::default()).expect("a free loopback port")
    }

    /// [`Script::by_directive`] at this address.
    pub fn start_on(address: SocketAddr) -> io::Result<Self> {
        Self::start_with(Options { address, ..Options::default() })
    }

    /// This script on any free loopback port.
    ///
    /// # Panics
    /// When no port can be had.
    #[must_use]
    pub fn with_script(script: Script) -> Self {
        Self::start_with(Options { script, ..Options::default() }).expect("a free loopback port")
    }

    pub fn start_with(options: Options) -> io::Result<Self> {
        let address = options.address;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let shared = Arc::new(Shared {
            script: Mutex::new(options.script),
            keys: options.keys,
            models: options.models,
            recorded_max: options.recorded_max,
            recorded: Mutex::new(VecDeque::new()),
            counts: watch::Sender::new(Counts::default()),
            released: watch::Sender::new(0),
            nonce: since.as_micros() as u64,
            next_id: AtomicU64::new(1),
        });
        let router = Router::new()
            .route("/v1/chat/completions", post(chat))
            .route("/v1/embeddings", post(embeddings))
            .route("/v1/models", get(models))
            .route("/stats", get(stats))
            .route("/release", post(release))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(Arc::clone(&shared));
        let server = Server::start("scripted-model", address, router)?;
        Ok(Self { shared, server })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What a client is configured with: `http://127.0.0.1:PORT/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address())
    }

    /// From the next request on.
    pub fn set_script(&self, script: Script) {
        *lock(&self.shared.script) = script;
    }

    /// Lets every answer that is on hold go on ([`Answer::Hold`]).
    pub fn release(&self) {
        self.shared.release();
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counts.borrow().clone()
    }

    /// The requests that were let in and understood, oldest first, as far as they are kept.
    #[must_use]
    pub fn requests(&self) -> Vec<Arc<ParsedRequest>> {
        lock(&self.shared.recorded).iter().cloned().collect()
    }

    /// # Panics
    /// When there was no request.
    #[must_use]
    pub fn last_request(&self) -> Arc<ParsedRequest> {
        lock(&self.shared.recorded).back().cloned().expect("the model was asked at least once")
    }

    /// Waits until the counts are as wished.
    ///
    /// # Panics
    /// When they aren't within that time.
    pub async fn wait_for(&self, within: Duration, mut wished: impl FnMut(&Counts) -> bool) -> Counts {
        let mut counts = self.shared.counts.subscribe();
        let waited = tokio::time::timeout(within, counts.wait_for(|counts| wished(counts))).await;
        match waited {
            Ok(reached) => reached.expect("the counts live as long as the server").clone(),
            Err(_) => panic!("the model's counts are not as wished within {within:?}: {:?}", self.counts()),
        }
    }
}

#[derive(Debug)]
struct Shared {
    script: Mutex<Script>,
    keys: Vec<String>,
    models: Vec<String>,
    recorded_max: usize,
    recorded: Mutex<VecDeque<Arc<ParsedRequest>>>,
    counts: watch::Sender<Counts>,
    /// Counts releases: a held answer waits for the next one.
    released: watch::Sender<u64>,
    /// Makes ids differ between two servers.
    nonce: u64,
    next_id: AtomicU64,
}

impl Shared {
    fn id(&self, prefix: &str) -> String {
        format!("{prefix}{:x}{:04x}", self.nonce, self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    fn release(&self) {
        self.released.send_modify(|count| *count += 1);
    }

    /// The request's key if it may come in, else the refusal.
    fn admit(&self, headers: &HeaderMap) -> Result<Option<String>, Box<Response>> {
        let key = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        if self.keys.is_empty() || key.is_some_and(|key| self.keys.iter().any(|known| known == key)) {
            return Ok(key.map(str::to_owned));
        }
        self.counts.send_modify(|counts| counts.unauthorised += 1);
        Err(Box::new(refusal(
            StatusCode::UNAUTHORIZED,
            "Incorrect API key provided.",
            Some("invalid_api_key"),
        )))
    }

    fn begin(self: &Arc<Self>, request: &Arc<ParsedRequest>) -> InFlight {
        // Before it is counted: a test that has seen the count may release at once.
        let released = self.released.subscribe();
        if self.recorded_max > 0 {
            let mut recorded = lock(&self.recorded);
            if recorded.len() == self.recorded_max {
                recorded.pop_front();
            }
            recorded.push_back(Arc::clone(request));
        }
        self.counts.send_modify(|counts| {
            counts.requests += 1;
            counts.in_flight += 1;
            counts.in_flight_max = counts.in_flight_max.max(counts.in_flight);
            *counts.by_key.entry(request.key.clone().unwrap_or_default()).or_default() += 1;
        });
        InFlight { shared: Arc::clone(self), released }
    }
}

/// One answer under way; lives in the answer's body, so it ends when the client has it all or gives up.
struct InFlight {
    shared: Arc<Shared>,
    released: watch::Receiver<u64>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.shared.counts.send_modify(|counts| counts.in_flight -= 1);
    }
}

async fn chat(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let key = match shared.admit(&headers) {
        Ok(key) => key,
        Err(response) => return *response,
    };
    let invalid = |status, message: &str, code| {
        shared.counts.send_modify(|counts| counts.invalid += 1);
        refusal(status, message, code)
    };
    let request = match ParsedRequest::parse(&body, key) {
        Ok(request) => Arc::new(request),
        Err(message) => return invalid(StatusCode::BAD_REQUEST, &message, None),
    };
    if !shared.models.is_empty() && !shared.models.contains(&request.model) {
        let message = format!("The model `{}` does not exist.", request.model);
        return invalid(StatusCode::NOT_FOUND, &message, Some("model_not_found"));
    }
    let in_flight = shared.begin(&request);
    let script = lock(&shared.script).clone();
    let answer = script.answer(&request);
    perform::perform(&shared, &request, answer, in_flight).await
}

#[derive(Deserialize)]
struct EmbeddingsRequest {
    model: String,
    input: Input,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    One(String),
    Many(Vec<String>),
}

/// A text's vector is its length and its first two characters.
async fn embeddings(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    if let Err(response) = shared.admit(&headers) {
        return *response;
    }
    let request: EmbeddingsRequest = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, &error.to_string(), None),
    };
    let texts = match request.input {
        Input::One(text) => vec![text],
        Input::Many(texts) => texts,
    };
    let characters: usize = texts.iter().map(|text| text.chars().count()).sum();
    let vector = |text: &String| {
        let mut characters = text.chars().map(|character| f64::from(u32::from(character)));
        [text.chars().count() as f64, characters.next().unwrap_or(0.0), characters.next().unwrap_or(0.0)]
    };
    let data: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| serde_json::json!({"object": "embedding", "index": index, "embedding": vector(text)}))
        .collect();
    let usage = serde_json::json!({"prompt_tokens": tokens(characters), "total_tokens": tokens(characters)});
    Json(serde_json::json!({"object": "list", "model": request.model, "data": data, "usage": usage}))
        .into_response()
}

async fn models(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if let Err(response) = shared.admit(&headers) {
        return *response;
    }
    let any = [String::from("scripted")];
    let names = if shared.models.is_empty() { &any[..] } else { &shared.models };
    let data: Vec<_> = names
        .iter()
        .map(|name| serde_json::json!({"id": name, "object": "model", "created": 0, "owned_by": "soma-testing"}))
        .collect();
    Json(serde_json::json!({"object": "list", "data": data})).into_response()
}

async fn stats(State(shared): State<Arc<Shared>>) -> Json<Counts> {
    Json(shared.counts.borrow().clone())
}

async fn release(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.release();
    StatusCode::NO_CONTENT
}

fn refusal(status: StatusCode, message: &str, code: Option<&str>) -> Response {
    let body = wire::error(message, "invalid_request_error", code);
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
