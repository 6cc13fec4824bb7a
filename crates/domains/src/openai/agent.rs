//! `agent/<slug>`: a whole agent behind a chat completion.
//!
//! The request's last user message is what the agent is asked, with what follows it; what was said before becomes
//! context; system messages are added after the agent's own prompt. Nothing is kept unless `store` is true. A client
//! that goes away stops the run, unless it has named an `Idempotency-Key`: it may come again, to the same run.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json,
    http::StatusCode,
    response::{
        IntoResponse, Response,
        sse::{KeepAlive, Sse},
    },
};
use contracts::{AgentId, Caller, model::Role, policy::Resource};
use futures::{Stream, StreamExt};
use platform::idempotency::Guard;

use super::{
    chunks::{self, Answer},
    error::Error,
    hearing::{Hearing, Piece},
    listing::AGENT,
    request::Chat,
};
use crate::{
    App, agents, authority,
    conversations::{self, Asked, Brief, Question, RunEvent},
};

/// A comment in a stream in which nothing else is said for so long.
const KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(15);

/// A run whose client is there. Dropped before its end, it stops the run; and what is not to be kept is removed.
pub(super) struct Attendance {
    app: Arc<App>,
    asked: Asked,
    over: bool,
    /// Nobody needs to be there.
    released: bool,
}

impl Attendance {
    pub(super) fn new(app: &Arc<App>, asked: Asked) -> Self {
        Self { app: Arc::clone(app), asked, over: false, released: asked.unattended }
    }

    /// The run goes on by itself.
    pub(super) fn release(mut self) {
        self.released = true;
    }

    /// The run's events to its end.
    pub(super) fn events(self) -> impl Stream<Item = RunEvent> + Send {
        async_stream::stream! {
            // All of it, to be dropped with the stream.
            let mut attendance = self;
            let run = attendance.asked.run;
            let mut events = Box::pin(conversations::follow(Arc::clone(&attendance.app), run));
            while let Some(event) = events.next().await {
                attendance.over = event.kind == "run.done";
                yield event;
            }
        }
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        let (app, asked, over) = (Arc::clone(&self.app), self.asked, self.over);
        if self.released || (over && asked.kept) {
            return;
        }
        tokio::spawn(async move {
            if !over {
                if let Err(error) = conversations::abandon(&app, asked.run).await {
                    tracing::error!(run = %asked.run, %error, "a run that nobody waits for could not be stopped");
                    return;
                }
                let mut rest = Box::pin(conversations::follow(Arc::clone(&app), asked.run));
                let mut last = None;
                while let Some(event) = rest.next().await {
                    last = Some(event.kind);
                }
                // This process stops before the run has ended: the next one's sweep forgets it.
                if last.as_deref() != Some("run.done") {
                    return;
                }
            }
            if !asked.kept
                && let Err(error) = conversations::forget(&app, asked.tenant, asked.conversation).await
            {
                tracing::error!(%error, "a conversation that is not kept could not be removed");
            }
        });
    }
}

/// The agent that a model's name stands for.
pub(super) async fn find(app: &App, caller: &Caller, model: &str) -> Result<Option<agents::Agent>, Error> {
    let Some(slug) = model.strip_prefix(AGENT) else { return Ok(None) };
    // Who may ask no agent at all learns of none.
    authority::require(app, caller, "conversation:create", Resource::any("conversation")).await?;
    let agent = agents::find(app.database.read(), caller.tenant, slug).await?;
    agent.filter(|agent| !agent.archived).map(Some).ok_or_else(|| Error::no_model(model))
}

/// An agent's name as a model.
pub(super) async fn name_of(app: &App, caller: &Caller, agent: AgentId) -> Result<String, Error> {
    let agent = agents::get(app.database.read(), caller.tenant, agent).await?;
    Ok(agent.map_or_else(String::new, |agent| format!("{AGENT}{}", agent.slug)))
}

