//! Reading what the model writes: pieces of bytes in, events out.

use contracts::model::{ChatEvent, ToolRequest};

use crate::grammar::{ANSWER_OPEN, ARGUMENTS_OPEN, TOOL_OPEN};

/// Joins characters that were split across tokens.
#[derive(Debug, Default)]
pub(crate) struct Utf8 {
    pending: Vec<u8>,
}

impl Utf8 {
    /// The text that is whole by now. Bytes that no later byte can mend become U+FFFD.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut whole = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            whole += chunk.valid().len();
            let invalid = chunk.invalid();
            let split = whole + invalid.len() == self.pending.len() && begins_a_character(invalid);
            if !invalid.is_empty() && !split {
                text.push(char::REPLACEMENT_CHARACTER);
                whole += invalid.len();
            }
        }
        self.pending.drain(..whole);
        text
    }
}

/// Whether more bytes could make a character of these, which stand at the end.
fn begins_a_character(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// An answer that keeps to `grammar`: a text inside JSON, or a tool call.
#[derive(Debug, Default)]
pub(crate) struct Envelope {
    written: String,
    /// How much of `written` was sent as the answer's text.
    sent: usize,
    complete: bool,
}

impl Envelope {
    /// What more of the text says. The answer's own text is sent while it is written, a call when it is whole.
    pub(crate) fn push(&mut self, text: &str, call_id: impl FnOnce() -> String) -> Option<ChatEvent> {
        self.written.push_str(text);
        if self.complete {
            None
        } else if self.written.starts_with(ANSWER_OPEN) {
            self.answer().map(ChatEvent::Delta)
        } else {
            let (name, arguments) = call(&self.written)?;
            self.complete = true;
            Some(ChatEvent::Tool(ToolRequest { id: call_id(), name, arguments }))
        }
    }

    /// Nothing more is to come, whatever the model would write next.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    fn answer(&mut self) -> Option<String> {
        let from = self.sent.max(ANSWER_OPEN.len());
        let fresh = self.written.get(from..)?;
        let (whole, closed) = whole_characters(fresh);
        self.sent = from + whole;
        self.complete = closed;
        let text: String = serde_json::from_str(&format!("\"{}\"", fresh.get(..whole)?)).ok()?;
        (!text.is_empty()).then_some(text)
    }
}

/// How many bytes of a JSON string's inside can be decoded by themselves, and whether the string ends after them.
fn whole_characters(inside: &str) -> (usize, bool) {
    let bytes = inside.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let length = match byte {
            b'"' => return (at, true),
            b'\\' => escape_length(bytes.get(at..).unwrap_or_default()),
            _ => 1,
        };
        if at + length > bytes.len() {
            break;
        }
        at += length;
    }
    (at, false)
}

/// `\n` is two bytes, `\u00e9` six, and a surrogate needs its other half: twelve.
fn escape_length(escape: &[u8]) -> usize {
    match escape {
        [_, b'u', b'd' | b'D', b'8' | b'9' | b'a'..=b'b' | b'A'..=b'B', ..] => 12,
        // Not known yet whether it is a surrogate.
        [_, b'u'] | [_, b'u', b'd' | b'D'] => 12,
        [_, b'u', ..] => 6,
        _ => 2,
    }
}

fn call(written: &str) -> Option<(String, String)> {
    let call: serde_json::Value = serde_json::from_str(written).ok()?;
    let name = call.get("tool")?.as_str()?.to_owned();
    // The arguments' own spelling: parsing would reorder and reformat them.
    let start = TOOL_OPEN.len() + crate::grammar::quoted(&name).len() + ARGUMENTS_OPEN.len();
    let arguments = written.get(start..written.len().checked_sub(1)?)?.to_owned();
    Some((name, arguments))
}

#[cfg(test)]
mod tests {
    use contracts::model::{ChatEvent, ToolRequest};

    use super::{Envelope, Utf8};

    /// Every event, when the text comes one character at a time.
    fn events(text: &str) -> (Vec<ChatEvent>, bool) {
        let mut envelope = Envelope::default();
        let mut events = Vec::new();
        for character in text.chars() {
            events.extend(envelope.push(&character.to_string(), || "id".to_owned()));
        }
        (events, envelope.is_complete())
    }

    fn deltas(events: &[ChatEvent]) -> String {
        let text = |event: &ChatEvent| match event {
            ChatEvent::Delta(text) => text.clone(),
            other => panic!("{other:?} is no text"),
        };
        events.iter().map(text).collect()
    }

    #[test]
    fn a_character_split_across_tokens_is_joined() {
        let mut utf8 = Utf8::default();
        let texts: Vec<String> = "a\u{1F600}é".as_bytes().chunks(1).map(|byte| utf8.push(byte)).collect();
        assert_eq!(texts, ["a", "", "", "", "\u{1F600}", "", "é"]);
    }

    #[test]
    fn bytes_that_are_no_character_are_replaced_and_the_rest_is_kept() {
        let mut utf8 = Utf8::default();
        assert_eq!(utf8.push(b"a\xFFb\xC3"), "a\u{FFFD}b");
        assert_eq!(utf8.push(b"\xA9"), "é");
        assert_eq!(utf8.push(b"\xE2\x82"), "");
        assert_eq!(utf8.push(b"x"), "\u{FFFD}x");
    }

    #[test]
    fn an_answer_is_sent_while_it_is_written() {
        let (sent, complete) = events(r#"{"answer": "Sa\u00ef \"it\"\n\ud83d\ude00 ü"}"#);
        assert_eq!(deltas(&sent), "Saï \"it\"\n\u{1F600} ü");
        assert!(complete);

        let (sent, complete) = events(r#"{"answer": "cut \ud83"#);
        assert_eq!(deltas(&sent), "cut ");
        assert!(!complete);
    }

    #[test]
    fn a_call_is_sent_when_it_is_whole() {
        let call = ToolRequest {
            id: "id".to_owned(),
            name: "find \"it\"".to_owned(),
            arguments: r#"{"z": 1, "a": [{}]}"#.to_owned(),
        };
        let (sent, complete) = events(r#"{"tool": "find \"it\"", "arguments": {"z": 1, "a": [{}]}}"#);
        assert_eq!(sent, [ChatEvent::Tool(call)]);
        assert!(complete);

        assert_eq!(events(r#"{"tool": "find", "arguments": {"z": 1}"#), (Vec::new(), false));
    }
}
