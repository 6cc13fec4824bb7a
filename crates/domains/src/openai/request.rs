//! A chat completion's request, as far as it is read where it doesn't pass through: for an agent, or for the embedded
//! model. What can't be honoured is refused by its name; what only tunes an answer (`seed`, `top_p`) is left aside.

use axum::http::StatusCode;
use contracts::model::{ChatMessage, Role, ToolRequest, ToolSpec};
use serde::Deserialize;
use serde_json::Value;

use super::error::Error;

/// Messages of a request.
const MESSAGES_MAX: usize = 2000;
/// Functions that a client may offer.
const FUNCTIONS_MAX: usize = 128;
/// Characters of a function's name, by OpenAI's rule.
const NAME_CHARS_MAX: usize = 64;

#[derive(Debug, Deserialize)]
pub(super) struct ChatRequest {
    pub model: String,
    messages: Vec<WireMessage>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    store: Option<bool>,
    #[serde(default)]
    tools: Option<Vec<WireTool>>,
    #[serde(default)]
    tool_choice: Option<Value>,
    #[serde(default)]
    parallel_tool_calls: Option<bool>,
    #[serde(default)]
    response_format: Option<Value>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    max_completion_tokens: Option<u32>,
    #[serde(default)]
    temperature: Option<f32>,
    #[serde(default)]
    n: Option<u64>,
    #[serde(default)]
    stop: Option<Value>,
    #[serde(default)]
    logprobs: Option<bool>,
    #[serde(default)]
    audio: Option<Value>,
    #[serde(default)]
    functions: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct WireMessage {
    role: String,
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    tool_calls: Option<Vec<WireCall>>,
    #[serde(default)]
    tool_call_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
pub(super) struct Part {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
}

#[derive(Debug, Deserialize)]
struct WireCall {
    id: String,
    function: WireFunctionCall,
}

#[derive(Debug, Deserialize)]
struct WireFunctionCall {
    name: String,
    arguments: String,
}

#[derive(Debug, Deserialize)]
struct WireTool {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    function: Option<WireFunction>,
}

#[derive(Debug, Deserialize)]
struct WireFunction {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    parameters: Option<Value>,
}

/// How the client wants its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delivery {
    pub stream: bool,
    pub include_usage: bool,
}

/// A request, checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chat {
    pub model: String,
    /// Texts of system and developer messages, in their order.
    pub instructions: String,
    /// What was said, without those.
    pub said: Vec<ChatMessage>,
    pub functions: Vec<ToolSpec>,
    /// At most one call in an answer.
    pub one_call: bool,
    pub response_format: Option<Value>,
    pub output_tokens_max: Option<u32>,
    pub temperature: Option<f32>,
    pub store: bool,
    pub delivery: Delivery,
}

/// A body, or which of its fields is wrong.
pub(super) fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field = error.path().to_string();
        let message = format!("{field}: {}.", error.into_inner());
        Error::new(StatusCode::BAD_REQUEST, "invalid_value", message).about(&field)
    })
}

pub(super) fn unsupported(param: &str, message: impl Into<String>) -> Error {
    Error::invalid(param, "unsupported_parameter", message)
}

impl ChatRequest {
    pub(super) fn read(body: &[u8]) -> Result<Self, Error> {
        read(body)
    }

    pub(super) fn check(self) -> Result<Chat, Error> {
        if self.n.is_some_and(|n| n != 1) {
            return Err(unsupported("n", "One answer is given: leave `n` out, or send 1."));
        }
        let absent = |value: &Option<Value>| value.as_ref().is_none_or(Value::is_null);
        for (name, is_absent) in [
            ("stop", absent(&self.stop)),
            ("audio", absent(&self.audio)),
            ("functions", absent(&self.functions)),
            ("logprobs", self.logprobs != Some(true)),
        ] {
            if !is_absent {
                return Err(unsupported(name, format!("`{name}` is not supported here: leave it out.")));
            }
        }
        if self.messages.is_empty() || self.messages.len() > MESSAGES_MAX {
            let message = format!("Send 1 to {MESSAGES_MAX} messages.");
            return Err(Error::invalid("messages", "invalid_value", message));
        }
        let offered = offered(self.tool_choice.as_ref())?;
        let functions = functions(self.tools.unwrap_or_default())?;
        let (instructions, said) = split(self.messages)?;
        let options = self.stream_options.unwrap_or_default();
        Ok(Chat {
            model: self.model,
            instructions,
            said,
            functions: if offered { functions } else { Vec::new() },
            one_call: self.parallel_tool_calls == Some(false),
            response_format: response_format(self.response_format)?,
            output_tokens_max: self.max_completion_tokens.or(self.max_tokens),
            temperature: self.temperature,
            store: self.store == Some(true),
            delivery: Delivery {
                stream: self.stream == Some(true),
                include_usage: options.include_usage == Some(true),
            },
        })
    }
}

