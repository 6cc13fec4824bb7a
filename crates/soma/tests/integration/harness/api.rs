//! A client of the API: requests, replies, and a run's stream of events.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use eventsource_stream::{Event, Eventsource};
use futures::StreamExt;
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};

use super::{PATIENCE, known_everywhere};

/// Below these are changes of who somebody is and what they may do, which a gateway remembers for a moment.
const RIGHTS: [&str; 8] = [
    "/api/v2/api-keys",
    "/api/v2/auth",
    "/api/v2/me",
    "/api/v2/permissions",
    "/api/v2/service-accounts",
    "/api/v2/settings",
    "/api/v2/tenants",
    "/api/v2/users",
];

#[derive(Clone)]
pub struct Api {
    client: reqwest::Client,
    /// Of the gateways, which take turns.
    bases: Vec<String>,
    next: Arc<AtomicUsize>,
    key: Option<String>,
    cookie: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    /// JSON, or the text when it is none.
    pub body: Value,
}

impl Reply {
    /// The body, after making sure of the status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// The problem's code, after making sure that it is a problem of this status; or an error of this status in
    /// OpenAI's shape, its code.
    #[track_caller]
    pub fn problem(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "{}", self.body);
        let kind = self.headers.get("content-type").and_then(|value| value.to_str().ok());
        if let Some(error) = self.body["error"].as_object() {
            assert_eq!(kind, Some("application/json"), "{}", self.body);
            let fields: Vec<&str> = error.keys().map(String::as_str).collect();
            assert_eq!(fields, ["code", "message", "param", "type"], "{}", self.body);
            return error["code"].as_str().expect("a code");
        }
        assert_eq!(kind, Some("application/problem+json"), "{}", self.body);
        assert_eq!(self.body["status"], status);
        self.body["code"].as_str().expect("a code")
    }
}

/// One event of a run's stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    pub sequence: i64,
    pub kind: String,
    /// `{type, id, timestamp, payload}`.
    pub data: Value,
}

impl Frame {
    pub fn payload(&self) -> &Value {
        &self.data["payload"]
    }
}

/// A run from its message to its end.
#[derive(Debug)]
pub struct Turn {
    pub frames: Vec<Frame>,
    /// As `GET /api/v2/runs/{id}` shows it afterwards.
    pub run: Value,
}

impl Turn {
    pub fn kinds(&self) -> Vec<&str> {
        self.frames.iter().map(|frame| frame.kind.as_str()).collect()
    }

    pub fn all(&self, kind: &str) -> Vec<&Value> {
        self.frames.iter().filter(|frame| frame.kind == kind).map(Frame::payload).collect()
    }

    /// The payload of the one event of this kind.
    #[track_caller]
    pub fn one(&self, kind: &str) -> &Value {
        let all = self.all(kind);
        assert_eq!(all.len(), 1, "{kind}: {:?}", self.frames);
        all[0]
    }

    #[track_caller]
    pub fn answer(&self) -> &str {
        self.one("chat.done")["content"].as_str().expect("text")
    }

    /// The code with which the run failed.
    #[track_caller]
    pub fn failure(&self) -> &str {
        assert_eq!(self.run["state"], "failed", "{}", self.run);
        assert_eq!(self.one("error"), &self.run["error"]);
        assert_eq!(self.one("run.done")["status"], "failed");
        self.run["error"]["code"].as_str().expect("a code")
    }
}

impl Api {
    pub fn new(base: &str, key: Option<&str>) -> Self {
        Self::of(&[base.to_owned()], key)
    }

    /// Of several gateways of one install: each request goes to the next of them.
    #[expect(clippy::disallowed_methods, reason = "a test's own client of a server on loopback")]
    pub fn of(bases: &[String], key: Option<&str>) -> Self {
        Self {
            client: reqwest::Client::new(),
            bases: bases.to_vec(),
            next: Arc::default(),
            key: key.map(str::to_owned),
            cookie: None,
        }
    }

    /// The same by another client, as with a certificate of its own or from another address.
    pub fn with_client(&self, client: reqwest::Client) -> Self {
        Self { client, ..self.clone() }
    }

    /// This client's key.
    pub fn key(&self) -> &str {
        self.key.as_deref().expect("a key")
    }

    pub fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    pub fn without_key(&self) -> Self {
        Self { key: None, ..self.clone() }
    }

    /// A browser that got this answer to signing in: it sends the session's cookie, and where it comes from.
    #[track_caller]
    pub fn in_session(&self, signed_in: &Reply) -> Self {
        assert_eq!(signed_in.status, 200, "{}", signed_in.body);
        let cookie = signed_in.headers["set-cookie"].to_str().expect("a cookie").split(';').next();
        Self { key: None, cookie: cookie.map(str::to_owned), ..self.clone() }
    }

