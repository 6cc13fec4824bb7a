//! A run's events as what a client of OpenAI's protocol hears: text, calls of its own functions, an end.
//!
//! A model call that is made again after a crash begins its text anew. What the client has of it is not sent twice:
//! the new text is followed silently for as long as it is the same.

use axum::http::StatusCode;
use contracts::model::{ToolRequest, Usage};
use serde_json::{Value, json};

use super::error::Error;
use crate::conversations::{Broken, DONE, RunEvent};

/// Between the texts of two model calls of one turn.
const BETWEEN: &str = "\n\n";

#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    Text(String),
    /// An event of the run that OpenAI's protocol has no word for: a tool of the agent, a decision, an approval.
    Event(Value),
    /// The client is to run these, and to come back with their results.
    Calls(Vec<ToolRequest>),
    End(Usage),
}

/// What became of the answer besides its text.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    /// The text is told at its end only: it must have a form, and is not known to have it before.
    whole: bool,
    /// Of the model call that is heard now.
    response: String,
    sent: String,
    heard: String,
    /// Some text of an earlier model call was sent.
    any: bool,
    pub called: bool,
    pub cut: bool,
    failure: Option<(String, String)>,
}

impl Hearing {
    pub(super) fn new(whole: bool) -> Self {
        Self { whole, ..Self::default() }
    }

    /// What comes next of the run; `Err` ends the answer.
    pub(super) fn hear_next(&mut self, next: Result<RunEvent, Broken>) -> Result<Vec<Piece>, Error> {
        let event = next.map_err(|Broken| {
            let message = "What the agent says can't be read now. What it has done so far stands.";
            Error::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message).final_word()
        })?;
        self.hear(&event.kind, &event.payload)
    }

    /// What an event of the run comes to; `Err` ends the answer.
    pub(super) fn hear(&mut self, kind: &str, payload: &str) -> Result<Vec<Piece>, Error> {
        let payload: Value = serde_json::from_str(payload).unwrap_or_default();
        let text = |name: &str| payload.get(name).and_then(Value::as_str).unwrap_or_default();
        Ok(match kind {
            "chat.delta" if !self.whole => {
                self.turn_to(text("response_id"));
                self.heard.push_str(text("delta"));
                self.catch_up()?
            }
            "chat.reset" => {
                self.turn_to(text("response_id"));
                self.heard.clear();
                Vec::new()
            }
            "chat.done" => {
                self.turn_to(text("response_id"));
                text("content").clone_into(&mut self.heard);
                let mut pieces = self.catch_up()?;
                self.cut = payload.get("cut") == Some(&Value::Bool(true));
                let calls = payload.get("tool_calls").cloned().unwrap_or_default();
                if let Ok(calls) = serde_json::from_value::<Vec<ToolRequest>>(calls)
                    && !calls.is_empty()
                {
                    self.called = true;
                    pieces.push(Piece::Calls(calls));
                }
                pieces
            }
            "error" => {
                self.failure = Some((text("code").to_owned(), text("message").to_owned()));
                Vec::new()
            }
            DONE => vec![self.end(&payload)?],
            "tool.start" | "tool.result" | "policy.decision" | "approval.requested" | "approval.decided" => {
                vec![Piece::Event(json!({ "type": kind, "payload": payload }))]
            }
            _ => Vec::new(),
        })
    }

    fn turn_to(&mut self, response: &str) {
        if self.response != response {
            response.clone_into(&mut self.response);
            self.any |= !self.sent.is_empty();
            self.sent.clear();
            self.heard.clear();
        }
    }

    /// The part of what was heard that was not sent.
    fn catch_up(&mut self) -> Result<Vec<Piece>, Error> {
        if let Some(new) = self.heard.strip_prefix(&self.sent) {
            if new.is_empty() {
                return Ok(Vec::new());
            }
            let between = if self.sent.is_empty() && self.any && !self.whole { BETWEEN } else { "" };
            let piece = Piece::Text(format!("{between}{new}"));
            self.sent.clone_from(&self.heard);
            return Ok(vec![piece]);
        }
        if self.sent.starts_with(&self.heard) {
            return Ok(Vec::new());
        }
        let message =
            "The answer was begun anew after an interruption, and its new text is another. Ask again.";
        Err(Error::new(StatusCode::BAD_GATEWAY, "answer_restarted", message).final_word())
    }

    fn end(&mut self, payload: &Value) -> Result<Piece, Error> {
        let usage: Usage = payload
            .get("usage")
            .cloned()
            .and_then(|usage| serde_json::from_value(usage).ok())
            .unwrap_or_default();
        if let Some((code, message)) = self.failure.take() {
            return Err(failed(&code, message));
        }
        match payload.get("status").and_then(Value::as_str) {
            Some("completed") => Ok(Piece::End(usage)),
            _ => Err(Error::new(StatusCode::CONFLICT, "cancelled", "The run was stopped.").final_word()),
        }
    }
}

