//! Answers as bytes, in OpenAI's shapes: server-sent events or one JSON document.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use serde_json::{Value, json};

use super::ParsedRequest;

/// Words per streamed chunk.
const CHUNK_WORDS: usize = 3;
/// Characters that count as one token, rounded up.
const TOKEN_CHARACTERS: usize = 4;

/// A complete answer: a text or tool calls, already cut to the limit.
pub(super) struct Reply<'a> {
    pub(super) request: &'a ParsedRequest,
    pub(super) id: &'a str,
    pub(super) text: &'a str,
    /// (id, name, arguments)
    pub(super) calls: &'a [(String, String, String)],
    pub(super) cut_at_limit: bool,
}

/// The part of `text` that fits the request's token limit, and whether something was cut off.
pub(super) fn cut<'a>(request: &ParsedRequest, text: &'a str) -> (&'a str, bool) {
    let Some(limit) = request.output_tokens_max else {
        return (text, false);
    };
    let characters = limit as usize * TOKEN_CHARACTERS;
    match text.char_indices().nth(characters) {
        Some((end, _)) => (&text[..end], true),
        None => (text, false),
    }
}

/// Tokens in so many characters, as this server counts them.
#[must_use]
pub fn tokens(characters: usize) -> usize {
    characters.div_ceil(TOKEN_CHARACTERS)
}

impl Reply<'_> {
    fn finish_reason(&self) -> &'static str {
        match (self.calls.is_empty(), self.cut_at_limit) {
            (false, _) => "tool_calls",
            (true, true) => "length",
            (true, false) => "stop",
        }
    }

    fn usage(&self) -> Value {
        let output: usize = self.text.chars().count()
            + self.calls.iter().map(|call| call.1.chars().count() + call.2.chars().count()).sum::<usize>();
        let (input, output) = (tokens(self.request.total_characters()), tokens(output));
        json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
    }

    /// The whole answer as one document.
    pub(super) fn document(&self) -> Bytes {
        let content = if self.calls.is_empty() { json!(self.text) } else { Value::Null };
        let mut message = json!({"role": "assistant", "content": content});
        if !self.calls.is_empty() {
            message["tool_calls"] = self
                .calls
                .iter()
                .map(|(id, name, arguments)| {
                    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
                })
                .collect();
        }
        let choice = json!({"index": 0, "message": message, "finish_reason": self.finish_reason()});
        let document = json!({
            "id": self.id, "object": "chat.completion", "created": now(), "model": self.request.model,
            "choices": [choice], "usage": self.usage(),
        });
        Bytes::from(document.to_string())
    }

    /// The events that carry text: the first names the role and is empty, as OpenAI's is.
    pub(super) fn text_events(&self) -> Vec<Bytes> {
        let writer = EventWriter::new(self);
        let mut events = vec![writer.delta(r#"{"role":"assistant","content":""}"#)];
        events.extend(chunks(self.text).into_iter().map(|chunk| {
            let text = serde_json::to_string(chunk).expect("a string is JSON");
            writer.delta(&format!(r#"{{"content":{text}}}"#))
        }));
        events
    }

    /// All events, tool calls' arguments in two pieces each.
    pub(super) fn events(&self) -> Vec<Bytes> {
        let writer = EventWriter::new(self);
        let mut events = self.text_events();
        for (index, (id, name, arguments)) in self.calls.iter().enumerate() {
            let middle = arguments.floor_char_boundary(arguments.len() / 2);
            let (first, second) = arguments.split_at(middle);
            let opening = json!({"tool_calls": [
                {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": first}}]});
            let closing = json!({"tool_calls": [{"index": index, "function": {"arguments": second}}]});
            events.push(writer.delta(&opening.to_string()));
            events.push(writer.delta(&closing.to_string()));
        }
        events.extend(self.closing_events());
        events
    }

    /// The finish reason, the usage where asked for, and `[DONE]`.
    pub(super) fn closing_events(&self) -> Vec<Bytes> {
        let writer = EventWriter::new(self);
        let mut events = vec![writer.finish(self.finish_reason())];
        if self.request.include_usage {
            events.push(writer.usage(&self.usage()));
        }
        events.push(Bytes::from_static(b"data: [DONE]\n\n"));
        events
    }
}

/// What all events of one answer begin and end with, written once.
struct EventWriter {
    head: String,
    tail: &'static str,
}

impl EventWriter {
    fn new(reply: &Reply<'_>) -> Self {
        let model = serde_json::to_string(&reply.request.model).expect("a string is JSON");
        let head = format!(
            r#"data: {{"id":"{}","object":"chat.completion.chunk","created":{},"model":{model},"#,
            reply.id,
            now()
        );
        let tail = if reply.request.include_usage { ",\"usage\":null}\n\n" } else { "}\n\n" };
        Self { head, tail }
    }

    fn delta(&self, delta: &str) -> Bytes {
        let Self { head, tail } = self;
        Bytes::from(format!(r#"{head}"choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]{tail}"#))
    }

    fn finish(&self, reason: &str) -> Bytes {
        let Self { head, tail } = self;
        Bytes::from(format!(
            r#"{head}"choices":[{{"index":0,"delta":{{}},"finish_reason":"{reason}"}}]{tail}"#
        ))
    }

    fn usage(&self, usage: &Value) -> Bytes {
        let head = &self.head;
        Bytes::from(format!("{head}\"choices\":[],\"usage\":{usage}}}\n\n"))
    }
}

/// Cuts a text after every few words; put together the pieces are the text.
pub(super) fn chunks(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut words = 0;
    for (at, character) in text.char_indices() {
        if character == ' ' {
            words += 1;
            if words == CHUNK_WORDS {
                pieces.push(&text[start..at]);
                start = at;
                words = 0;
            }
        }
    }
    if start < text.len() {
        pieces.push(&text[start..]);
    }
    pieces
}

/// OpenAI's error document.
pub(super) fn error(message: &str, kind: &str, code: Option<&str>) -> String {
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}}).to_string()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
