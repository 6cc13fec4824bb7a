//! A patient client that talks over a WebSocket and nothing else: it sends a message again, as the same frame, until it
//! was acknowledged, and comes back after each break to resume every run after the last event that it has.
//!
//! It takes each event's number as a promise: on one connection they come in order, without a gap, from where it asked.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message as Raw, client::IntoClientRequest},
};

use super::{
    client::{AGAIN_AFTER, AWAY, Api, Frame, MISSING_MAX, Message, REQUEST_MAX, Turn, Way, lock, text},
    report::Promise,
};

/// What is asked of a client while it is busy.
const ASKED_MAX: usize = 8;
/// What a frame is told that needs a server that is away, or hangs.
const AWAY_CODES: [&str; 6] =
    ["database_unavailable", "database_stopped", "outcome_unknown", "policy_unavailable", "busy", "timeout"];
/// Before what was refused is tried again.
const REFUSED_PAUSE: Duration = Duration::from_millis(120);

/// What all clients of this kind have done.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Connections after a client's first.
    pub reconnects: AtomicU64,
    /// Runs that were taken up again where they broke off.
    pub resumed: AtomicU64,
    /// Messages that were sent again since no acknowledgement had come.
    pub sent_again: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The connection is of no use any more.
struct Broken;

impl From<tungstenite::Error> for Broken {
    fn from(_: tungstenite::Error) -> Self {
        Self
    }
}

/// What a client is asked by: its one conversation is over when all copies of this are dropped.
#[derive(Debug, Clone)]
pub(super) struct Line(mpsc::Sender<Asked>);

#[derive(Debug)]
enum Asked {
    Say(Say),
    /// To stop this run.
    Stop(String),
}

#[derive(Debug)]
struct Say {
    message: Message,
    answer: oneshot::Sender<Result<Arc<Turn>, String>>,
    /// On this connection.
    sent_at: Option<Instant>,
    /// On any.
    sent_before: bool,
}