/// Whether the client's functions are offered. A model can't be made to call one.
pub(super) fn offered(choice: Option<&Value>) -> Result<bool, Error> {
    match choice {
        None | Some(Value::Null) => Ok(true),
        Some(Value::String(choice)) if choice == "auto" => Ok(true),
        Some(Value::String(choice)) if choice == "none" => Ok(false),
        Some(_) => Err(unsupported("tool_choice", "`tool_choice` is `auto` or `none` here.")),
    }
}

fn functions(tools: Vec<WireTool>) -> Result<Vec<ToolSpec>, Error> {
    if tools.len() > FUNCTIONS_MAX {
        return Err(Error::invalid(
            "tools",
            "invalid_value",
            format!("Offer at most {FUNCTIONS_MAX} tools."),
        ));
    }
    let mut specs: Vec<ToolSpec> = Vec::with_capacity(tools.len());
    for tool in tools {
        let Some(function) = tool.function.filter(|_| tool.kind == "function") else {
            return Err(unsupported("tools", "Only tools of type `function` can be offered."));
        };
        let spec = function_spec(function.name, function.description, function.parameters)?;
        if specs.iter().any(|other| other.name == spec.name) {
            let message = format!("The function `{}` is offered twice.", spec.name);
            return Err(Error::invalid("tools", "invalid_value", message));
        }
        specs.push(spec);
    }
    Ok(specs)
}

pub(super) fn function_spec(
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
) -> Result<ToolSpec, Error> {
    let good = (1..=NAME_CHARS_MAX).contains(&name.len())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-');
    if !good {
        let message = "A function's name is 1 to 64 letters, digits, `_` and `-`.";
        return Err(Error::invalid("tools", "invalid_value", message));
    }
    Ok(ToolSpec {
        name,
        description: description.unwrap_or_default(),
        parameters: parameters
            .filter(|schema| !schema.is_null())
            .unwrap_or_else(|| serde_json::json!({ "type": "object", "properties": {} })),
    })
}

/// `{type: text}` asks for nothing; a schema must be one.
pub(super) fn response_format(format: Option<Value>) -> Result<Option<Value>, Error> {
    let Some(format) = format.filter(|format| !format.is_null()) else { return Ok(None) };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(format)),
        Some("json_schema") => {
            let schema = format.get("json_schema").and_then(|named| named.get("schema"));
            let checked = schema.map(jsonschema::validator_for);
            match checked {
                Some(Ok(_)) => Ok(Some(format)),
                Some(Err(error)) => {
                    let message = format!("`response_format.json_schema.schema` is no JSON Schema: {error}.");
                    Err(Error::invalid("response_format", "invalid_value", message))
                }
                None => {
                    let message = "`response_format.json_schema.schema` is missing.";
                    Err(Error::invalid("response_format", "invalid_value", message))
                }
            }
        }
        _ => {
            let message = "`response_format.type` is `text`, `json_object` or `json_schema`.";
            Err(Error::invalid("response_format", "invalid_value", message))
        }
    }
}

