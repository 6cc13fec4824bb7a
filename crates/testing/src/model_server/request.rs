//! A chat completion request as the scripted model reads it, with what a script wants to know of it.

use std::{collections::HashSet, sync::Arc};

use contracts::model::{ChatMessage, Role, ToolRequest, ToolSpec};
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Clone)]
pub struct ParsedRequest {
    pub model: String,
    pub messages: Vec<ChatMessage>,
    /// The tools offered to the model.
    pub tools: Vec<ToolSpec>,
    pub stream: bool,
    pub include_usage: bool,
    /// `max_completion_tokens`, or else the older `max_tokens`.
    pub output_tokens_max: Option<u32>,
    pub temperature: Option<f32>,
    /// The API key it came with.
    pub key: Option<String>,
    /// The body as it was sent.
    pub raw: Arc<[u8]>,
}

impl ParsedRequest {
    /// Reads a request and refuses what OpenAI's server refuses too: no messages, or tool results that don't answer
    /// the calls right before them. The error is the text for a 400.
    pub fn parse(body: &[u8], key: Option<String>) -> Result<Self, String> {
        let wire: WireRequest = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let messages = wire.messages.into_iter().map(WireMessage::read).collect::<Result<Vec<_>, _>>()?;
        check_order(&messages)?;
        Ok(Self {
            model: wire.model,
            messages,
            tools: wire.tools.into_iter().map(|tool| tool.function).map(WireFunction::read).collect(),
            stream: wire.stream,
            include_usage: wire.stream_options.is_some_and(|options| options.include_usage),
            output_tokens_max: wire.max_completion_tokens.or(wire.max_tokens),
            temperature: wire.temperature,
            key,
            raw: body.into(),
        })
    }

    /// Text of the last message of role `user`; empty when there is none.
    #[must_use]
    pub fn last_user_text(&self) -> &str {
        self.messages
            .iter()
            .rfind(|message| message.role == Role::User)
            .map_or("", |message| &message.content)
    }

    /// Content of the last tool result in the conversation.
    #[must_use]
    pub fn last_tool_result(&self) -> Option<&str> {
        self.messages
            .iter()
            .rfind(|message| message.role == Role::Tool)
            .map(|message| message.content.as_str())
    }

    /// How many tool results came after the last user message: how far this turn has got.
    #[must_use]
    pub fn tool_results_since_user(&self) -> usize {
        self.messages
            .iter()
            .rev()
            .take_while(|message| message.role != Role::User)
            .filter(|message| message.role == Role::Tool)
            .count()
    }

    #[must_use]
    pub fn offers_tool(&self, name: &str) -> bool {
        self.tools.iter().any(|tool| tool.name == name)
    }

    /// Text of all system messages, joined by line ends.
    #[must_use]
    pub fn system_text(&self) -> String {
        let texts: Vec<&str> = self
            .messages
            .iter()
            .filter(|message| message.role == Role::System)
            .map(|message| message.content.as_str())
            .collect();
        texts.join("\n")
    }

    /// Whether any message's content has this text.
    #[must_use]
    pub fn mentions(&self, text: &str) -> bool {
        self.messages.iter().any(|message| message.content.contains(text))
    }

    /// Characters (not bytes) of all messages' contents and tool call arguments.
    #[must_use]
    pub fn total_characters(&self) -> usize {
        let of_calls = |message: &ChatMessage| -> usize {
            message.tool_calls.iter().map(|call| call.arguments.chars().count()).sum()
        };
        self.messages.iter().map(|message| message.content.chars().count() + of_calls(message)).sum()
    }
}

fn check_order(messages: &[ChatMessage]) -> Result<(), String> {
    if messages.is_empty() {
        return Err("'messages' must not be empty".to_owned());
    }
    let mut open: HashSet<&str> = HashSet::new();
    for (index, message) in messages.iter().enumerate() {
        if message.role == Role::Tool {
            let id = message
                .tool_call_id
                .as_deref()
                .ok_or_else(|| format!("messages[{index}]: a tool message needs a 'tool_call_id'"))?;
            if !open.remove(id) {
                return Err(format!(
                    "messages[{index}]: '{id}' answers no tool call of the assistant message before it"
                ));
            }
            continue;
        }
        if !open.is_empty() {
            return Err(format!("messages[{index}]: tool calls before it have no result: {open:?}"));
        }
        open = message.tool_calls.iter().map(|call| call.id.as_str()).collect();
    }
    if open.is_empty() { Ok(()) } else { Err(format!("the last tool calls have no result: {open:?}")) }
}

#[derive(Deserialize)]
struct WireRequest {
    model: String,
    messages: Vec<WireMessage>,
    #[serde(default)]
    tools: Vec<WireTool>,
    #[serde(default)]
    stream: bool,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    temperature: Option<f32>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Deserialize)]
struct WireMessage {
    role: String,
    content: Option<Content>,
    #[serde(default)]
    tool_calls: Vec<WireCall>,
    tool_call_id: Option<String>,
}

impl WireMessage {
    fn read(self) -> Result<ChatMessage, String> {
        let role = match self.role.as_str() {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            other => return Err(format!("unknown role '{other}'")),
        };
        Ok(ChatMessage {
            role,
            content: self.content.map(Content::text).unwrap_or_default(),
            tool_calls: self
                .tool_calls
                .into_iter()
                .map(|call| ToolRequest {
                    id: call.id,
                    name: call.function.name,
                    arguments: call.function.arguments,
                })
                .collect(),
            tool_call_id: self.tool_call_id,
        })
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    text: String,
}

impl Content {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Parts(parts) => parts.into_iter().map(|part| part.text).collect(),
        }
    }
}

#[derive(Deserialize)]
struct WireCall {
    id: String,
    function: WireCallFunction,
}

#[derive(Deserialize)]
struct WireCallFunction {
    name: String,
    arguments: String,
}

#[derive(Deserialize)]
struct WireTool {
    function: WireFunction,
}

#[derive(Deserialize)]
struct WireFunction {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    parameters: Value,
}

impl WireFunction {
    fn read(self) -> ToolSpec {
        ToolSpec { name: self.name, description: self.description, parameters: self.parameters }
    }
}
