//! Answers in OpenAI's shape: one document, or chunks of one.

use axum::response::sse::Event;
use contracts::model::{ToolRequest, Usage};
use serde_json::{Value, json};

use super::{error::Error, hearing::Piece};

/// What all chunks of an answer have in common.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub id: String,
    /// Seconds since 1970.
    pub created: i64,
    pub model: String,
    pub include_usage: bool,
}

fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens.saturating_add(usage.output_tokens),
    })
}

/// Why an answer ended.
pub(super) fn finish_reason(called: bool, cut: bool) -> &'static str {
    match (called, cut) {
        (true, _) => "tool_calls",
        (false, true) => "length",
        (false, false) => "stop",
    }
}

fn call(call: &ToolRequest) -> Value {
    json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": call.arguments } })
}

impl Answer {
    fn chunk(&self, choices: &Value) -> Value {
        let mut chunk = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": choices,
        });
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn delta(&self, delta: &Value, finish: Option<&str>) -> Value {
        self.chunk(&json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish }]))
    }

    /// The first chunk: who speaks.
    pub(super) fn opening(&self) -> Event {
        event(&self.delta(&json!({ "role": "assistant", "content": "" }), None))
    }

    /// What a piece comes to; an end has its own [`Self::closing`].
    pub(super) fn piece(&self, piece: &Piece) -> Option<Event> {
        let chunk = match piece {
            Piece::Text(text) => self.delta(&json!({ "content": text }), None),
            Piece::Event(told) => {
                let mut chunk = self.delta(&json!({}), None);
                chunk["soma"] = told.clone();
                chunk
            }
            Piece::Calls(calls) => {
                let calls: Vec<Value> = calls
                    .iter()
                    .enumerate()
                    .map(|(index, request)| {
                        let mut call = call(request);
                        call["index"] = json!(index);
                        call
                    })
                    .collect();
                self.delta(&json!({ "tool_calls": calls }), None)
            }
            Piece::End(_) => return None,
        };
        Some(event(&chunk))
    }

    /// The last chunks.
    pub(super) fn closing(&self, finish: &str, told: Usage) -> Vec<Event> {
        let mut events = vec![event(&self.delta(&json!({}), Some(finish)))];
        if self.include_usage {
            let mut chunk = self.chunk(&json!([]));
            chunk["usage"] = usage(told);
            events.push(event(&chunk));
        }
        events.push(Event::default().data("[DONE]"));
        events
    }

    /// The whole answer. `told` is what OpenAI's protocol has no word for.
    pub(super) fn document(
        &self,
        text: &str,
        calls: &[ToolRequest],
        finish: &str,
        used: Usage,
        told: &[Value],
    ) -> Value {
        let content = if text.is_empty() && !calls.is_empty() { Value::Null } else { json!(text) };
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
        if !calls.is_empty() {
            message["tool_calls"] = calls.iter().map(call).collect();
        }
        let mut document = json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": [{ "index": 0, "message": message, "logprobs": null, "finish_reason": finish }],
            "usage": usage(used),
        });
        if !told.is_empty() {
            document["soma"] = json!({ "events": told });
        }
        document
    }
}

fn event(chunk: &Value) -> Event {
    Event::default().data(chunk.to_string())
}

/// An error in the middle of a stream, as OpenAI's clients hear it.
pub(super) fn broken(error: &Error) -> Event {
    Event::default().data(error.body().to_string())
}
