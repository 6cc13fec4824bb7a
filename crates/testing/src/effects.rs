//! The world outside, where effects happen: a ledger that writes down each effect that a tool really had, so that a
//! test can tell once from twice after any number of crashes.
//!
//! - `POST /effects/{class}` with `{"run", "call", "note"}` applies an effect and answers 201 with it. With an
//!   `Idempotency-Key` the effect is applied once per class and key: the same request again gets the same answer,
//!   another body under the same key gets 422 (draft-ietf-httpapi-idempotency-key-header). Without one each request
//!   is an effect.
//! - Query `before_ms` waits before the effect is applied, `after_ms` after it and before the answer: where a kill
//!   should fall.
//! - `GET /effects` lists what was applied, in order; `GET /stats` answers the counts.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr},
    path::{Path as FilePath, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::server::Server;

/// The longest `before_ms` and `after_ms`.
const PAUSE_MAX: Duration = Duration::from_secs(120);

/// An effect that was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// 1, 2, 3: the order in which they were applied.
    pub number: u64,
    pub class: String,
    pub key: Option<String>,
    #[serde(flatten)]
    pub cause: Cause,
}

/// Who had the effect, and what it says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    #[serde(default)]
    pub run: String,
    #[serde(default)]
    pub call: String,
    #[serde(default)]
    pub note: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests to apply an effect, also those that still wait in `before_ms`.
    pub requests: u64,
    pub applied: u64,
    /// Requests whose key had been seen: nothing happened again.
    pub replayed: u64,
    /// Requests whose key had been seen with another body.
    pub conflicts: u64,
    /// `applied` by class.
    pub by_class: BTreeMap<String, u64>,
    /// `applied` by call.
    pub by_call: BTreeMap<String, u64>,
}

#[derive(Debug, Clone)]
pub struct Options {
    /// Port 0 takes any free one.
    pub address: SocketAddr,
    /// One JSON document per line and effect, appended. What it holds at the start counts as applied.
    pub file: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), file: None }
    }
}

/// The ledger, until it is dropped.
#[derive(Debug)]
pub struct EffectLedger {
    shared: Arc<Shared>,
    server: Server,
}

impl EffectLedger {
    /// In memory, on any free loopback port.
    ///
    /// # Panics
    /// When no port can be had.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(Options::default()).expect("a free loopback port")
    }

    pub fn start_with(options: Options) -> io::Result<Self> {
        let mut book = Book::default();
        if let Some(path) = &options.file {
            book.open(path)?;
        }
        let counts = watch::Sender::new(book.counts());
        let shared = Arc::new(Shared { book: Mutex::new(book), counts });
        let router = Router::new()
            .route("/effects/{class}", post(apply))
            .route("/effects", get(list))
            .route("/stats", get(stats))
            .with_state(Arc::clone(&shared));
        let server = Server::start("effect-ledger", options.address, router)?;
        Ok(Self { shared, server })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// `http://127.0.0.1:PORT`; effects are posted to `/effects/{class}` below it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// What was applied, in order.
    #[must_use]
    pub fn effects(&self) -> Vec<Effect> {
        self.shared.book().effects.clone()
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counts.borrow().clone()
    }

    /// Waits until the counts are as wished.
    ///
    /// # Panics
    /// When they aren't within that time.
    pub async fn wait_for(&self, within: Duration, mut wished: impl FnMut(&Counts) -> bool) -> Counts {
        let mut counts = self.shared.counts.subscribe();
        let waited = tokio::time::timeout(within, counts.wait_for(|counts| wished(counts))).await;
        match waited {
            Ok(reached) => reached.expect("the counts live as long as the ledger").clone(),
            Err(_) => panic!("the ledger's counts are not as wished within {within:?}: {:?}", self.counts()),
        }
    }
}

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    counts: watch::Sender<Counts>,
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Book {
    effects: Vec<Effect>,
    /// Class and key to the place in `effects`.
    by_key: HashMap<(String, String), usize>,
    file: Option<File>,
}

