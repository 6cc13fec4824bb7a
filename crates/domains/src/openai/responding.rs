//! Answers in the Responses protocol as they come about: as one object, or as events that build it.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json,
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
};
use contracts::Caller;
use futures::{Stream, StreamExt};
use platform::idempotency::Guard;
use serde_json::{Value, json};

use super::{
    agent::{self, Attendance},
    error::Error,
    hearing::{Hearing, Piece},
    responses::{Response, Wanted},
};
use crate::{
    App, agents,
    conversations::{Broken, RunEvent},
};

const KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(15);

/// Asks the agent and answers as a response.
pub(super) async fn respond(
    app: &Arc<App>,
    caller: &Caller,
    agent: agents::Agent,
    wanted: Wanted,
    guard: Guard,
) -> Result<axum::response::Response, Error> {
    let Wanted { chat, background, after } = wanted;
    let (stream, whole, model, store) =
        (chat.delivery.stream, chat.response_format.is_some(), chat.model.clone(), chat.store);
    let mut question = agent::question(app, agent, chat, guard)?;
    question.after = after;
    question.background = background;
    let attendance = Attendance::ask(app, caller, question).await?;
    let mut response = Response {
        run: attendance.asked.run,
        created: attendance.asked.at / 1000,
        model,
        status: if background { "queued" } else { "in_progress" },
        background,
        store,
        previous: after,
        text: String::new(),
        calls: Vec::new(),
        usage: None,
        error: None,
        cut: false,
    };
    let hearing = Hearing::new(whole);
    if stream {
        return Ok(streamed(response, hearing, attendance.events()).into_response());
    }
    if background {
        return Ok(Json(response.object()).into_response());
    }
    collect(&mut response, hearing, attendance.events()).await?;
    Ok(Json(response.object()).into_response())
}

async fn collect(
    response: &mut Response,
    mut hearing: Hearing,
    events: impl Stream<Item = Result<RunEvent, Broken>> + Send,
) -> Result<(), Error> {
    let mut events = Box::pin(events);
    while let Some(event) = events.next().await {
        for piece in hearing.hear_next(event)? {
            response.take(&piece, &hearing);
            if matches!(piece, Piece::End(_)) {
                return Ok(());
            }
        }
    }
    Err(agent::stopping())
}

/// Numbers the events.
#[derive(Default)]
struct Teller {
    number: u64,
    /// The message's place in the output, once it was begun.
    message: bool,
    items: u64,
}

impl Teller {
    fn tell(&mut self, kind: &str, mut event: Value) -> Event {
        event["type"] = json!(kind);
        event["sequence_number"] = json!(self.number);
        self.number += 1;
        Event::default().event(kind).data(event.to_string())
    }

    fn whole(&mut self, kind: &str, response: &Response) -> Event {
        self.tell(kind, json!({ "response": response.object() }))
    }

    fn begin_message(&mut self, response: &Response) -> Vec<Event> {
        if self.message {
            return Vec::new();
        }
        self.message = true;
        self.items = 1;
        let part = json!({ "type": "output_text", "text": "", "annotations": [] });
        vec![
            self.tell(
                "response.output_item.added",
                json!({ "output_index": 0, "item": response.message("in_progress") }),
            ),
            self.tell(
                "response.content_part.added",
                json!({ "item_id": response.message_id(), "output_index": 0, "content_index": 0, "part": part }),
            ),
        ]
    }

    fn text(&mut self, response: &Response, text: &str) -> Vec<Event> {
        let mut events = self.begin_message(response);
        events.push(self.tell(
            "response.output_text.delta",
            json!({ "item_id": response.message_id(), "output_index": 0, "content_index": 0, "delta": text,
                "logprobs": [] }),
        ));
        events
    }

    fn end_message(&mut self, response: &Response) -> Vec<Event> {
        if !self.message {
            return Vec::new();
        }
        self.message = false;
        let place = json!({ "item_id": response.message_id(), "output_index": 0, "content_index": 0 });
        let mut done = place.clone();
        done["text"] = json!(response.text);
        done["logprobs"] = json!([]);
        let mut part = place;
        part["part"] = json!({ "type": "output_text", "text": response.text, "annotations": [] });
        vec![
            self.tell("response.output_text.done", done),
            self.tell("response.content_part.done", part),
            self.tell(
                "response.output_item.done",
                json!({ "output_index": 0, "item": response.message("completed") }),
            ),
        ]
    }

    fn calls(&mut self, calls: &[contracts::model::ToolRequest]) -> Vec<Event> {
        let mut events = Vec::new();
        for call in calls {
            let (index, id) = (self.items, format!("fc_{}", call.id));
            self.items += 1;
            let item = |status| json!({ "output_index": index, "item": Response::call(call, status) });
            let arguments =
                |name: &str| json!({ "item_id": id, "output_index": index, name: call.arguments });
            events.push(self.tell("response.output_item.added", item("in_progress")));
            events.push(self.tell("response.function_call_arguments.delta", arguments("delta")));
            events.push(self.tell("response.function_call_arguments.done", arguments("arguments")));
            events.push(self.tell("response.output_item.done", item("completed")));
        }
        events
    }
}

fn streamed(
    mut response: Response,
    mut hearing: Hearing,
    events: impl Stream<Item = Result<RunEvent, Broken>> + Send + 'static,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let stream = async_stream::stream! {
        let mut events = Box::pin(events);
        let mut teller = Teller::default();
        yield Ok(teller.whole("response.created", &response));
        response.status = "in_progress";
        yield Ok(teller.whole("response.in_progress", &response));
        let mut failure = None;
        'run: while let Some(event) = events.next().await {
            let pieces = match hearing.hear_next(event) {
                Ok(pieces) => pieces,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            };
            for piece in pieces {
                response.take(&piece, &hearing);
                let told = match &piece {
                    Piece::Text(text) => teller.text(&response, text),
                    Piece::Calls(calls) => {
                        let mut told = teller.end_message(&response);
                        told.extend(teller.calls(calls));
                        told
                    }
                    // No event of this protocol fits, and its clients end at one that they don't know.
                    Piece::Event(_) => Vec::new(),
                    Piece::End(_) => {
                        for event in teller.end_message(&response) {
                            yield Ok(event);
                        }
                        let kind = if response.cut { "response.incomplete" } else { "response.completed" };
                        yield Ok(teller.whole(kind, &response));
                        break 'run;
                    }
                };
                for event in told {
                    yield Ok(event);
                }
            }
        }
        if response.usage.is_none() {
            let error = failure.unwrap_or_else(agent::stopping);
            response.fail(&error);
            yield Ok(teller.whole("response.failed", &response));
        }
    };
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}
