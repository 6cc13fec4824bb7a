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