    /// A browser that has this cookie of a session.
    pub fn with_session(&self, token: &str) -> Self {
        Self { key: None, cookie: Some(format!("session_id={token}")), ..self.clone() }
    }

    /// `session_id=...`, as this browser sends it.
    #[track_caller]
    pub fn cookie(&self) -> &str {
        self.cookie.as_deref().expect("a cookie")
    }

    /// A request with this client's credential and nothing else.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let base = &self.bases[self.next.fetch_add(1, Ordering::Relaxed) % self.bases.len()];
        let request = self.client.request(method, format!("{base}{path}")).timeout(PATIENCE);
        let request = match &self.cookie {
            Some(cookie) => request.header("cookie", cookie).header("origin", base),
            None => request,
        };
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    pub async fn reply(request: reqwest::RequestBuilder) -> Reply {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a body");
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Reply { status, headers, body }
    }

    /// Of several gateways it is the next one that answers; what rights somebody has counts at all of them by then.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let changes_rights = method != Method::GET && RIGHTS.iter().any(|prefix| path.starts_with(prefix));
        let request = self.request(method, path);
        let reply = Self::reply(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await;
        if changes_rights && reply.status < 300 {
            known_everywhere().await;
        }
        reply
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.call(Method::POST, path, Some(&body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Reply {
        self.call(Method::PATCH, path, Some(&body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Reply {
        self.call(Method::PUT, path, Some(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.call(Method::DELETE, path, None).await
    }

    /// A new conversation with the default agent; its id.
    pub async fn conversation(&self) -> String {
        self.conversation_with("default").await
    }

    pub async fn conversation_with(&self, agent: &str) -> String {
        let made = self.post("/api/v2/conversations", json!({ "agent": agent })).await.expect(201);
        made["id"].as_str().expect("an id").to_owned()
    }

    /// Sends a message; the id of its run.
    pub async fn say(&self, conversation: &str, text: &str) -> String {
        let accepted = self.send(conversation, json!({ "content": text })).await.expect(202);
        accepted["run_id"].as_str().expect("an id").to_owned()
    }

    pub async fn send(&self, conversation: &str, body: Value) -> Reply {
        self.post(&format!("/api/v2/conversations/{conversation}/messages"), body).await
    }

    pub async fn run(&self, run: &str) -> Value {
        self.get(&format!("/api/v2/runs/{run}")).await.expect(200)
    }

    /// Sends a message and waits for the end of its run.
    pub async fn turn(&self, conversation: &str, text: &str) -> Turn {
        let run = self.say(conversation, text).await;
        self.end_of(&run).await
    }

    /// Waits for a run's end.
    pub async fn end_of(&self, run: &str) -> Turn {
        let frames = self.events(run, 0).await;
        Turn { frames, run: self.run(run).await }
    }

    /// All events of a run after that one, up to the end of the run.
    pub async fn events(&self, run: &str, after: i64) -> Vec<Frame> {
        let mut stream = self.stream(run, after).await;
        let mut frames = Vec::new();
        while let Some(frame) = stream.next().await {
            frames.push(frame);
        }
        frames
    }

    /// A run's stream, open.
    pub async fn stream(&self, run: &str, after: i64) -> Stream {
        let request = self.request(Method::GET, &format!("/api/v2/runs/{run}/events"));
        let request = if after == 0 { request } else { request.header("last-event-id", after) };
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        // A server that is killed ends the stream as well.
        let events = response.bytes_stream().eventsource();
        let events =
            events.take_while(|event| std::future::ready(event.is_ok())).filter_map(async |event| event.ok());
        Stream(Box::pin(events))
    }

    /// Role and content of each message, in the order of the transcript.
    pub async fn transcript(&self, conversation: &str) -> Vec<(String, String)> {
        let path = format!("/api/v2/conversations/{conversation}/messages?limit=200");
        let page = self.get(&path).await.expect(200);
        let text = |message: &Value, field: &str| message[field].as_str().expect("text").to_owned();
        let items = page["items"].as_array().expect("items");
        items.iter().map(|message| (text(message, "role"), text(message, "content"))).collect()
    }
}

pub struct Stream(Pin<Box<dyn futures::Stream<Item = Event> + Send>>);

impl Stream {
    /// The next event; `None` when the stream has ended, or broken off.
    pub async fn next(&mut self) -> Option<Frame> {
        let event = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("an event in time")?;
        Some(Frame {
            sequence: event.id.parse().expect("a sequence"),
            kind: event.event,
            data: serde_json::from_str(&event.data).expect("JSON"),
        })
    }

    /// Reads up to and with the next event of this kind.
    pub async fn read_to(&mut self, kind: &str) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            let found = frame.kind == kind;
            frames.push(frame);
            if found {
                return frames;
            }
        }
        panic!("the stream ended before {kind}: {frames:?}");
    }
}
