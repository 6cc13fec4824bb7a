//! The API as a patient client uses it: whatever breaks off is sent again, under the same key.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::http::HeaderValue;
use eventsource_stream::Eventsource;
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    report::{Promise, Violation},
    script::{Class, Script},
    socket,
};

/// The agent that asks before some of its calls.
pub(super) const CAREFUL: &str = "careful";
const APPROVE_EVERY: Duration = Duration::from_millis(60);

pub(super) const REQUEST_MAX: Duration = Duration::from_secs(20);
pub(super) const AGAIN_AFTER: Duration = Duration::from_millis(20);
/// How long what the server has accepted may not be found there. At once would be right; but what is only late is
/// told from what is lost, which it is once a kill came in between.
pub(super) const MISSING_MAX: Duration = Duration::from_secs(2);
/// Violations of one promise that are kept in full; more are only counted.
const VIOLATIONS_KEPT: usize = 50;

#[expect(clippy::disallowed_methods, reason = "a test's own client calls the server under test, on loopback")]
pub(super) fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("an HTTP client")
}

/// An event of a run's stream, as a client got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub sequence: i64,
    pub kind: String,
    pub data: String,
}

/// A message to be sent, again and again if need be, under one key.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub key: String,
    pub script: Script,
    pub interrupt: bool,
}

/// What a client talks by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Requests, and a run's events by Server-Sent Events.
    Requests,
    WebSocket,
}

/// A message that was accepted, and what its run's follower has seen.
#[derive(Debug)]
pub(super) struct Turn {
    pub script: Script,
    pub conversation: String,
    pub message: String,
    pub run: String,
    pub way: Way,
    /// Somebody asked to stop it, so that it needn't complete.
    pub stop_asked: AtomicBool,
    /// The API has said that it is cancelled.
    pub said_cancelled: AtomicBool,
    pub frames: Mutex<Vec<Frame>>,
    pub done: watch::Sender<bool>,
}

impl Turn {
    /// `ids` are the message's and the run's.
    pub(super) fn new(script: Script, conversation: String, ids: (String, String), way: Way) -> Self {
        let (message, run) = ids;
        Self {
            script,
            conversation,
            message,
            run,
            way,
            stop_asked: AtomicBool::new(false),
            said_cancelled: AtomicBool::new(false),
            frames: Mutex::default(),
            done: watch::Sender::new(false),
        }
    }
}

/// What a request is told that needs a server that is away, or hangs.
pub(super) const AWAY: [u16; 2] = [503, 504];

/// An answer that sending again would not change.
#[derive(Debug)]
pub(super) struct Refused {
    pub status: u16,
    pub body: String,
}

