//! Reads what an answer cost from its bytes as they pass, and changes none of them.

use axum::body::Bytes;
use contracts::model::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

/// An answer that is one document is kept up to this size, to find the usage in it.
const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A line of a stream that is longer is not looked into.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of text that make a token at least, as everywhere where no tokenizer is at hand.
const TOKEN_BYTES: usize = 3;

/// How an answer's body is made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Document,
    Events,
}

#[derive(Debug)]
pub(super) struct Meter {
    shape: Shape,
    usage: Option<Usage>,
    /// Bytes that passed.
    bytes: usize,
    /// Upper estimate of the tokens in the texts of events that passed.
    tokens: u64,
    /// The document so far.
    pieces: Vec<Bytes>,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
}

/// What of a document or an event is looked at: chat completions name tokens one way, responses another.
#[derive(Deserialize)]
struct Wire<'a> {
    usage: Option<WireUsage>,
    response: Option<Response>,
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Response {
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireUsage {
    #[serde(alias = "input_tokens", default)]
    prompt_tokens: u64,
    #[serde(alias = "output_tokens", default)]
    completion_tokens: u64,
}

impl Meter {
    pub(super) fn new(shape: Shape) -> Self {
        Self { shape, usage: None, bytes: 0, tokens: 0, pieces: Vec::new(), line: Vec::new() }
    }

    pub(super) fn see(&mut self, piece: &Bytes) {
        self.bytes = self.bytes.saturating_add(piece.len());
        match self.shape {
            Shape::Document if self.bytes <= DOCUMENT_BYTES_MAX => self.pieces.push(piece.clone()),
            Shape::Document => self.pieces.clear(),
            Shape::Events => self.see_lines(piece),
        }
    }

    fn see_lines(&mut self, mut rest: &[u8]) {
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            if self.line.is_empty() {
                self.see_line(line);
            } else {
                self.line.extend_from_slice(line);
                let whole = std::mem::take(&mut self.line);
                self.see_line(&whole);
            }
            rest = after.get(1..).unwrap_or_default();
        }
        if self.line.len().saturating_add(rest.len()) <= LINE_BYTES_MAX {
            self.line.extend_from_slice(rest);
        } else {
            self.tokens = self.tokens.saturating_add(tokens(rest.len()));
        }
    }

    fn see_line(&mut self, line: &[u8]) {
        let Some(data) = line.strip_prefix(b"data:") else { return };
        let Ok(wire) = serde_json::from_slice::<Wire<'_>>(data.trim_ascii()) else { return };
        let usage = wire.usage.or(wire.response.and_then(|response| response.usage));
        if let Some(usage) = usage {
            self.usage = Some(usage.into());
        }
        let deltas = wire.choices.unwrap_or_default().into_iter().filter_map(|choice| choice.delta);
        for delta in deltas.chain(wire.delta) {
            self.tokens = self.tokens.saturating_add(text_tokens(delta.get()));
        }
    }

    /// What the answer itself says, once it is complete.
    pub(super) fn told(&self) -> Option<Usage> {
        if self.shape == Shape::Events {
            return self.usage;
        }
        let whole;
        let document: &[u8] = match self.pieces.as_slice() {
            [] => return None,
            [one] => one,
            many => {
                whole = many.concat();
                &whole
            }
        };
        let wire: Wire<'_> = serde_json::from_slice(document).ok()?;
        wire.usage.map(Usage::from)
    }

    /// Upper estimate of the tokens in what passed.
    pub(super) fn output_tokens(&self) -> u64 {
        match self.shape {
            Shape::Document => tokens(self.bytes),
            Shape::Events => self.tokens,
        }
    }
}

impl From<WireUsage> for Usage {
    fn from(usage: WireUsage) -> Self {
        Self { input_tokens: usage.prompt_tokens, output_tokens: usage.completion_tokens }
    }
}

fn tokens(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(TOKEN_BYTES)).unwrap_or(u64::MAX)
}

/// Tokens of a delta: of all texts in it, whatever they are called. Frames are not counted: they would be most of it.
fn text_tokens(delta: &str) -> u64 {
    let bytes = match serde_json::from_str::<serde_json::Value>(delta) {
        Ok(value) => text_bytes(&value),
        Err(_) => delta.len(),
    };
    tokens(bytes)
}

fn text_bytes(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::String(text) => text.len(),
        serde_json::Value::Array(items) => items.iter().map(text_bytes).sum(),
        // A role and a call's kind are not the model's words.
        serde_json::Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "role" | "type"))
            .map(|(_, value)| text_bytes(value))
            .sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn see(shape: Shape, text: &str, piece: usize) -> Meter {
        let mut meter = Meter::new(shape);
        for bytes in text.as_bytes().chunks(piece) {
            meter.see(&Bytes::copy_from_slice(bytes));
        }
        meter
    }

    const EVENTS: &str = concat!(
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"four words \\\"usage\\\": 7\"}}]}\r\n\r\n",
        ": a comment\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4,\"total_tokens\":13}}\n\n",
        "data: [DONE]\n\n"
    );

    #[test]
    fn the_usage_of_a_stream_is_found_however_it_is_cut() {
        let told = Some(Usage { input_tokens: 9, output_tokens: 4 });
        for piece in [1, 7, 64, 4096] {
            assert_eq!(see(Shape::Events, EVENTS, piece).told(), told, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_stream_without_usage_is_estimated_by_its_texts_alone() {
        let events =
            "data: {\"id\":\"x\",\"choices\":[{\"delta\":{\"content\":\"123456\"}}],\"usage\":null}\n\n";
        let meter = see(Shape::Events, &events.repeat(5), 50);
        assert_eq!((meter.told(), meter.output_tokens()), (None, 10));
        let event = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"123\"}\n";
        assert_eq!(see(Shape::Events, event, 9).output_tokens(), 1);
    }

    #[test]
    fn a_documents_usage_is_read_and_a_cut_document_is_estimated() {
        let document =
            r#"{"choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
        let told = Some(Usage { input_tokens: 3, output_tokens: 1 });
        assert_eq!(see(Shape::Document, document, 10).told(), told);
        let cut = see(Shape::Document, &document[..60], 10);
        assert_eq!((cut.told(), cut.output_tokens()), (None, 20));
        let responses = r#"{"output":[],"usage":{"input_tokens":5,"output_tokens":6}}"#;
        let told = Some(Usage { input_tokens: 5, output_tokens: 6 });
        assert_eq!(see(Shape::Document, responses, 99).told(), told);
        let done = "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":6}}}\n";
        assert_eq!(see(Shape::Events, done, 99).told(), told);
    }
}