fn split(messages: Vec<WireMessage>) -> Result<(String, Vec<ChatMessage>), Error> {
    let (mut instructions, mut said): (Vec<String>, Vec<ChatMessage>) = (Vec::new(), Vec::new());
    for (index, message) in messages.into_iter().enumerate() {
        let param = format!("messages[{index}]");
        let content = message.content.map(|content| text(content, &param)).transpose()?.unwrap_or_default();
        let role = match message.role.as_str() {
            "system" | "developer" => {
                instructions.push(content);
                continue;
            }
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            other => {
                let other: String = other.chars().take(40).collect();
                let text = format!("`{other}` is no role: system, developer, user, assistant, tool.");
                return Err(Error::invalid(&param, "invalid_value", text));
            }
        };
        let calls = message.tool_calls.unwrap_or_default().into_iter().map(|call| ToolRequest {
            id: call.id,
            name: call.function.name,
            arguments: call.function.arguments,
        });
        said.push(ChatMessage {
            role,
            content,
            tool_calls: calls.collect(),
            tool_call_id: message.tool_call_id,
        });
    }
    check_results(&said)?;
    Ok((instructions.join("\n\n"), said))
}

/// Each result answers a call before it: a model's server would refuse it otherwise, after it has been paid for.
pub(super) fn check_results(said: &[ChatMessage]) -> Result<(), Error> {
    let mut open: Vec<&str> = Vec::new();
    for message in said {
        open.extend(message.tool_calls.iter().map(|call| call.id.as_str()));
        if message.role == Role::Tool {
            let id = message.tool_call_id.as_deref().unwrap_or_default();
            let Some(at) = open.iter().position(|call| *call == id) else {
                let text = "A message of role `tool` needs the `tool_call_id` of a call before it.";
                return Err(Error::invalid("messages", "invalid_value", text));
            };
            open.remove(at);
        }
    }
    Ok(())
}

pub(super) fn text(content: Content, param: &str) -> Result<String, Error> {
    let parts = match content {
        Content::Text(text) => return Ok(text),
        Content::Parts(parts) => parts,
    };
    let mut whole = String::new();
    for part in parts {
        match (part.kind.as_str(), part.text.or(part.refusal)) {
            ("text" | "refusal" | "input_text" | "output_text", Some(text)) => whole.push_str(&text),
            _ => return Err(unsupported(param, "Only text can be sent here, not images, sound or files.")),
        }
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(body: Value) -> Result<Chat, Error> {
        ChatRequest::read(body.to_string().as_bytes())?.check()
    }

    #[test]
    fn system_messages_are_instructions_and_the_rest_is_what_was_said() {
        let chat = check(json!({ "model": "agent/a", "stream": true, "stream_options": { "include_usage": true },
            "messages": [
                { "role": "system", "content": "Be brief." },
                { "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] },
                { "role": "developer", "content": "Be kind." },
                { "role": "assistant", "content": null,
                  "tool_calls": [{ "id": "1", "type": "function", "function": { "name": "f", "arguments": "{}" } }] },
                { "role": "tool", "tool_call_id": "1", "content": "r" },
            ] }))
        .unwrap();
        assert_eq!(chat.instructions, "Be brief.\n\nBe kind.");
        let said: Vec<(&str, &str)> =
            chat.said.iter().map(|message| (message.role.as_str(), message.content.as_str())).collect();
        assert_eq!(said, [("user", "ab"), ("assistant", ""), ("tool", "r")]);
        assert_eq!(chat.delivery, Delivery { stream: true, include_usage: true });
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_its_name() {
        let user = json!([{ "role": "user", "content": "x" }]);
        for (name, value) in [
            ("n", json!(2)),
            ("stop", json!("x")),
            ("logprobs", json!(true)),
            ("tool_choice", json!("required")),
            ("tools", json!([{ "type": "web_search" }])),
            ("response_format", json!({ "type": "json_schema", "json_schema": { "schema": { "type": 7 } } })),
            ("messages", json!([])),
            ("messages", json!([{ "role": "tool", "content": "x", "tool_call_id": "nobody" }])),
            (
                "messages[0]",
                json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": {} }] }]),
            ),
        ] {
            let mut body = json!({ "model": "agent/a", "messages": user });
            let key = name.split('[').next().unwrap();
            body[key] = value;
            let error = check(body).unwrap_err();
            assert_eq!(error.param(), Some(name), "{error:?}");
        }
    }
}