/// What all clients share.
pub(super) struct Api {
    http: reqwest::Client,
    /// Servers that requests need may be away for a while: what is refused for that is sent again.
    pub patient: bool,
    /// The policy has hung for longer than a call waits for it, and calls may have been refused for that.
    pub undecided: AtomicBool,
    key: String,
    /// Where the gateway listens; nothing while it is down.
    pub base: watch::Sender<Option<String>>,
    /// How many messages were accepted, by 202 or by a frame that says so.
    pub accepted: watch::Sender<u64>,
    /// How many turns have ended, as far as their followers know.
    pub ended: watch::Sender<u64>,
    pub sent_again: AtomicU64,
    pub reconnects: AtomicU64,
    /// The runs of approved calls, each as often as it had one.
    pub approved: Mutex<Vec<String>>,
    pub websocket: socket::Counts,
    violations: Mutex<(Vec<Violation>, u64)>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Api {
    pub(super) fn new(key: &str, patient: bool) -> Arc<Self> {
        Arc::new(Self {
            http: http(),
            patient,
            undecided: AtomicBool::new(false),
            key: key.to_owned(),
            base: watch::Sender::new(None),
            accepted: watch::Sender::new(0),
            ended: watch::Sender::new(0),
            sent_again: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            approved: Mutex::default(),
            websocket: socket::Counts::default(),
            violations: Mutex::default(),
        })
    }

    pub(super) fn violated(&self, promise: Promise, what: String) {
        let mut violations = lock(&self.violations);
        let alike = violations.0.iter().filter(|earlier| earlier.promise == promise).count();
        if alike < VIOLATIONS_KEPT {
            violations.0.push(Violation { promise, what });
        } else {
            violations.1 += 1;
        }
    }

    /// What was noticed so far, and how many more were not kept.
    pub(super) fn violations(&self) -> (Vec<Violation>, u64) {
        lock(&self.violations).clone()
    }

    /// Nothing more comes of a turn.
    pub(super) fn is_over(&self, turn: &Turn) {
        if !turn.done.send_replace(true) {
            self.ended.send_modify(|count| *count += 1);
        }
    }

    /// Where the gateway listens, once it does.
    pub(super) async fn up(&self) -> String {
        let mut base = self.base.subscribe();
        let up = base.wait_for(Option::is_some).await.expect("the sender is here");
        up.clone().expect("it was waited for")
    }

    /// The value of `Authorization`.
    pub(super) fn bearer(&self) -> HeaderValue {
        HeaderValue::try_from(format!("Bearer {}", self.key)).expect("a key is made of visible characters")
    }

    /// Sends until there is an answer.
    async fn insist(&self, request: impl Fn(&str) -> reqwest::RequestBuilder) -> (u16, String) {
        loop {
            let base = self.up().await;
            let sent = request(&base).bearer_auth(&self.key).timeout(REQUEST_MAX).send().await;
            let answer = match sent {
                Ok(response) => {
                    let status = response.status().as_u16();
                    response.text().await.map(|body| (status, body))
                }
                Err(error) => Err(error),
            };
            match answer {
                Ok((status, _)) if self.patient && AWAY.contains(&status) => {
                    self.sent_again.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                Ok(answer) => return answer,
                Err(_) => {
                    self.sent_again.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        }
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
        wanted: u16,
    ) -> Result<T, Refused> {
        let (status, text) = self
            .insist(|base| {
                let mut request = self.http.post(format!("{base}{path}"));
                if let Some(key) = key {
                    request = request.header("Idempotency-Key", key);
                }
                match body {
                    Some(body) => request.json(body),
                    None => request,
                }
            })
            .await;
        parsed(status, text, wanted)
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refused> {
        let (status, text) = self.insist(|base| self.http.get(format!("{base}{path}"))).await;
        parsed(status, text, 200)
    }

    /// Makes the agent that asks before some of its calls.
    pub(super) async fn make_careful_agent(&self) -> Result<(), Refused> {
        let tools: Vec<String> = Class::ALL.iter().map(|class| class.tool()).collect();
        let body = json!({
            "slug": CAREFUL, "name": "Careful", "tools": tools,
            "tools_ask": [Class::Idempotent.tool(), Class::AtMostOnce.tool()],
        });
        self.post::<Value>("/api/v2/agents", None, Some(&body), 201).await.map(drop)
    }

    pub(super) async fn pending_approvals(&self) -> Result<Vec<Value>, Refused> {
        let page: Value = self.get("/api/v2/approvals?state=pending&limit=200").await?;
        Ok(page["items"].as_array().cloned().unwrap_or_default())
    }

    /// Whether the audit is as it was written, and how many entries it has.
    pub(super) async fn verified_audit(&self) -> Result<Value, Refused> {
        self.get("/api/v2/audit/verify").await
    }

    /// Approves whatever waits for approval, again and again.
    pub(super) async fn approve_all(&self) {
        loop {
            match self.pending_approvals().await {
                Ok(pending) => {
                    for approval in pending {
                        self.approve(&approval).await;
                    }
                }
                Err(refused) => {
                    self.violated(Promise::Requests, format!("approvals can't be listed: {refused:?}"));
                }
            }
            tokio::time::sleep(APPROVE_EVERY).await;
        }
    }

    async fn approve(&self, approval: &Value) {
        let path = format!("/api/v2/approvals/{}/decide", text(approval, "id"));
        let body = json!({ "decision": "approve", "arguments_hash": approval["arguments_hash"] });
        match self.post::<Value>(&path, None, Some(&body), 200).await {
            Ok(_) => lock(&self.approved).push(text(approval, "run_id")),
            // Its answer was lost in a kill, or its run was stopped.
            Err(Refused { status: 409, .. }) => {}
            Err(refused) => {
                self.violated(Promise::Requests, format!("an approval can't be decided: {refused:?}"));
            }
        }
    }

    pub(super) async fn converse(&self, key: &str, agent: &str) -> Result<String, Refused> {
        let body = json!({ "agent": agent });
        let made: Value = self.post("/api/v2/conversations", Some(key), Some(&body), 201).await?;
        Ok(text(&made, "id"))
    }

    /// Sends a message until it is accepted; answers the ids of the message and its run.
    pub(super) async fn send(
        &self,
        conversation: &str,
        message: &Message,
    ) -> Result<(String, String), Refused> {
        let path = format!("/api/v2/conversations/{conversation}/messages");
        let Message { key, script, interrupt } = message;
        let body = json!({ "content": script.content, "interrupt": interrupt });
        let begun = tokio::time::Instant::now();
        let accepted: Value = loop {
            match self.post(&path, Some(key), Some(&body), 202).await {
                Err(Refused { status: 404, .. }) if begun.elapsed() < MISSING_MAX => {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                answer => break answer?,
            }
        };
        self.accepted.send_modify(|count| *count += 1);
        Ok((text(&accepted, "message_id"), text(&accepted, "run_id")))
    }

    /// Asks a run to stop; answers the state in which it is then.
    pub(super) async fn cancel(&self, run: &str) -> Result<String, Refused> {
        let run: Value = self.post(&format!("/api/v2/runs/{run}/cancel"), None, None, 202).await?;
        Ok(text(&run, "state"))
    }

    /// All messages of a conversation, in their order.
    pub(super) async fn messages(&self, conversation: &str) -> Result<Vec<Value>, Refused> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/api/v2/conversations/{conversation}/messages?limit=100{cursor}");
            let page: Value = self.get(&path).await?;
            all.extend(page["items"].as_array().cloned().unwrap_or_default());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(all),
            }
        }
    }

    /// Follows a run to its end, coming back with `Last-Event-ID` whenever the stream breaks.
    pub(super) async fn follow(&self, turn: &Turn) {
        let mut missing_since: Option<tokio::time::Instant> = None;
        loop {
            let last = lock(&turn.frames).last().map_or(0, |frame| frame.sequence);
            match self.listen(&turn.run, last, |frame| lock(&turn.frames).push(frame)).await {
                Ok(true) => break,
                Ok(false) => {
                    missing_since = None;
                    self.reconnects.fetch_add(1, Ordering::Relaxed);
                }
                Err(Refused { status: 404, .. }) => {
                    let since = *missing_since.get_or_insert_with(tokio::time::Instant::now);
                    if since.elapsed() > MISSING_MAX {
                        let what = format!("run {} was accepted and is not there", turn.run);
                        self.violated(Promise::Accepted, what);
                        break;
                    }
                }
                Err(Refused { status, body }) => {
                    let what = format!("the stream of run {} answers {status}: {body}", turn.run);
                    self.violated(Promise::Events, what);
                    break;
                }
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        self.is_over(turn);
    }

    /// One connection to a run's stream. True when it ended with the run's end.
    pub(super) async fn listen(
        &self,
        run: &str,
        after: i64,
        mut heard: impl FnMut(Frame),
    ) -> Result<bool, Refused> {
        let base = self.up().await;
        let mut request = self.http.get(format!("{base}/api/v2/runs/{run}/events")).bearer_auth(&self.key);
        if after > 0 {
            request = request.header("Last-Event-ID", after.to_string());
        }
        let Ok(response) = request.send().await else { return Ok(false) };
        let status = response.status().as_u16();
        if self.patient && AWAY.contains(&status) {
            return Ok(false);
        }
        if status != 200 {
            return Err(Refused { status, body: response.text().await.unwrap_or_default() });
        }
        let mut events = response.bytes_stream().eventsource();
        while let Some(Ok(event)) = events.next().await {
            let last = event.event == "run.done";
            // What is no number breaks the order, and the checks say so.
            let sequence = event.id.parse().unwrap_or(-1);
            heard(Frame { sequence, kind: event.event, data: event.data });
            if last {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn parsed<T: DeserializeOwned>(status: u16, body: String, wanted: u16) -> Result<T, Refused> {
    match serde_json::from_str(&body) {
        Ok(value) if status == wanted => Ok(value),
        _ => Err(Refused { status, body }),
    }
}

pub(super) fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}