impl Line {
    /// Sends a message until it is acknowledged; its run is followed from then on.
    pub(super) async fn say(&self, message: Message) -> Result<Arc<Turn>, String> {
        let (answer, answered) = oneshot::channel();
        let say = Say { message, answer, sent_at: None, sent_before: false };
        let gone = || "the client has given up".to_owned();
        self.0.send(Asked::Say(say)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Asks for a run to stop. A client that has given up has told why.
    pub(super) async fn stop(&self, run: &str) {
        drop(self.0.send(Asked::Stop(run.to_owned())).await);
    }
}

/// One conversation with one agent, over one connection at a time.
pub(super) struct Client {
    api: Arc<Api>,
    agent: &'static str,
    asked: mpsc::Receiver<Asked>,
    /// Nobody asks for anything any more.
    hung_up: bool,
    /// Known once the first message was acknowledged.
    conversation: Option<String>,
    /// Messages as they were written first: sent again, they are the same to the letter.
    written: HashMap<String, String>,
    unanswered: Vec<Say>,
    /// All that was acknowledged, by run.
    turns: HashMap<String, Arc<Turn>>,
    stopping: HashSet<String>,
    /// The number of each run's next event on this connection.
    due: HashMap<String, i64>,
    /// Since when the server has said of a request that there is no such thing.
    missing: HashMap<String, Instant>,
}

impl Client {
    pub(super) fn new(api: &Arc<Api>, agent: &'static str) -> (Line, Self) {
        let (line, asked) = mpsc::channel(ASKED_MAX);
        let client = Self {
            api: Arc::clone(api),
            agent,
            asked,
            hung_up: false,
            conversation: None,
            written: HashMap::new(),
            unanswered: Vec::new(),
            turns: HashMap::new(),
            stopping: HashSet::new(),
            due: HashMap::new(),
            missing: HashMap::new(),
        };
        (Line(line), client)
    }

    /// Talks until nobody asks for anything any more and every run has ended.
    pub(super) async fn run(mut self) {
        let mut connected_before = false;
        while !self.is_over() {
            match self.connect().await {
                Ok(socket) => {
                    if connected_before {
                        count(&self.api.websocket.reconnects);
                    }
                    connected_before = true;
                    if self.talk(socket).await.is_ok() {
                        return;
                    }
                    sleep(AGAIN_AFTER).await;
                }
                Err(tungstenite::Error::Http(answer))
                    if self.api.patient && AWAY.contains(&answer.status().as_u16()) =>
                {
                    sleep(REFUSED_PAUSE).await;
                }
                Err(tungstenite::Error::Http(answer)) => {
                    let what = format!("a WebSocket with {} was refused: {}", self.agent, answer.status());
                    self.api.violated(Promise::Requests, what.clone());
                    for say in self.unanswered.drain(..) {
                        drop(say.answer.send(Err(what.clone())));
                    }
                    sleep(REFUSED_PAUSE).await;
                }
                Err(_) => sleep(AGAIN_AFTER).await,
            }
        }
    }

    fn is_over(&self) -> bool {
        self.hung_up && self.unanswered.is_empty() && self.open_runs().is_empty()
    }

    fn open_runs(&self) -> Vec<Arc<Turn>> {
        self.turns.values().filter(|turn| !*turn.done.borrow()).map(Arc::clone).collect()
    }

    async fn connect(&self) -> Result<Socket, tungstenite::Error> {
        let base = self.api.up().await.replacen("http://", "ws://", 1);
        let path = if self.agent == "default" { String::new() } else { format!("/{}", self.agent) };
        let mut request = format!("{base}/ws/v2/chat{path}").into_client_request()?;
        request.headers_mut().insert("authorization", self.api.bearer());
        let late = |_| tungstenite::Error::ConnectionClosed;
        Ok(timeout(REQUEST_MAX, connect_async(request)).await.map_err(late)??.0)
    }

    /// `Ok` when everything is done that this client was there for.
    async fn talk(&mut self, mut socket: Socket) -> Result<(), Broken> {
        self.take_up(&mut socket).await?;
        loop {
            if self.is_over() {
                return Ok(socket.close(None).await?);
            }
            let oldest = self.unanswered.iter().filter_map(|say| say.sent_at).min();
            let answer_by = oldest.map(|sent_at| sent_at + REQUEST_MAX);
            tokio::select! {
                asked = self.asked.recv(), if !self.hung_up => match asked {
                    None => self.hung_up = true,
                    Some(Asked::Say(say)) => {
                        self.unanswered.push(say);
                        self.say_all(&mut socket).await?;
                    }
                    Some(Asked::Stop(run)) => {
                        self.stopping.insert(run.clone());
                        self.stop(&mut socket, &run).await?;
                    }
                },
                received = socket.next() => match received {
                    Some(Ok(Raw::Text(frame))) => self.hear(&mut socket, &frame).await?,
                    Some(Ok(Raw::Ping(_) | Raw::Pong(_))) => {}
                    _ => return Err(Broken),
                },
                () = sleep_until(answer_by.unwrap_or_else(Instant::now)), if answer_by.is_some() => {
                    return Err(Broken);
                }
            }
        }
    }

    /// On a new connection: asks for the rest of every run, and says again what was not acknowledged.
    async fn take_up(&mut self, socket: &mut Socket) -> Result<(), Broken> {
        self.due.clear();
        for turn in self.open_runs() {
            count(&self.api.websocket.resumed);
            self.resume(socket, &turn).await?;
            if self.stopping.contains(&turn.run) {
                self.stop(socket, &turn.run).await?;
            }
        }
        self.unanswered.iter_mut().for_each(|say| say.sent_at = None);
        self.say_all(socket).await
    }

    async fn resume(&mut self, socket: &mut Socket, turn: &Turn) -> Result<(), Broken> {
        let after = lock(&turn.frames).last().map_or(0, |frame| frame.sequence);
        self.due.insert(turn.run.clone(), after + 1);
        let payload = json!({ "run_id": turn.run, "after": after });
        send(socket, json!({ "type": "resume", "id": resume_id(&turn.run), "payload": payload })).await
    }

    async fn stop(&self, socket: &mut Socket, run: &str) -> Result<(), Broken> {
        let payload = json!({ "run_id": run });
        send(socket, json!({ "type": "chat.cancel", "id": format!("stop {run}"), "payload": payload })).await
    }

    /// Sends what was not sent on this connection.
    async fn say_all(&mut self, socket: &mut Socket) -> Result<(), Broken> {
        for say in self.unanswered.iter_mut().filter(|say| say.sent_at.is_none()) {
            let Message { key, script, interrupt } = &say.message;
            let written = self.written.entry(key.clone()).or_insert_with(|| {
                let mut payload = json!({ "content": script.content, "interrupt": interrupt });
                if let Some(conversation) = &self.conversation {
                    payload["conversation_id"] = json!(conversation);
                }
                json!({ "type": "chat.message", "id": key, "payload": payload }).to_string()
            });
            if say.sent_before {
                count(&self.api.websocket.sent_again);
            }
            say.sent_before = true;
            say.sent_at = Some(Instant::now());
            socket.send(Raw::text(written.as_str())).await?;
        }
        Ok(())
    }

    async fn hear(&mut self, socket: &mut Socket, frame: &str) -> Result<(), Broken> {
        let read: Value = serde_json::from_str(frame).unwrap_or_default();
        let (id, kind) = (text(&read, "id"), text(&read, "type"));
        if let Some((run, number)) = id.rsplit_once('-')
            && let Some(turn) = self.turns.get(run)
        {
            // What is no number breaks the order.
            let sequence = number.parse().unwrap_or(-1);
            let due = self.due.get_mut(run);
            event(&self.api, turn, due, Frame { sequence, kind, data: frame.to_owned() });
            self.missing.remove(&resume_id(run));
            return Ok(());
        }
        let payload = &read["payload"];
        match kind.as_str() {
            "connected" | "pong" | "typing" => Ok(()),
            "ping" => send(socket, json!({ "type": "pong" })).await,
            "chat.accepted" => {
                self.accepted(payload);
                Ok(())
            }
            "error" => self.refused(socket, payload).await,
            _ => {
                self.api.violated(Promise::Events, format!("nobody asked for this frame: {frame}"));
                Ok(())
            }
        }
    }

    fn accepted(&mut self, payload: &Value) {
        let Some(say) = self.take_unanswered(&text(payload, "request_id")) else {
            self.api.violated(Promise::Accepted, format!("nobody waits for this answer: {payload}"));
            return;
        };
        let conversation = self.conversation.get_or_insert_with(|| text(payload, "conversation_id"));
        let ids = (text(payload, "message_id"), text(payload, "run_id"));
        let turn = Turn::new(say.message.script, conversation.clone(), ids, Way::WebSocket);
        if turn.conversation != payload["conversation_id"].as_str().unwrap_or_default() {
            self.api.violated(Promise::Accepted, format!("of conversation {conversation}: {payload}"));
        }
        // Told from its first event on, also when it is an earlier run.
        self.due.insert(turn.run.clone(), 1);
        let turn = Arc::new(turn);
        let known = self.turns.entry(turn.run.clone()).or_insert_with(|| Arc::clone(&turn));
        let same = known.message == turn.message;
        let answer = if same { Arc::clone(known) } else { turn };
        self.api.accepted.send_modify(|count| *count += 1);
        // Whoever said it has gone when the load is broken off.
        drop(say.answer.send(Ok(answer)));
    }

    fn take_unanswered(&mut self, key: &str) -> Option<Say> {
        let index = self.unanswered.iter().position(|say| say.message.key == key)?;
        self.missing.remove(key);
        Some(self.unanswered.remove(index))
    }

    async fn refused(&mut self, socket: &mut Socket, payload: &Value) -> Result<(), Broken> {
        let (request, code) = (text(payload, "request_id"), text(payload, "code"));
        if self.api.patient && AWAY_CODES.contains(&code.as_str()) {
            // Everything is asked for anew on the next connection.
            sleep(REFUSED_PAUSE).await;
            return Err(Broken);
        }
        if code == "not_found" {
            let since = *self.missing.entry(request.clone()).or_insert_with(Instant::now);
            if since.elapsed() < MISSING_MAX {
                // Everything is asked for anew on the next connection.
                return Err(Broken);
            }
        }
        if let Some(say) = self.take_unanswered(&request) {
            drop(say.answer.send(Err(payload.to_string())));
            return Ok(());
        }
        let of_resume = self.turns.values().find(|turn| resume_id(&turn.run) == request);
        if let Some(turn) = of_resume {
            let promise = if code == "not_found" { Promise::Accepted } else { Promise::Events };
            self.api.violated(promise, format!("run {} can't be resumed: {payload}", turn.run));
            self.api.is_over(turn);
            return Ok(());
        }
        if let ("stream_broken", Some(turn)) = (code.as_str(), self.turns.get(&text(payload, "run_id"))) {
            let turn = Arc::clone(turn);
            count(&self.api.websocket.resumed);
            return self.resume(socket, &turn).await;
        }
        self.api.violated(Promise::Requests, format!("a frame was refused: {payload}"));
        Ok(())
    }
}

fn resume_id(run: &str) -> String {
    format!("resume {run}")
}

async fn send(socket: &mut Socket, frame: Value) -> Result<(), Broken> {
    Ok(socket.send(Raw::text(frame.to_string())).await?)
}

/// Takes an event: it is the one that is due, and it is new, or as it was when it came first.
fn event(api: &Api, turn: &Turn, due: Option<&mut i64>, frame: Frame) {
    let wanted = due.as_deref().copied();
    if wanted != Some(frame.sequence) {
        let what = format!("run {}: event {} came and {wanted:?} was due", turn.run, frame.sequence);
        api.violated(Promise::Events, what);
    }
    if let Some(due) = due {
        *due = frame.sequence + 1;
    }
    let done = frame.kind == "run.done";
    let mut frames = lock(&turn.frames);
    let place = usize::try_from(frame.sequence - 1).unwrap_or(usize::MAX);
    match frames.get(place) {
        Some(earlier) if *earlier != frame => {
            let what = format!("run {}: an event was {earlier:?} and is {frame:?}", turn.run);
            api.violated(Promise::Events, what);
        }
        Some(_) => {}
        None => frames.push(frame),
    }
    drop(frames);
    if done {
        api.is_over(turn);
    }
}
