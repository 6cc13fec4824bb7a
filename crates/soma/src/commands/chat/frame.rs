//! What a run's stream says, as values. A frame of a kind that this client does not know is kept as `Other`, so that
//! an older client goes on beside a newer server.

use contracts::ApprovalId;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

pub use contracts::model::Usage;

/// A frame under its place in the stream.
#[derive(Debug, Clone, PartialEq)]
pub struct RunEvent {
    /// What `Last-Event-ID` names. Counts up from 1.
    pub sequence: i64,
    /// As in `chat.delta`.
    pub kind: String,
    pub frame: Frame,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    Delta(Delta),
    Reset(Response),
    Done(Done),
    ToolStart(ToolStart),
    Decision(Decision),
    ToolResult(ToolResult),
    Asked(Asked),
    Decided(Decided),
    Error(RunError),
    RunDone(RunDone),
    Other,
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Delta {
    pub response_id: String,
    pub delta: String,
}

/// An answer whose text so far is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Response {
    pub response_id: String,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Done {
    pub response_id: String,
    pub content: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ToolStart {
    pub call_id: String,
    pub tool: String,
    pub arguments: Value,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Decision {
    pub effect: String,
    pub reason: String,
    pub revision: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ToolResult {
    pub call_id: String,
    pub status: String,
    pub output: String,
    pub duration_ms: u64,
}

/// The run waits until somebody decides about this call.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Asked {
    pub approval_id: ApprovalId,
    pub tool: String,
    pub arguments: Value,
    pub arguments_hash: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Decided {
    pub approval_id: ApprovalId,
    /// `approved`, `rejected`, `expired` or `cancelled`.
    pub decision: String,
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RunError {
    pub code: String,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct RunDone {
    /// `completed`, `failed` or `cancelled`.
    pub status: String,
    pub usage: Usage,
    /// US dollars.
    #[serde(default)]
    pub cost: f64,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    payload: Option<Box<RawValue>>,
}

/// Reads one Server-Sent Event: its id and its data.
pub fn read(id: &str, data: &str) -> Result<RunEvent, String> {
    let sequence = id.parse().map_err(|_| format!("an event's id is no number: {id:?}"))?;
    let envelope: Envelope = serde_json::from_str(data).map_err(|error| format!("event {id}: {error}"))?;
    let payload = envelope.payload.as_deref().map_or("null", RawValue::get);
    let frame =
        frame(&envelope.kind, payload).map_err(|error| format!("event {id} ({}): {error}", envelope.kind))?;
    Ok(RunEvent { sequence, kind: envelope.kind, frame })
}

fn frame(kind: &str, payload: &str) -> Result<Frame, serde_json::Error> {
    Ok(match kind {
        "chat.delta" => Frame::Delta(serde_json::from_str(payload)?),
        "chat.reset" => Frame::Reset(serde_json::from_str(payload)?),
        "chat.done" => Frame::Done(serde_json::from_str(payload)?),
        "tool.start" => Frame::ToolStart(serde_json::from_str(payload)?),
        "policy.decision" => Frame::Decision(serde_json::from_str(payload)?),
        "tool.result" => Frame::ToolResult(serde_json::from_str(payload)?),
        "approval.requested" => Frame::Asked(serde_json::from_str(payload)?),
        "approval.decided" => Frame::Decided(serde_json::from_str(payload)?),
        "error" => Frame::Error(serde_json::from_str(payload)?),
        "run.done" => Frame::RunDone(serde_json::from_str(payload)?),
        _ => Frame::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_the_server_writes_them() {
        let delta = r#"{"type":"chat.delta","id":"r-3","timestamp":"2026-01-31T12:00:00.000Z",
            "payload":{"conversation_id":"c","response_id":"r:2","delta":"Hel","index":1}}"#;
        let expected = Frame::Delta(Delta { response_id: "r:2".into(), delta: "Hel".into() });
        let event = RunEvent { sequence: 3, kind: "chat.delta".into(), frame: expected };
        assert_eq!(read("3", delta), Ok(event));

        let done = r#"{"type":"run.done","payload":{"status":"completed","usage":{"input_tokens":7,"output_tokens":3},"cost":0.5}}"#;
        let usage = Usage { input_tokens: 7, output_tokens: 3 };
        let expected = Frame::RunDone(RunDone { status: "completed".into(), usage, cost: 0.5 });
        assert_eq!(read("9", done).map(|event| event.frame), Ok(expected));
    }

    #[test]
    fn a_kind_from_a_newer_server_is_let_pass() {
        let event = read("1", r#"{"type":"memory.recalled","payload":{"items":[1]}}"#);
        assert_eq!(event.map(|event| event.frame), Ok(Frame::Other));
    }

    #[test]
    fn what_is_no_event_is_an_error_and_no_panic() {
        for (id, data) in
            [("", "{}"), ("x", "{}"), ("1", "not JSON"), ("1", "{}"), ("1", r#"{"type":"chat.delta"}"#)]
        {
            assert!(read(id, data).is_err(), "{id:?} {data:?}");
        }
    }
}