/// A run that failed. Its agent may have done things: a client should not simply send it again.
pub(super) fn failed(code: &str, message: String) -> Error {
    match code {
        "budget_exceeded" => Error::over_budget(),
        "context_exceeded" => Error::invalid("messages", "context_length_exceeded", message),
        "model_refused" | "model_unavailable" | "model_garbage" | "model_interrupted"
        | "answer_misshapen" => Error::new(StatusCode::BAD_GATEWAY, code, message).final_word(),
        _ => Error::new(StatusCode::UNPROCESSABLE_ENTITY, code, message).final_word(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(hearing: &mut Hearing, response: &str, text: &str) -> Result<Vec<Piece>, Error> {
        let payload = json!({ "response_id": response, "delta": text }).to_string();
        hearing.hear("chat.delta", &payload)
    }

    fn reset(hearing: &mut Hearing, response: &str) {
        let payload = json!({ "response_id": response }).to_string();
        assert_eq!(hearing.hear("chat.reset", &payload).unwrap(), []);
    }

    #[test]
    fn a_text_that_is_begun_anew_is_sent_once() {
        let mut hearing = Hearing::new(false);
        assert_eq!(delta(&mut hearing, "a", "one two").unwrap(), [Piece::Text("one two".into())]);
        reset(&mut hearing, "a");
        assert_eq!(delta(&mut hearing, "a", "one").unwrap(), []);
        assert_eq!(delta(&mut hearing, "a", " two three").unwrap(), [Piece::Text(" three".into())]);
        reset(&mut hearing, "a");
        assert!(delta(&mut hearing, "a", "uno").is_err(), "another text can't be told any more");
    }

    #[test]
    fn texts_of_two_calls_are_apart_and_a_form_is_told_whole() {
        let mut hearing = Hearing::new(false);
        delta(&mut hearing, "a", "Let me see.").unwrap();
        assert_eq!(delta(&mut hearing, "b", "Seven.").unwrap(), [Piece::Text("\n\nSeven.".into())]);
        let mut hearing = Hearing::new(true);
        assert_eq!(delta(&mut hearing, "a", "{\"x\"").unwrap(), []);
        let done = json!({ "response_id": "a", "content": "{\"x\":1}" }).to_string();
        assert_eq!(hearing.hear("chat.done", &done).unwrap(), [Piece::Text("{\"x\":1}".into())]);
    }

    #[test]
    fn the_end_of_a_run_is_its_usage_or_an_error() {
        let mut hearing = Hearing::new(false);
        let done =
            json!({ "status": "completed", "usage": { "input_tokens": 3, "output_tokens": 2 } }).to_string();
        let usage = Usage { input_tokens: 3, output_tokens: 2 };
        assert_eq!(hearing.hear("run.done", &done).unwrap(), [Piece::End(usage)]);
        let error = json!({ "code": "budget_exceeded", "message": "x" }).to_string();
        hearing.hear("error", &error).unwrap();
        assert!(hearing.hear("run.done", &json!({ "status": "failed" }).to_string()).is_err());
        assert!(hearing.hear("run.done", &json!({ "status": "cancelled" }).to_string()).is_err());
    }
}
