//! OpenAI's wire format: the request's body, and the pieces of a streamed answer.

use contracts::model::{ChatEvent, ChatMessage, ChatRequest, ModelError, ToolRequest, Usage};
use serde::Deserialize;
use serde_json::{Value, json};

/// Tool calls in one answer. More is garbage, and each would cost a step.
const TOOL_CALLS_MAX: usize = 64;
/// Bytes of one answer, text and arguments together.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(super) fn body(model: &str, request: &ChatRequest) -> Value {
    let messages: Vec<Value> = request.messages.iter().map(message).collect();
    let mut body = json!({
        "model": request.model.as_deref().unwrap_or(model),
        "messages": messages,
        "stream": true,
        "stream_options": { "include_usage": true },
        "max_tokens": request.output_tokens_max,
    });
    if let Some(temperature) = request.temperature {
        body["temperature"] = json!(temperature);
    }
    if let Some(format) = &request.response_format {
        body["response_format"] = format.clone();
    }
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            json!({ "type": "function", "function": {
                "name": tool.name, "description": tool.description, "parameters": tool.parameters,
            }})
        });
        body["tools"] = tools.collect();
    }
    body
}

fn message(message: &ChatMessage) -> Value {
    let mut wire = json!({ "role": message.role.as_str(), "content": message.content });
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| {
            json!({ "id": call.id, "type": "function",
                "function": { "name": call.name, "arguments": call.arguments } })
        });
        wire["tool_calls"] = calls.collect();
    }
    if let Some(id) = &message.tool_call_id {
        wire["tool_call_id"] = json!(id);
    }
    wire
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<WireUsage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
    tool_calls: Option<Vec<ToolDelta>>,
}

#[derive(Deserialize)]
struct ToolDelta {
    #[serde(default)]
    index: usize,
    id: Option<String>,
    function: Option<FunctionDelta>,
}

#[derive(Deserialize)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct WireUsage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

/// An answer as it comes in.
#[derive(Default)]
pub(super) struct Answer {
    tools: Vec<ToolRequest>,
    usage: Option<Usage>,
    finish: Option<String>,
    bytes: usize,
}

impl Answer {
    /// Takes one event's data; answers its text, if it has any.
    pub(super) fn read(&mut self, data: &str) -> Result<Option<String>, ModelError> {
        self.bytes = self.bytes.saturating_add(data.len());
        if self.bytes > ANSWER_BYTES_MAX {
            return Err(ModelError::Garbage(format!("more than {ANSWER_BYTES_MAX} bytes")));
        }
        let chunk: Chunk =
            serde_json::from_str(data).map_err(|error| ModelError::Garbage(error.to_string()))?;
        if let Some(error) = chunk.error {
            return Err(ModelError::Interrupted(error.to_string()));
        }
        if let Some(usage) = chunk.usage {
            self.usage =
                Some(Usage { input_tokens: usage.prompt_tokens, output_tokens: usage.completion_tokens });
        }
        // One answer is asked for, so one choice is read.
        let Some(choice) = chunk.choices.into_iter().next() else { return Ok(None) };
        if choice.finish_reason.is_some() {
            self.finish = choice.finish_reason;
        }
        let Some(delta) = choice.delta else { return Ok(None) };
        for tool in delta.tool_calls.unwrap_or_default() {
            self.add(tool)?;
        }
        Ok(delta.content.filter(|text| !text.is_empty()))
    }

    fn add(&mut self, delta: ToolDelta) -> Result<(), ModelError> {
        if delta.index >= TOOL_CALLS_MAX {
            return Err(ModelError::Garbage(format!("more than {TOOL_CALLS_MAX} tool calls")));
        }
        while self.tools.len() <= delta.index {
            let id = format!("call_{}", self.tools.len());
            self.tools.push(ToolRequest { id, name: String::new(), arguments: String::new() });
        }
        let Some(call) = self.tools.get_mut(delta.index) else { return Ok(()) };
        if let Some(id) = delta.id.filter(|id| !id.is_empty()) {
            call.id = id;
        }
        if let Some(function) = delta.function {
            call.name.push_str(&function.name.unwrap_or_default());
            call.arguments.push_str(&function.arguments.unwrap_or_default());
        }
        Ok(())
    }

    /// What follows the last piece of text.
    pub(super) fn end(self) -> Vec<Result<ChatEvent, ModelError>> {
        let Some(finish) = self.finish else {
            return vec![Err(ModelError::Interrupted("the stream ended before the answer did".into()))];
        };
        let mut events: Vec<_> = self.tools.into_iter().map(|call| Ok(ChatEvent::Tool(call))).collect();
        events.push(Ok(ChatEvent::Done { usage: self.usage, cut_at_limit: finish == "length" }));
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_call_is_put_together_from_its_pieces() {
        let mut answer = Answer::default();
        for data in [
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"add","arguments":"{\"x\""}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#,
        ] {
            assert_eq!(answer.read(data), Ok(None));
        }
        let call = ToolRequest { id: "a".into(), name: "add".into(), arguments: "{\"x\":1}".into() };
        let usage = Some(Usage { input_tokens: 7, output_tokens: 3 });
        assert_eq!(
            answer.end(),
            [Ok(ChatEvent::Tool(call)), Ok(ChatEvent::Done { usage, cut_at_limit: false })]
        );
    }

    #[test]
    fn a_stream_that_stops_early_and_garbage_are_told_apart() {
        assert!(matches!(Answer::default().end().as_slice(), [Err(ModelError::Interrupted(_))]));
        assert!(matches!(Answer::default().read("<html>"), Err(ModelError::Garbage(_))));
        assert!(matches!(
            Answer::default().read(r#"{"error":{"message":"x"}}"#),
            Err(ModelError::Interrupted(_))
        ));
        let far = r#"{"choices":[{"delta":{"tool_calls":[{"index":99999999}]}}]}"#;
        assert!(matches!(Answer::default().read(far), Err(ModelError::Garbage(_))));
    }
}