/// Puts a checked request as a question to an agent.
pub(super) fn question(app: &App, agent: agents::Agent, chat: Chat, guard: Guard) -> Result<Question, Error> {
    if guard.has_key() && !chat.store {
        let message =
            "An answer is given again only where it is stored: send `store: true` as well, or no key.";
        return Err(super::request::unsupported("Idempotency-Key", message));
    }
    let mut context = chat.said;
    let Some(last) = context.iter().rposition(|message| message.role == Role::User) else {
        let message = "An agent is asked by a message of role `user`: send one.";
        return Err(Error::invalid("messages", "invalid_value", message));
    };
    let mut tail = context.split_off(last);
    let message = tail.remove(0).content;
    if !chat.functions.is_empty() && !app.model.profile().tools {
        let message = "This install's model takes no tools: leave `tools` out.";
        return Err(super::request::unsupported("tools", message));
    }
    if let Some(taken) = chat.functions.iter().find(|function| agent.tools.contains(&function.name)) {
        let message = format!("The agent has a tool `{}` of its own: rename the function.", taken.name);
        return Err(Error::invalid("tools", "invalid_value", message));
    }
    let brief = Brief {
        instructions: chat.instructions,
        context,
        functions: chat.functions,
        one_call: chat.one_call,
        response_format: chat.response_format,
        output_tokens_max: chat.output_tokens_max,
        temperature: chat.temperature,
    };
    Ok(Question { agent, message, tail, brief, keep: chat.store, after: None, guard })
}

/// Asks the agent and answers as a chat completion.
pub(super) async fn chat(
    app: &Arc<App>,
    caller: &Caller,
    agent: agents::Agent,
    chat: Chat,
    guard: Guard,
) -> Result<Response, Error> {
    let (model, delivery, whole) = (chat.model.clone(), chat.delivery, chat.response_format.is_some());
    let question = question(app, agent, chat, guard)?;
    let asked = conversations::ask(app, caller, question).await?;
    let answer = Answer {
        id: format!("chatcmpl-{}", asked.run),
        created: asked.at / 1000,
        model,
        include_usage: delivery.include_usage,
    };
    let events = Attendance::new(app, asked).events();
    let hearing = Hearing::new(whole);
    if delivery.stream {
        Ok(streamed(answer, hearing, events).into_response())
    } else {
        document(&answer, hearing, events).await
    }
}

fn streamed(
    answer: Answer,
    mut hearing: Hearing,
    events: impl Stream<Item = RunEvent> + Send + 'static,
) -> Sse<impl Stream<Item = Result<axum::response::sse::Event, Infallible>>> {
    let stream = async_stream::stream! {
        let mut events = Box::pin(events);
        yield Ok(answer.opening());
        while let Some(event) = events.next().await {
            let pieces = match hearing.hear(&event.kind, &event.payload) {
                Ok(pieces) => pieces,
                Err(error) => {
                    yield Ok(chunks::broken(&error));
                    return;
                }
            };
            for piece in pieces {
                if let Some(chunk) = answer.piece(&piece) {
                    yield Ok(chunk);
                }
                if let Piece::End(usage) = piece {
                    for chunk in answer.closing(chunks::finish_reason(hearing.called, hearing.cut), usage) {
                        yield Ok(chunk);
                    }
                    return;
                }
            }
        }
        yield Ok(chunks::broken(&stopping()));
    };
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

pub(super) fn stopping() -> Error {
    let message = "The server stops; the run is stopped with it. Send the request again in a moment.";
    Error::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", message)
}

async fn document(
    answer: &Answer,
    mut hearing: Hearing,
    events: impl Stream<Item = RunEvent> + Send,
) -> Result<Response, Error> {
    let mut events = Box::pin(events);
    let (mut text, mut calls, mut told) = (String::new(), Vec::new(), Vec::new());
    while let Some(event) = events.next().await {
        for piece in hearing.hear(&event.kind, &event.payload)? {
            match piece {
                Piece::Text(piece) => text.push_str(&piece),
                Piece::Event(event) => told.push(event),
                Piece::Calls(made) => calls.extend(made),
                Piece::End(usage) => {
                    let finish = chunks::finish_reason(hearing.called, hearing.cut);
                    return Ok(Json(answer.document(&text, &calls, finish, usage, &told)).into_response());
                }
            }
        }
    }
    Err(stopping())
}
