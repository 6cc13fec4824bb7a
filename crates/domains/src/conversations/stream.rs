//! A run's events, resumable after any of them on any process and after any crash; and as Server-Sent Events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::response::sse::{Event, KeepAlive, Sse};
use contracts::RunId;
use futures::{Stream, StreamExt};
use platform::{durable::unix_ms, http::Timestamp};
use serde_json::{json, value::RawValue};

use super::{
    journal::{self, Run, RunEvent},
    store,
};
use crate::App;

/// Events read at a time.
const READ_MAX: i64 = 200;
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A stream without a single event for this long ends; the client may come back.
const SILENCE_MAX_MS: i64 = 60 * 60 * 1000;

/// When a client may come back to a process that stops: soon, for another takes its place.
const RESUME_AFTER: Duration = Duration::from_millis(500);
const STOPPING: &str = "the server stops; resume with Last-Event-ID";

/// The last event of every stream.
const DONE: &str = "run.done";

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
pub(super) struct Broken;

/// What comes after event `after`, up to `run.done`, to where this process stops, or to where it breaks. A run that has
/// ended already is not waited for; one whose events are past their time has `run.done` alone, made from its record.
pub(super) fn follow(app: Arc<App>, ended: Run, after: i64) -> impl Stream<Item = Result<RunEvent, Broken>> {
    let (run, over) = (ended.id, ended.state.is_final());
    async_stream::stream! {
        if !ended.events_kept {
            yield Ok(from_record(&ended, after));
            return;
        }
        let mut listener = app.hub.listen(run);
        let mut seen = after;
        let mut heard_at = unix_ms();
        loop {
            let events = match store::events::after(app.database.read(), run, seen, READ_MAX).await {
                Ok(events) => events,
                Err(error) => {
                    tracing::error!(%run, %error, "a stream can't be read");
                    yield Err(Broken);
                    return;
                }
            };
            if events.is_empty() {
                if unix_ms() - heard_at > SILENCE_MAX_MS {
                    yield Err(Broken);
                    return;
                }
                if over || app.stopping.run_until_cancelled(listener.wait()).await.is_none() {
                    return;
                }
                continue;
            }
            heard_at = unix_ms();
            for event in events {
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