enum Outcome {
    Applied(Effect),
    Replayed(Effect),
    Conflict,
}

impl Book {
    fn open(&mut self, path: &FilePath) -> io::Result<()> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        for line in BufReader::new(&file).lines() {
            self.remember(serde_json::from_str(&line?)?);
        }
        self.file = Some(file);
        Ok(())
    }

    fn remember(&mut self, effect: Effect) {
        if let Some(key) = &effect.key {
            self.by_key.insert((effect.class.clone(), key.clone()), self.effects.len());
        }
        self.effects.push(effect);
    }

    fn apply(&mut self, class: String, key: Option<String>, cause: Cause) -> io::Result<Outcome> {
        if let Some(key) = &key
            && let Some(&place) = self.by_key.get(&(class.clone(), key.clone()))
        {
            let earlier = &self.effects[place];
            return Ok(if earlier.cause == cause {
                Outcome::Replayed(earlier.clone())
            } else {
                Outcome::Conflict
            });
        }
        let effect = Effect { number: self.effects.len() as u64 + 1, class, key, cause };
        if let Some(file) = &mut self.file {
            let mut line = serde_json::to_vec(&effect)?;
            line.push(b'\n');
            file.write_all(&line)?;
        }
        self.remember(effect.clone());
        Ok(Outcome::Applied(effect))
    }

    /// What the effects alone say; for the start.
    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.effects.iter().for_each(|effect| counts.add(effect));
        counts
    }
}

impl Counts {
    fn add(&mut self, effect: &Effect) {
        self.applied += 1;
        *self.by_class.entry(effect.class.clone()).or_default() += 1;
        *self.by_call.entry(effect.cause.call.clone()).or_default() += 1;
    }
}

#[derive(Deserialize)]
struct Pauses {
    #[serde(default)]
    before_ms: u64,
    #[serde(default)]
    after_ms: u64,
}

async fn apply(
    State(shared): State<Arc<Shared>>,
    Path(class): Path<String>,
    Query(pauses): Query<Pauses>,
    headers: HeaderMap,
    Json(cause): Json<Cause>,
) -> Response {
    let key = match headers.get("idempotency-key").map(|value| value.to_str()) {
        None => None,
        Some(Ok(key)) if !key.is_empty() => Some(key.to_owned()),
        Some(_) => {
            return (StatusCode::BAD_REQUEST, "Idempotency-Key is not readable text").into_response();
        }
    };
    shared.counts.send_modify(|counts| counts.requests += 1);
    pause(pauses.before_ms).await;
    let outcome = {
        let mut book = shared.book();
        let outcome = book.apply(class, key, cause);
        // Counted under the same lock, so that counts never lag behind the list.
        shared.counts.send_modify(|counts| match &outcome {
            Ok(Outcome::Applied(effect)) => counts.add(effect),
            Ok(Outcome::Replayed(_)) => counts.replayed += 1,
            Ok(Outcome::Conflict) => counts.conflicts += 1,
            Err(_) => {}
        });
        outcome
    };
    pause(pauses.after_ms).await;
    match outcome {
        Ok(Outcome::Applied(effect)) => (StatusCode::CREATED, Json(effect)).into_response(),
        Ok(Outcome::Replayed(effect)) => {
            (StatusCode::CREATED, [("idempotent-replayed", "true")], Json(effect)).into_response()
        }
        Ok(Outcome::Conflict) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "this Idempotency-Key was used with another body")
                .into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn pause(milliseconds: u64) {
    if milliseconds > 0 {
        tokio::time::sleep(Duration::from_millis(milliseconds).min(PAUSE_MAX)).await;
    }
}

async fn list(State(shared): State<Arc<Shared>>) -> Json<Vec<Effect>> {
    Json(shared.book().effects.clone())
}

async fn stats(State(shared): State<Arc<Shared>>) -> Json<Counts> {
    Json(shared.counts.borrow().clone())
}

#[cfg(test)]
mod tests;
