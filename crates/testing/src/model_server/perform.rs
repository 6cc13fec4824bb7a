//! Acts an answer out over HTTP: whole, in parts, too slowly, or not at all.

use std::io;

use axum::{
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{Stream, StreamExt, stream};

use super::{Answer, InFlight, ParsedRequest, Shared, wire};

/// Acts out a script's answer.
pub(super) async fn perform(
    shared: &Shared,
    request: &ParsedRequest,
    answer: Answer,
    in_flight: InFlight,
) -> Response {
    match answer {
        Answer::Text(text) => complete(shared, request, &text, &[], in_flight),
        Answer::Tools(calls) => {
            let calls: Vec<_> =
                calls.into_iter().map(|(name, arguments)| (shared.id("call_"), name, arguments)).collect();
            complete(shared, request, "", &calls, in_flight)
        }
        Answer::Raw(pieces) => {
            // Giving way between two pieces is what puts each into a write of its own.
            let pieces = stream::iter(pieces).then(|piece| async {
                tokio::task::yield_now().await;
                Ok(piece)
            });
            streamed(request, pieces, in_flight)
        }
        Answer::Status(code, body) => {
            let status = StatusCode::from_u16(code).expect("a script names a real HTTP status");
            let body = if serde_json::from_str::<serde::de::IgnoredAny>(&body).is_ok() {
                body
            } else {
                wire::error(&body, "server_error", None)
            };
            (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Answer::Garbage => {
            let pieces = stream::iter([Ok(Bytes::from_static(b"data: {\"choices\": [<html>oops\n\n"))]);
            streamed(request, pieces, in_flight)
        }
        Answer::NeverAnswers => {
            let _in_flight = in_flight;
            std::future::pending().await
        }
        Answer::StopMidStream { text } => {
            let events = in_parts(shared, request, &text).0;
            let broken = stream::once(async {
                // What was written before is flushed first, else the client would see nothing of it.
                tokio::task::yield_now().await;
                Err(io::Error::other("the script ends here"))
            });
            streamed(request, stream::iter(events).map(Ok).chain(broken), in_flight)
        }
        Answer::Slow { text, per_chunk } => {
            let (texts, closing) = in_parts(shared, request, &text);
            let paused = stream::iter(texts).then(move |event| async move {
                tokio::time::sleep(per_chunk).await;
                Ok(event)
            });
            streamed(request, paused.chain(stream::iter(closing).map(Ok)), in_flight)
        }
        Answer::Hold { text } => {
            let mut released = in_flight.released.clone();
            let (mut first, closing) = in_parts(shared, request, &text);
            let later =
                if request.stream { first.split_off(first.len().min(2)) } else { std::mem::take(&mut first) };
            let wait = stream::once(async move {
                released.changed().await.ok();
                Ok(Bytes::new())
            });
            let rest = stream::iter(later.into_iter().chain(closing)).map(Ok);
            streamed(request, stream::iter(first).map(Ok).chain(wait).chain(rest), in_flight)
        }
    }
}

/// An answer that is known and sent as a whole.
fn complete(
    shared: &Shared,
    request: &ParsedRequest,
    text: &str,
    calls: &[(String, String, String)],
    in_flight: InFlight,
) -> Response {
    let (text, cut_at_limit) = wire::cut(request, text);
    let id = shared.id("chatcmpl-");
    let reply = wire::Reply { request, id: &id, text, calls, cut_at_limit };
    if request.stream {
        streamed(request, stream::iter(reply.events()).map(Ok), in_flight)
    } else {
        streamed(request, stream::iter([Ok(reply.document())]), in_flight)
    }
}

/// The bodies of answers that don't come at once: the pieces with text, then those that close it. Unstreamed, the
/// document is cut in two.
fn in_parts(shared: &Shared, request: &ParsedRequest, text: &str) -> (Vec<Bytes>, Vec<Bytes>) {
    let (text, cut_at_limit) = wire::cut(request, text);
    let id = shared.id("chatcmpl-");
    let reply = wire::Reply { request, id: &id, text, calls: &[], cut_at_limit };
    if request.stream {
        return (reply.text_events(), reply.closing_events());
    }
    let mut first = reply.document();
    let second = first.split_off(first.len() / 2);
    (vec![first], vec![second])
}

fn streamed(
    request: &ParsedRequest,
    pieces: impl Stream<Item = Result<Bytes, io::Error>> + Send + 'static,
    in_flight: InFlight,
) -> Response {
    let content_type = if request.stream { "text/event-stream" } else { "application/json" };
    let counted = pieces.map(move |piece| {
        let _held = &in_flight;
        piece
    });
    ([(header::CONTENT_TYPE, content_type)], Body::from_stream(counted)).into_response()
}
