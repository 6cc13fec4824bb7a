//! A run's events, resumable after any of them on any process and after any crash; and as Server-Sent Events.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::response::sse::{Event, KeepAlive, Sse};
use contracts::RunId;
use futures::{Stream, StreamExt, future, stream};
use platform::{database::Error, http::Timestamp, task};
use serde_json::{json, value::RawValue};
use tokio_util::task::AbortOnDropHandle;

use super::{
    journal::{self, DONE, Run, RunEvent},
    store,
};
use crate::App;

/// Events read at a time.
const READ_MAX: i64 = 200;
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A stream without a single event for this long ends; the client may come back.
const SILENCE_MAX: Duration = Duration::from_secs(60 * 60);
/// How often a silent run is asked whether it is still there.
const DOUBT_EVERY: Duration = Duration::from_secs(5);

/// When a client may come back to a process that stops: soon, for another takes its place.
const RESUME_AFTER: Duration = Duration::from_millis(500);
const STOPPING: &str = "the server stops; resume with Last-Event-ID";

/// A run's events as Server-Sent Events.
pub(super) fn events(
    app: Arc<App>,
    run: Run,
    after: i64,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (id, stopping) = (run.id, app.stopping.clone());
    let stream = async_stream::stream! {
        let mut done = false;
        let mut events = std::pin::pin!(follow(app, run, after));
        while let Some(Ok(event)) = events.next().await {
            done = event.kind == DONE;
            let data = frame(id, &event);
            yield Ok(Event::default().id(event.sequence.to_string()).event(event.kind).data(data));
        }
        if !done && stopping.is_cancelled() {
            yield Ok(Event::default().retry(RESUME_AFTER).comment(STOPPING));
        }
    };
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

/// The events can't be read now, or there were none for too long. Whoever still wants them follows again.
#[derive(Debug)]
pub(crate) struct Broken;

/// What comes after event `after`, up to `run.done`, to where this process stops, or to where it breaks. A run that has
/// ended already is not waited for; one whose events are past their time has `run.done` alone, made from its record.
pub(super) fn follow(
    app: Arc<App>,
    run: Run,
    after: i64,
) -> impl Stream<Item = Result<RunEvent, Broken>> + Send {
    if run.events_kept {
        told(app, run.id, after, run.state.is_final(), SILENCE_MAX).left_stream()
    } else {
        stream::once(future::ready(Ok(from_record(&run, after)))).right_stream()
    }
}

/// The events of a run that has just begun, from its first one on, however long it is silent: it may wait for a person.
pub(crate) fn follow_new(app: Arc<App>, run: RunId) -> impl Stream<Item = Result<RunEvent, Broken>> + Send {
    told(app, run, 0, false, Duration::MAX)
}

fn told(
    app: Arc<App>,
    run: RunId,
    after: i64,
    over: bool,
    silence_max: Duration,
) -> impl Stream<Item = Result<RunEvent, Broken>> + Send {
    async_stream::stream! {
        let mut listener = app.hub.listen(run);
        let mut seen = after;
        let mut over = over;
        let mut heard_at = Instant::now();
        // When silence raises the question whether anything will come.
        let mut doubt_at = heard_at + DOUBT_EVERY;
        loop {
            let doubted = !over && Instant::now() >= doubt_at;
            if doubted {
                doubt_at = Instant::now() + DOUBT_EVERY;
            }
            let look = match look(&app, run, seen, doubted).await {
                Ok(look) => look,
                Err(error) => {
                    tracing::error!(%run, %error, "a stream can't be read");
                    yield Err(Broken);
                    return;
                }
            };
            over |= look.over;
            if look.events.is_empty() {
                if over {
                    return;
                }
                if heard_at.elapsed() > silence_max {
                    yield Err(Broken);
                    return;
                }
                if app.stopping.run_until_cancelled(listener.wait()).await.is_none() {
                    return;
                }
                continue;
            }
            heard_at = Instant::now();
            doubt_at = heard_at + DOUBT_EVERY;
            for event in look.events {
                seen = event.sequence;
                let last = event.kind == DONE;
                yield Ok(event);
                if last {
                    return;
                }
            }
        }
    }
}

struct Look {
    events: Vec<RunEvent>,
    /// No more events come than these.
    over: bool,
}

/// In a task of its own: a client that takes nothing leaves its stream where it is, and a read left there would keep a
/// connection to the database from everyone else.
async fn look(app: &Arc<App>, run: RunId, after: i64, doubted: bool) -> Result<Look, Error> {
    let app = Arc::clone(app);
    let look = async move {
        // Its state first: what it says before it ends is then among the events.
        let over = doubted
            && journal::find_run(app.database.read(), run).await?.is_none_or(|run| run.state.is_final());
        let events = store::events::after(app.database.read(), run, after, READ_MAX).await?;
        Ok(Look { events, over })
    };
    task::outcome(AbortOnDropHandle::new(tokio::spawn(look))).await
}

/// The end of a run whose events are gone.
fn from_record(run: &Run, after: i64) -> RunEvent {
    RunEvent {
        sequence: after.saturating_add(1),
        kind: DONE.to_owned(),
        payload: journal::done_frame(run).to_string(),
        created_at: run.finished_at.unwrap_or(run.created_at),
    }
}

/// An event as its readers get it, by Server-Sent Events and WebSocket alike: `{type, id, timestamp, payload}`.
pub(super) fn frame(run: RunId, event: &RunEvent) -> String {
    let payload = RawValue::from_string(event.payload.clone()).ok();
    let data = json!({
        "type": event.kind,
        "id": format!("{run}-{}", event.sequence),
        "timestamp": Timestamp(event.created_at),
        "payload": payload,
    });
    data.to_string()
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::{
        conversations::{self, journal::RunState},
        tests::World,
    };

    /// Many more than there are connections for readers.
    const READERS: usize = 64;

    #[tokio::test]
    async fn a_reader_that_is_left_in_the_middle_keeps_the_database_from_nobody() {
        let world = World::new().await;
        let run = conversations::send_for_test(&world.app, &world.caller, "hello", world.unguarded()).await;
        let mut left: Vec<_> =
            (0..READERS).map(|_| Box::pin(follow_new(Arc::clone(&world.app), run))).collect();
        for reader in &mut left {
            // Reads until it has to wait, and is not polled again: its client takes nothing.
            while reader.next().now_or_never().is_some() {}
        }

        let read = journal::find_run(world.app.database.read(), run);

        let read = tokio::time::timeout(Duration::from_secs(5), read).await;
        assert!(read.expect("no connection is free").unwrap().is_some());
    }

    #[tokio::test]
    async fn a_reader_of_a_run_that_is_gone_ends() {
        let world = World::new().await;
        let app = &world.app;
        let run = conversations::send_for_test(app, &world.caller, "hello", world.unguarded()).await;
        let mut events = Box::pin(follow_new(Arc::clone(app), run));
        app.database
            .write(move |tx| {
                Box::pin(async move {
                    journal::finish(tx, run, RunState::Cancelled, None).await?;
                    while !store::events::drop_some(tx, run, 100).await? {}
                    Ok::<_, Error>(())
                })
            })
            .await
            .unwrap();

        let mut next = events.next();
        let wakes = async {
            loop {
                app.hub.wake(run);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            next = &mut next => assert!(next.is_none(), "nothing of it is there any more"),
            () = wakes => {}
            () = tokio::time::sleep(3 * DOUBT_EVERY) => panic!("the reader waits for what never comes"),
        }
    }
}
