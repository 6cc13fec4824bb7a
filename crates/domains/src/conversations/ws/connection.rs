//! One connection: reads frames at a bounded rate, tells the events of the runs that it follows, and ends when its
//! credential does, when its client is gone or takes nothing, or when the process stops.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    extract::ws::{CloseFrame, Message, WebSocket},
    http::HeaderMap,
};
use contracts::{AgentId, Caller, RunId};
use futures::StreamExt;
use platform::{
    http::Problem,
    idempotency::{Guard, IdempotencyKey},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::{
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use super::frames::{Cancel, ChatMessage, Frames, Incoming, Resume};
use crate::{
    App,
    authority::Meter,
    conversations::{
        api::{NewConversation, SendMessage},
        journal::Run,
        service, stream,
    },
    identity,
};

/// How often the server shows a sign of life, and asks for one.
const PING_EVERY: Duration = Duration::from_secs(30);
/// A client that was not heard for this long is gone.
const DEAD_AFTER: Duration = Duration::from_secs(75);
/// How often the credential is looked at again.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// A client that takes nothing for this long is closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a closed client may take to say that it has heard so.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Runs followed at once.
const RUNS_MAX: usize = 16;
/// Events that wait for the socket; more wait in the database.
const EVENTS_MAX: usize = 64;
/// Frames that a client may send in a second, after so many at once. More are read later: the client waits.
const FRAMES_PER_SECOND: u32 = 20;
const FRAMES_AT_ONCE: u32 = 100;

/// Close codes; the first two are the protocol's own.
const ERROR: u16 = 4000;
const UNAUTHORISED: u16 = 4001;
const RESTART: u16 = 1012;

/// The connection is over; the close frame to send, if the client can still hear one.
struct End(Option<(u16, &'static str)>);

const GONE: End = End(None);

/// From a task that follows a run.
struct Told {
    run: RunId,
    /// Which follower of this run it is from: one that was replaced may have left something.
    follower: u64,
    what: What,
}

enum What {
    /// An event's frame.
    Event(String),
    /// There is no more to tell.
    End,
    /// There is more, and it can't be told now.
    Broken,
}

struct Follower {
    number: u64,
    task: AbortHandle,
}

pub(super) struct Connection {
    app: Arc<App>,
    caller: Caller,
    /// With the credential, to check it again.
    headers: HeaderMap,
    agent: Option<AgentId>,
    frames: Frames,
    followed: HashMap<RunId, Follower>,
    followers: u64,
    tell: mpsc::Sender<Told>,
    told: mpsc::Receiver<Told>,
    heard_at: Instant,
    allowance: Allowance,
}

impl Drop for Connection {
    fn drop(&mut self) {
        for follower in self.followed.values() {
            follower.task.abort();
        }
    }
}

impl Connection {
    pub(super) fn new(app: Arc<App>, caller: Caller, headers: HeaderMap, agent: Option<AgentId>) -> Self {
        let (tell, told) = mpsc::channel(EVENTS_MAX);
        Self {
            app,
            caller,
            headers,
            agent,
            frames: Frames::new(),
            followed: HashMap::new(),
            followers: 0,
            tell,
            told,
            heard_at: Instant::now(),
            allowance: Allowance::new(),
        }
    }

    pub(super) async fn run(mut self, mut socket: WebSocket) {
        let End(close) = self.talk(&mut socket).await;
        let Some((code, reason)) = close else { return };
        let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        // Until the client's own close frame: one that is cut off while it sends would not see ours.
        let closing = async {
            if socket.send(close).await.is_ok() {
                while let Some(Ok(_)) = socket.recv().await {}
            }
        };
        let _ = timeout(CLOSE_TIMEOUT, closing).await;
    }

    /// Returns when the connection is over.
    async fn talk(&mut self, socket: &mut WebSocket) -> End {
        let hello = json!({
            "user_id": self.caller.user, "agent_id": self.agent, "session_id": self.frames.connection(),
        });
        if let Err(end) = self.send(socket, "connected", hello).await {
            return end;
        }
        let (mut ping, mut check) = (interval(PING_EVERY), interval(CHECK_EVERY));
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is at once.
        ping.tick().await;
        let stopping = self.app.stopping.clone();
        loop {
            let next_frame = self.allowance.next_at();
            let may_read = next_frame.is_none();
            let step = tokio::select! {
                () = stopping.cancelled() => Err(End(Some((RESTART, "the server stops; come back and resume")))),
                _ = check.tick() => self.check(socket).await,
                _ = ping.tick() => self.ping(socket).await,
                Some(told) = self.told.recv() => self.pass_on(socket, told).await,
                received = socket.recv(), if may_read => self.receive(socket, received).await,
                () = sleep_until(next_frame.unwrap_or_else(Instant::now)), if !may_read => Ok(()),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn write(&self, socket: &mut WebSocket, message: Message) -> Result<(), End> {
        match timeout(WRITE_TIMEOUT, socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(GONE),
            Err(_) => {
                tracing::debug!(user = %self.caller.user, "a client takes nothing and is closed");
                Err(GONE)
            }
        }
    }

    async fn send(
        &mut self,
        socket: &mut WebSocket,
        kind: &str,
        payload: serde_json::Value,
    ) -> Result<(), End> {
        let frame = self.frames.make(kind, payload);
        self.write(socket, Message::Text(frame.into())).await
    }

    /// Looks whether the credential still counts, and for what.
    async fn check(&mut self, socket: &mut WebSocket) -> Result<(), End> {
        let caller = match identity::admitted(&self.app, &self.headers).await {
            Ok(caller) => caller,
            Err(problem) if matches!(problem.status, 401 | 403) => {
                return Err(End(Some((UNAUTHORISED, "the credential counts no more"))));
            }
            // The database is away for a moment: whoever was let in stays.
            Err(_) => return Ok(()),
        };
        if (caller.tenant, caller.user) != (self.caller.tenant, self.caller.user) {
            return Err(End(Some((UNAUTHORISED, "the session is another one now"))));
        }
        if caller == self.caller {
            return Ok(());
        }
        self.caller = caller;
        let runs: Vec<RunId> = self.followed.keys().copied().collect();
        for run in runs {
            if let Err(error) = service::runs::get(&self.app, &self.caller, run).await {
                self.forget(run);
                let problem = Problem::from(error);
                self.told_no_more(socket, run, &problem.code, &problem.detail).await?;
            }
        }
        Ok(())
    }

    async fn ping(&mut self, socket: &mut WebSocket) -> Result<(), End> {
        if self.heard_at.elapsed() > DEAD_AFTER {
            return Err(End(Some((ERROR, "nothing was heard from you"))));
        }
        // One for the program at the other end, one for its WebSocket, which answers by itself.
        self.send(socket, "ping", json!({})).await?;
        self.write(socket, Message::Ping(bytes::Bytes::new())).await
    }

    async fn pass_on(&mut self, socket: &mut WebSocket, told: Told) -> Result<(), End> {
        if self.followed.get(&told.run).is_none_or(|follower| follower.number != told.follower) {
            return Ok(());
        }
        match told.what {
            What::Event(frame) => self.write(socket, Message::Text(frame.into())).await,
            What::End => {
                self.followed.remove(&told.run);
                Ok(())
            }
            What::Broken => {
                self.followed.remove(&told.run);
                let reason = "The events of this run can't be told now: resume after the last one you have.";
                self.told_no_more(socket, told.run, "stream_broken", reason).await
            }
        }
    }

    /// A client that waits for a run's events learns that none come any more before the run's end.
    async fn told_no_more(
        &mut self,
        socket: &mut WebSocket,
        run: RunId,
        code: &str,
        message: &str,
    ) -> Result<(), End> {
        self.send(socket, "error", json!({ "code": code, "message": message, "run_id": run })).await
    }

    async fn receive(
        &mut self,
        socket: &mut WebSocket,
        received: Option<Result<Message, axum::Error>>,
    ) -> Result<(), End> {
        self.heard_at = Instant::now();
        self.allowance.take();
        let text = match received {
            None | Some(Ok(Message::Close(_))) => return Err(GONE),
            Some(Err(_)) => return Err(End(Some((ERROR, "this is no frame, or one that is too long")))),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Ok(()),
            Some(Ok(Message::Binary(_))) => {
                return self.refuse(socket, None, "malformed", "Frames are JSON in text messages.").await;
            }
            Some(Ok(Message::Text(text))) => text,
        };
        let frame = match Incoming::read(&text) {
            Ok(frame) => frame,
            Err(reason) => return self.refuse(socket, None, "malformed", &reason).await,
        };
        let answered = match frame.kind.as_str() {
            "ping" => return self.send(socket, "pong", json!({})).await,
            "pong" => return Ok(()),
            "chat.message" | "chat.cancel" | "resume" => self.request(socket, &frame).await,
            other => Err(Refused::Reason("unknown_type", format!("There is no frame of type {other:?}."))),
        };
        match answered {
            Ok(()) => Ok(()),
            Err(Refused::End(end)) => Err(end),
            Err(Refused::Reason(code, reason)) => {
                self.refuse(socket, frame.id.as_deref(), code, &reason).await
            }
            Err(Refused::Problem(problem)) => {
                self.refuse(socket, frame.id.as_deref(), &problem.code, &problem.detail).await
            }
        }
    }

    /// What counts as a request does, in whatever it comes.
    async fn request(&mut self, socket: &mut WebSocket, frame: &Incoming) -> Result<(), Refused> {
        let meter = Meter::begin(&self.app, &self.caller);
        let meter = meter.map_err(|over| Refused::Problem(over.refusal()))?;
        let (answered, _) = meter
            .measure(async {
                match frame.kind.as_str() {
                    "chat.message" => self.message(socket, frame).await,
                    "chat.cancel" => self.cancel(frame).await,
                    _ => self.resume(frame).await,
                }
            })
            .await;
        answered
    }

    async fn refuse(
        &mut self,
        socket: &mut WebSocket,
        request: Option<&str>,
        code: &str,
        message: &str,
    ) -> Result<(), End> {
        let mut payload = json!({ "code": code, "message": message });
        if let Some(request) = request {
            payload["request_id"] = json!(request);
        }
        self.send(socket, "error", payload).await
    }

    async fn message(&mut self, socket: &mut WebSocket, frame: &Incoming) -> Result<(), Refused> {
        let message: ChatMessage = frame.payload()?;
        let hash = hex::encode(Sha256::digest(frame.payload_text()));
        let conversation = match message.conversation_id {
            Some(id) => {
                let found = service::get(&self.app, &self.caller, id).await?;
                if self.agent.is_some_and(|agent| agent != found.agent_id) {
                    let reason = "This conversation is with another agent than this connection.";
                    return Err(Refused::Reason("other_agent", reason.into()));
                }
                id
            }
            None => {
                let agent = self.agent.map_or_else(|| "default".to_owned(), |agent| agent.to_string());
                let key = frame.id.as_ref().map(|id| format!("{id} (conversation)"));
                let guard = self.guard(key, "POST /conversations".into(), hash.clone());
                service::create(&self.app, &self.caller, NewConversation { agent }, guard).await?.id
            }
        };
        let operation = format!("POST /conversations/{conversation}/messages");
        let guard = self.guard(frame.id.clone(), operation, hash);
        let new = SendMessage {
            content: message.content,
            interrupt: message.interrupt,
            parent_run_id: message.parent_run_id,
        };
        let accepted = service::messages::send(&self.app, &self.caller, conversation, new, guard).await?;
        let mut payload = json!({
            "conversation_id": conversation, "message_id": accepted.message_id, "run_id": accepted.run_id,
        });
        if let Some(id) = &frame.id {
            payload["request_id"] = json!(id);
        }
        self.send(socket, "chat.accepted", payload).await?;
        self.send(socket, "typing", json!({ "conversation_id": conversation })).await?;
        let run = service::runs::get(&self.app, &self.caller, accepted.run_id).await?;
        self.follow(run, 0)
    }

    fn guard(&self, key: Option<String>, operation: String, hash: String) -> Guard {
        Guard::new(IdempotencyKey(key), &self.caller, operation, hash)
    }

    async fn cancel(&mut self, frame: &Incoming) -> Result<(), Refused> {
        let Cancel { run_id } = frame.payload()?;
        service::runs::cancel(&self.app, &self.caller, run_id).await?;
        Ok(())
    }

    async fn resume(&mut self, frame: &Incoming) -> Result<(), Refused> {
        let Resume { run_id, after } = frame.payload()?;
        let run = service::runs::get(&self.app, &self.caller, run_id).await?;
        let known = !run.events_kept || after <= service::runs::last_event(&self.app, run_id).await?;
        if after < 0 || !known {
            return Err(Refused::Reason(
                "invalid",
                "after: expected the number of an event of this run".into(),
            ));
        }
        self.follow(run, after)
    }

    /// Tells the client a run's events from here on, in place of what was told of this run before.
    fn follow(&mut self, run: Run, after: i64) -> Result<(), Refused> {
        let id = run.id;
        self.forget(id);
        if self.followed.len() >= RUNS_MAX {
            let reason = format!("This connection follows {RUNS_MAX} runs already: let one end.");
            return Err(Refused::Reason("too_many_runs", reason));
        }
        self.followers += 1;
        let (app, tell, number) = (Arc::clone(&self.app), self.tell.clone(), self.followers);
        let task = tokio::spawn(async move {
            let mut events = std::pin::pin!(stream::follow(app, run, after));
            let mut end = What::End;
            while let Some(event) = events.next().await {
                let Ok(event) = event else {
                    end = What::Broken;
                    break;
                };
                let what = What::Event(stream::frame(id, &event));
                if tell.send(Told { run: id, follower: number, what }).await.is_err() {
                    return;
                }
            }
            // Nobody is left to hear where this fails.
            let _ = tell.send(Told { run: id, follower: number, what: end }).await;
        });
        self.followed.insert(id, Follower { number, task: task.abort_handle() });
        Ok(())
    }

    fn forget(&mut self, run: RunId) {
        if let Some(follower) = self.followed.remove(&run) {
            follower.task.abort();
        }
    }
}

/// Why a frame was not done.
enum Refused {
    Reason(&'static str, String),
    Problem(Problem),
    End(End),
}

impl From<String> for Refused {
    fn from(reason: String) -> Self {
        Self::Reason("malformed", reason)
    }
}

impl From<service::Error> for Refused {
    fn from(error: service::Error) -> Self {
        Self::Problem(error.into())
    }
}

impl From<End> for Refused {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

/// How many frames may be read now; it fills up with time.
#[derive(Debug)]
struct Allowance {
    /// When the allowance is full again, if nothing is read until then.
    full_at: Instant,
}

impl Allowance {
    fn new() -> Self {
        Self { full_at: Instant::now() }
    }

    fn take(&mut self) {
        self.full_at = self.full_at.max(Instant::now()) + Duration::from_secs(1) / FRAMES_PER_SECOND;
    }

    /// When the next frame may be read; `None` is now.
    fn next_at(&self) -> Option<Instant> {
        let ahead = Duration::from_secs(1) / FRAMES_PER_SECOND * FRAMES_AT_ONCE;
        let at = self.full_at.checked_sub(ahead)?;
        (at > Instant::now()).then_some(at)
    }
}
