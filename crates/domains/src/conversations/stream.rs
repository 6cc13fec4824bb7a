//! A run's events as Server-Sent Events, resumable by `Last-Event-ID` on any process and after any crash.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::response::sse::{Event, KeepAlive, Sse};
use contracts::RunId;
use futures::Stream;
use platform::{durable::unix_ms, http::Timestamp};
use serde_json::{json, value::RawValue};

use super::{journal::RunEvent, store};
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

/// Streams what comes after event `after` and ends after `run.done`. `over` says that the run has ended already: then
/// nothing is waited for.
pub(super) fn events(
    app: Arc<App>,
    run: RunId,
    after: i64,
    over: bool,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let stream = async_stream::stream! {
        let mut listener = app.hub.listen(run);
        let mut seen = after;
        let mut heard_at = unix_ms();
        loop {
            let events = match store::events::after(app.database.read(), run, seen, READ_MAX).await {
                Ok(events) => events,
                Err(error) => {
                    tracing::error!(%run, %error, "a stream can't be read");
                    return;
                }
            };
            if events.is_empty() {
                if over || unix_ms() - heard_at > SILENCE_MAX_MS {
                    return;
                }
                if app.stopping.run_until_cancelled(listener.wait()).await.is_none() {
                    yield Ok(Event::default().retry(RESUME_AFTER).comment(STOPPING));
                    return;
                }
                continue;
            }
            heard_at = unix_ms();
            for event in events {
                seen = event.sequence;
                let last = event.kind == DONE;
                yield Ok(frame(run, &event));
                if last {
                    return;
                }
            }
        }
    };
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

/// The same frame as on the WebSocket of the facts: `{type, id, timestamp, payload}`.
fn frame(run: RunId, event: &RunEvent) -> Event {
    let payload = RawValue::from_string(event.payload.clone()).ok();
    let data = json!({
        "type": event.kind,
        "id": format!("{run}-{}", event.sequence),
        "timestamp": Timestamp(event.created_at),
        "payload": payload,
    });
    Event::default().id(event.sequence.to_string()).event(&event.kind).data(data.to_string())
}
