//! The embedded model by its name: it has no server to pass a request on to, so the answer is made here, in OpenAI's
//! shape, under the same policy, budget and audit.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response, sse::Sse},
};
use contracts::{
    Caller, ModelCallId,
    model::{ChatEvent, ChatMessage, ModelError, Role, Usage},
    policy::Resource,
};
use futures::{Stream, StreamExt, stream::BoxStream};
use platform::durable::unix_ms;
use serde_json::json;

use super::{
    chunks::{self, Answer},
    error::Error,
    hearing::{self, Piece},
    request::{Chat, unsupported},
};
use crate::{
    App, authority,
    models::{NewCall, OpenCall, Price},
};

/// Tokens of an answer where the request names no limit.
const OUTPUT_TOKENS_DEFAULT: u32 = 1024;
/// Tokens that a message's frame costs beside its text.
const FRAME_TOKENS: u32 = 8;

/// An answer under way, and what it costs however it ends.
struct Speaking {
    events: BoxStream<'static, Result<ChatEvent, ModelError>>,
    app: Arc<App>,
    call: Option<OpenCall>,
    input_tokens: u32,
    heard: String,
    usage: Option<Usage>,
    called: bool,
    cut: bool,
}

pub(super) async fn chat(app: &Arc<App>, caller: &Caller, chat: Chat) -> Result<Response, Error> {
    let permit = authority::require(app, caller, "model:invoke", Resource::new("model", &chat.model)).await?;
    let profile = app.model.profile();
    if !chat.functions.is_empty() && !profile.tools {
        return Err(unsupported("tools", "This model takes no tools: leave `tools` out."));
    }
    let mut messages = Vec::with_capacity(chat.said.len() + 1);
    if !chat.instructions.is_empty() {
        messages.push(ChatMessage::text(Role::System, chat.instructions));
    }
    messages.extend(chat.said);
    let tools = serde_json::to_string(&chat.functions).map_or(0, |text| app.model.count_tokens(&text));
    let cost_of = |message: &ChatMessage| FRAME_TOKENS + app.model.count_tokens(&message.content);
    let input_tokens = messages.iter().map(cost_of).sum::<u32>().saturating_add(tools);
    let room = profile.context_tokens.saturating_sub(input_tokens);
    if room == 0 {
        let message =
            format!("The messages do not fit the model's context of {} tokens.", profile.context_tokens);
        return Err(Error::invalid("messages", "context_length_exceeded", message));
    }
    let output_tokens_max = chat.output_tokens_max.unwrap_or(OUTPUT_TOKENS_DEFAULT).min(room);
    let most = Usage { input_tokens: input_tokens.into(), output_tokens: output_tokens_max.into() };
    let call = NewCall {
        id: ModelCallId::new(),
        tenant: caller.tenant,
        user: caller.user,
        model: chat.model.clone(),
        amount: Price::of(&app.config).cost(most),
    };
    let answer = Answer {
        id: format!("chatcmpl-{}", call.id),
        created: unix_ms() / 1000,
        model: chat.model,
        include_usage: chat.delivery.include_usage,
    };
    let entry = permit.entry(json!({ "call_id": call.id, "reserved_micros": call.amount }));
    let mut call = app.calls.open(call, entry).await?.map_err(|_| Error::over_budget())?;
    call.sent();
    let request = contracts::model::ChatRequest {
        model: None,
        messages,
        tools: chat.functions,
        output_tokens_max,
        temperature: chat.temperature,
        response_format: chat.response_format,
    };
    let speaking = Speaking {
        events: app.model.chat(request),
        app: Arc::clone(app),
        call: Some(call),
        input_tokens,
        heard: String::new(),
        usage: None,
        called: false,
        cut: false,
    };
    if chat.delivery.stream {
        Ok(Sse::new(streamed(answer, speaking)).into_response())
    } else {
        document(&answer, speaking).await
    }
}

impl Speaking {
    /// The next piece; the end comes last.
    async fn next(&mut self) -> Result<Piece, Error> {
        match self.events.next().await {
            Some(Ok(ChatEvent::Delta(text))) => {
                self.heard.push_str(&text);
                Ok(Piece::Text(text))
            }
            Some(Ok(ChatEvent::Tool(call))) => {
                self.heard.push_str(&call.arguments);
                self.called = true;
                Ok(Piece::Calls(vec![call]))
            }
            Some(Ok(ChatEvent::Done { usage, cut_at_limit })) => {
                self.usage = usage;
                self.cut = cut_at_limit;
                Ok(Piece::End(self.settle()))
            }
            Some(Err(error)) => Err(failed(&error)),
            None => Err(failed(&ModelError::Interrupted("the answer has no end".into()))),
        }
    }

    /// At the usage that the model told, or at what was heard of it.
    fn settle(&mut self) -> Usage {
        let usage = self.usage.unwrap_or_else(|| Usage {
            input_tokens: self.input_tokens.into(),
            output_tokens: self.app.model.count_tokens(&self.heard).into(),
        });
        if let Some(call) = self.call.take() {
            call.settle(Price::of(&self.app.config).cost(usage), usage);
        }
        usage
    }
}

impl Drop for Speaking {
    fn drop(&mut self) {
        self.settle();
    }
}

fn failed(error: &ModelError) -> Error {
    match error {
        ModelError::Refused(_) => Error::new(StatusCode::BAD_REQUEST, "model_refused", error.to_string()),
        _ => hearing::failed("model_unavailable", error.to_string()),
    }
}

fn streamed(
    answer: Answer,
    mut speaking: Speaking,
) -> impl Stream<Item = Result<axum::response::sse::Event, Infallible>> {
    async_stream::stream! {
        yield Ok(answer.opening());
        loop {
            let piece = match speaking.next().await {
                Ok(piece) => piece,
                Err(error) => {
                    yield Ok(chunks::broken(&error));
                    return;
                }
            };
            if let Some(chunk) = answer.piece(&piece) {
                yield Ok(chunk);
            }
            if let Piece::End(usage) = piece {
                for chunk in answer.closing(chunks::finish_reason(speaking.called, speaking.cut), usage) {
                    yield Ok(chunk);
                }
                return;
            }
        }
    }
}

async fn document(answer: &Answer, mut speaking: Speaking) -> Result<Response, Error> {
    let (mut text, mut calls) = (String::new(), Vec::new());
    loop {
        match speaking.next().await? {
            Piece::Text(piece) => text.push_str(&piece),
            Piece::Calls(made) => calls.extend(made),
            Piece::Event(_) => {}
            Piece::End(usage) => {
                let finish = chunks::finish_reason(speaking.called, speaking.cut);
                return Ok(Json(answer.document(&text, &calls, finish, usage, &[])).into_response());
            }
        }
    }
}
