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
use platform::{idempotency::Guard, task};
use tracing::Instrument;

use super::{
    chunks::{self, Answer},
    error::Error,
    hearing::{Hearing, Piece},
    listing::AGENT,
    request::Chat,
};
use crate::{
    App, agents, authority,
    conversations::{self, Asked, Brief, Broken, DONE, Question, RunEvent},
};

/// A comment in a stream in which nothing else is said for so long.
const KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(15);

/// A run whose client is there. Dropped before its end, it stops the run; and what is not to be kept is removed.
pub(super) struct Attendance {
    app: Arc<App>,
    pub asked: Asked,
    over: bool,
}

impl Attendance {
    /// Asks, and attends from the moment at which the question is stored: a client that goes away meanwhile leaves no run
    /// behind that nobody waits for.
    pub(super) async fn ask(app: &Arc<App>, caller: &Caller, question: Question) -> Result<Self, Error> {
        let (app, caller) = (Arc::clone(app), caller.clone());
        let asking = async move {
            let asked = conversations::ask(&app, &caller, question).await?;
            Ok(Self { app, asked, over: false })
        };
        // Where nobody waits for the task any more, what it made is dropped at its end.
        task::outcome(tokio::spawn(asking.in_current_span())).await
    }

    /// The run's events to its end.
    pub(super) fn events(self) -> impl Stream<Item = Result<RunEvent, Broken>> + Send {
        async_stream::stream! {
            // All of it, to be dropped with the stream.
            let mut attendance = self;
            let run = attendance.asked.run;
            let mut events = Box::pin(conversations::follow_new(Arc::clone(&attendance.app), run));
            while let Some(event) = events.next().await {
                attendance.over = event.as_ref().is_ok_and(|event| event.kind == DONE);
                yield event;
            }
        }
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        let (app, asked, over) = (Arc::clone(&self.app), self.asked, self.over);
        if asked.unattended || (over && asked.kept) {
            return;
        }
        tokio::spawn(async move {
            if !over {
                if let Err(error) = conversations::abandon(&app, asked.run).await {
                    tracing::error!(run = %asked.run, %error, "a run that nobody waits for could not be stopped");
                    return;
                }
                if asked.kept {
                    return;
                }
                let mut rest = Box::pin(conversations::follow_new(Arc::clone(&app), asked.run));
                let mut last = None;
                while let Some(Ok(event)) = rest.next().await {
                    last = Some(event.kind);
                }
                // The process stops, or the database is away, before the run has ended: a sweep forgets it.
                if last.as_deref() != Some(DONE) {
                    return;
                }
            }
            if let Err(error) = conversations::forget(&app, asked.tenant, asked.conversation).await {
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
    Ok(Question { agent, message, tail, brief, keep: chat.store, background: false, after: None, guard })
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
    let attendance = Attendance::ask(app, caller, question).await?;
    let answer = Answer {
        id: format!("chatcmpl-{}", attendance.asked.run),
        created: attendance.asked.at / 1000,
        model,
        include_usage: delivery.include_usage,
    };
    let events = attendance.events();
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
    events: impl Stream<Item = Result<RunEvent, Broken>> + Send + 'static,
) -> Sse<impl Stream<Item = Result<axum::response::sse::Event, Infallible>>> {
    let stream = async_stream::stream! {
        let mut events = Box::pin(events);
        yield Ok(answer.opening());
        while let Some(event) = events.next().await {
            let pieces = match hearing.hear_next(event) {
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
    events: impl Stream<Item = Result<RunEvent, Broken>> + Send,
) -> Result<Response, Error> {
    let mut events = Box::pin(events);
    let (mut text, mut calls, mut told) = (String::new(), Vec::new(), Vec::new());
    while let Some(event) = events.next().await {
        for piece in hearing.hear_next(event)? {
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

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::{conversations::RunState, tests::World};

    #[tokio::test]
    async fn who_goes_away_while_the_question_is_stored_leaves_no_run_behind() {
        let world = World::new().await;
        let app = &world.app;
        let agent = agents::every(app.database.read(), world.caller.tenant).await.unwrap().remove(0);
        let question = Question {
            agent,
            message: "hello".into(),
            tail: Vec::new(),
            brief: Brief::default(),
            keep: true,
            background: false,
            after: None,
            guard: world.unguarded(),
        };
        // The database takes no other change for the while.
        let (begun, begins) = oneshot::channel();
        let (go_on, goes_on) = oneshot::channel::<()>();
        let database = app.database.clone();
        let held = tokio::spawn(async move {
            let hold = database.write(move |_| {
                Box::pin(async move {
                    begun.send(()).unwrap();
                    goes_on.await.unwrap();
                    Ok::<_, platform::database::Error>(())
                })
            });
            hold.await.unwrap();
        });
        begins.await.unwrap();
        let asking = tokio::time::timeout(std::time::Duration::from_millis(500), async {
            Attendance::ask(app, &world.caller, question).await.map(drop)
        });
        assert!(asking.await.is_err(), "the question is stored already");

        go_on.send(()).unwrap();
        held.await.unwrap();

        let stopped = async {
            loop {
                if conversations::run_states_for_test(app).await == [RunState::Cancelling] {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), stopped)
            .await
            .expect("the run is not stopped");
    }
}
