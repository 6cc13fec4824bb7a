//! Follows a run to its end over as many connections as it takes. No event is given twice.

use std::time::Duration;

use contracts::RunId;
use futures::{StreamExt, stream::BoxStream};
use tokio::time::Instant;

use super::{
    client::{Client, Error},
    frame::{Frame, RunEvent},
};

const BACKOFF: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(4);
/// A server that is away for longer than this is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// A connection that lasted this long was a good one, though nothing came over it.
const STEADY: Duration = Duration::from_secs(10);

pub enum Happening {
    Event(RunEvent),
    /// The connection broke; it is being restored.
    Lost(String),
    Resumed,
}

pub struct Follow<'a> {
    client: &'a Client,
    run: RunId,
    seen: i64,
    stream: Option<BoxStream<'static, Result<RunEvent, Error>>>,
    connected: Instant,
    trouble: Option<Trouble>,
    over: bool,
}

struct Trouble {
    since: Instant,
    next: Instant,
    backoff: Duration,
    told: bool,
}

impl<'a> Follow<'a> {
    /// From after event `seen` on; 0 is the start.
    pub fn new(client: &'a Client, run: RunId, seen: i64) -> Self {
        Self { client, run, seen, stream: None, connected: Instant::now(), trouble: None, over: false }
    }

    /// What happens next; `None` after `run.done`. May be dropped and called again: nothing is lost.
    pub async fn next(&mut self) -> Result<Option<Happening>, Error> {
        while !self.over {
            let Some(stream) = &mut self.stream else {
                if let Some(happening) = self.connect().await? {
                    return Ok(Some(happening));
                }
                continue;
            };
            let reason = match stream.next().await {
                Some(Ok(event)) if event.sequence <= self.seen => continue,
                Some(Ok(event)) => {
                    self.seen = event.sequence;
                    self.trouble = None;
                    self.over = matches!(event.frame, Frame::RunDone(_));
                    return Ok(Some(Happening::Event(event)));
                }
                Some(Err(error)) if error.passing() => error.to_string(),
                Some(Err(error)) => return Err(error),
                None => "the server ended the stream".to_owned(),
            };
            self.stream = None;
            if self.connected.elapsed() >= STEADY {
                self.trouble = None;
            }
            if let Some(lost) = self.lost(reason)? {
                return Ok(Some(lost));
            }
        }
        Ok(None)
    }

    async fn connect(&mut self) -> Result<Option<Happening>, Error> {
        if let Some(trouble) = &self.trouble {
            tokio::time::sleep_until(trouble.next).await;
        }
        match self.client.events(self.run, self.seen).await {
            Ok(stream) => {
                self.stream = Some(stream);
                self.connected = Instant::now();
                let told = self.trouble.as_mut().is_some_and(|trouble| std::mem::take(&mut trouble.told));
                Ok(told.then_some(Happening::Resumed))
            }
            Err(error) if error.passing() => self.lost(error.to_string()),
            Err(error) => Err(error),
        }
    }

    /// Plans the next try. Answers what the user is told, the first time; gives up when it has taken too long.
    fn lost(&mut self, reason: String) -> Result<Option<Happening>, Error> {
        let now = Instant::now();
        let trouble =
            self.trouble.get_or_insert(Trouble { since: now, next: now, backoff: BACKOFF, told: false });
        if now - trouble.since >= PATIENCE {
            return Err(Error::GaveUp { seconds: PATIENCE.as_secs(), reason });
        }
        trouble.next = now + trouble.backoff;
        trouble.backoff = (trouble.backoff * 2).min(BACKOFF_MAX);
        let first = !std::mem::replace(&mut trouble.told, true);
        Ok(first.then_some(Happening::Lost(reason)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use axum::{
        Router,
        http::{HeaderMap, StatusCode},
        response::{IntoResponse, Response},
        routing::get,
    };
    use secrecy::SecretString;
    use serde_json::json;
    use tokio::net::TcpListener;

    use super::*;

    const EVENTS: i64 = 6;

    fn event(sequence: i64) -> String {
        let data = if sequence == EVENTS {
            json!({ "type": "run.done", "payload": { "status": "completed", "usage": { "input_tokens": 0, "output_tokens": 0 } } })
        } else {
            json!({ "type": "chat.delta", "payload": { "response_id": "r:0", "delta": sequence.to_string() } })
        };
        format!("id: {sequence}\ndata: {data}\n\n")
    }

    /// Ends each answer after two events; answers 503 in between; once sends again what the client has.
    fn answer(call: usize, after: i64) -> Response {
        let upto = (after + 2).min(EVENTS);
        match call {
            1 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            2 => (1..=upto).map(event).collect::<String>().into_response(),
            _ => (after + 1..=upto).map(event).collect::<String>().into_response(),
        }
    }

    #[tokio::test]
    async fn over_a_connection_that_breaks_each_event_comes_once() {
        let calls = Arc::new(AtomicUsize::new(0));
        let serve = move |headers: HeaderMap| {
            let call = calls.fetch_add(1, Ordering::SeqCst);
            let after = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
            async move { answer(call, after.unwrap_or(0)) }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().route("/api/v2/runs/{id}/events", get(serve));
        tokio::spawn(axum::serve(listener, router).into_future());

        let client = Client::new(&base, SecretString::from("key")).unwrap();
        let mut follow = Follow::new(&client, RunId::new(), 0);
        let mut told = Vec::new();
        while let Some(happening) = follow.next().await.unwrap() {
            told.push(match happening {
                Happening::Event(event) => event.sequence.to_string(),
                Happening::Lost(_) => "lost".to_owned(),
                Happening::Resumed => "resumed".to_owned(),
            });
        }
        assert_eq!(told, ["1", "2", "lost", "resumed", "3", "4", "lost", "resumed", "5", "6"]);
    }

    #[tokio::test]
    async fn a_run_that_is_not_there_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(axum::serve(listener, Router::new()).into_future());
        let client = Client::new(&base, SecretString::from("key")).unwrap();
        let gone = Follow::new(&client, RunId::new(), 0).next().await;
        assert!(matches!(gone, Err(Error::Refused { status: 404, .. })));
    }
}
