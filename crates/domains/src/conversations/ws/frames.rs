//! What goes over a WebSocket: `{type, id, timestamp, payload}` out, `{type, id?, payload}` in.

use contracts::{ConversationId, RunId};
use platform::{durable::unix_ms, http::Timestamp};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json, value::RawValue};

use super::super::api::given;

/// Longest id that a client gives a frame: it becomes an `Idempotency-Key`.
const ID_CHARS_MAX: usize = 200;

/// A frame from a client. `id` makes a message one message however often it is sent, and comes back with its answer.
#[derive(Debug, Deserialize)]
pub(super) struct Incoming {
    #[serde(rename = "type")]
    pub kind: String,
    pub id: Option<String>,
    payload: Option<Box<RawValue>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChatMessage {
    pub content: String,
    /// Absent: a new conversation, with the connection's agent or else the default one.
    pub conversation_id: Option<ConversationId>,
    #[serde(default)]
    pub interrupt: bool,
    #[serde(default, deserialize_with = "given")]
    pub parent_run_id: Option<Option<RunId>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resume {
    pub run_id: RunId,
    /// The number of the last event that the client has, 0 for none.
    #[serde(default)]
    pub after: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cancel {
    pub run_id: RunId,
}

impl Incoming {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let frame: Self =
            serde_json::from_str(text).map_err(|error| format!("This is no frame: {error}."))?;
        match &frame.id {
            Some(id) if !(1..=ID_CHARS_MAX).contains(&id.len()) || !id.is_ascii() => {
                Err(format!("A frame's id has 1 to {ID_CHARS_MAX} characters of ASCII."))
            }
            _ => Ok(frame),
        }
    }

    pub(super) fn payload<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_str(self.payload_text()).map_err(|error| format!("The payload is wrong: {error}."))
    }

    /// As the client wrote it.
    pub(super) fn payload_text(&self) -> &str {
        self.payload.as_deref().map_or("null", RawValue::get)
    }
}

/// Makes the frames that are not events of a run, each with an id of its own.
#[derive(Debug)]
pub(super) struct Frames {
    connection: uuid::Uuid,
    sent: u64,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self { connection: uuid::Uuid::now_v7(), sent: 0 }
    }

    /// The connection's own id.
    pub(super) fn connection(&self) -> uuid::Uuid {
        self.connection
    }

    pub(super) fn make(&mut self, kind: &str, payload: Value) -> String {
        self.sent += 1;
        let frame = json!({
            "type": kind,
            "id": format!("{}-{}", self.connection, self.sent),
            "timestamp": Timestamp(unix_ms()),
            "payload": payload,
        });
        frame.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_and_null_is_told_from_absent() {
        let frame = Incoming::read(r#"{"type":"chat.message","id":"7","payload":{"content":"x"}}"#).unwrap();
        assert_eq!((frame.kind.as_str(), frame.id.as_deref()), ("chat.message", Some("7")));
        assert_eq!(frame.payload::<ChatMessage>().unwrap().parent_run_id, None);
        let frame = Incoming::read(r#"{"type":"x","payload":{"content":"x","parent_run_id":null}}"#).unwrap();
        assert_eq!(frame.payload::<ChatMessage>().unwrap().parent_run_id, Some(None));
    }

    #[test]
    fn what_is_no_frame_is_refused_with_its_reason() {
        let long = format!(r#"{{"type":"ping","id":"{}"}}"#, "x".repeat(201));
        for bad in ["", "ping", "[]", "{}", r#"{"type":7}"#, r#"{"type":"ping","id":""}"#, &long] {
            assert!(Incoming::read(bad).is_err(), "{bad:.40}");
        }
        let frame = Incoming::read(r#"{"type":"resume","payload":{"run_id":"x"}}"#).unwrap();
        assert!(frame.payload::<Resume>().is_err());
        assert!(Incoming::read(r#"{"type":"chat.cancel"}"#).unwrap().payload::<Cancel>().is_err());
    }
}
