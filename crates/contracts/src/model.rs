//! A chat model, wherever it runs: an OpenAI-compatible server, or llama.cpp in this process.

use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    User,
    Assistant,
    Tool,
}

impl Role {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// A tool call as the model asked for it. `arguments` is the model's own text: it need not be JSON, let alone fit
/// the tool's schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolRequest {
    /// The model's own name for the call; its result is sent back under it.
    pub id: String,
    pub name: String,
    pub arguments: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    pub role: Role,
    pub content: String,
    /// Calls that an assistant message asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolRequest>,
    /// For a message of role `tool`: which call it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl ChatMessage {
    pub fn text(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), tool_calls: Vec::new(), tool_call_id: None }
    }
}

/// What a model is told of a tool. `parameters` is a JSON Schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    pub name: String,
    pub description: String,
    pub parameters: serde_json::Value,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// Another model of the same server; the configured one when absent.
    pub model: Option<String>,
    pub messages: Vec<ChatMessage>,
    pub tools: Vec<ToolSpec>,
    pub output_tokens_max: u32,
    pub temperature: Option<f32>,
    /// The form that the answer is to have, as OpenAI's `response_format`. A model that knows none leaves it aside.
    pub response_format: Option<serde_json::Value>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ChatEvent {
    /// A piece of the answer's text, never empty.
    Delta(String),
    /// A complete tool call; sent after the text.
    Tool(ToolRequest),
    /// Always last. A stream that ends without it was cut off.
    Done { usage: Option<Usage>, cut_at_limit: bool },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// The model's server can't be reached, or is overloaded, or failed; another try may succeed.
    #[error("the model is not available: {0}")]
    Unavailable(String),
    /// The request was refused (a bad key, an unknown model, a context too long); another try gets the same.
    #[error("the model refused the request: {0}")]
    Refused(String),
    /// The answer was no answer: broken JSON, an unknown shape.
    #[error("the model's answer could not be understood: {0}")]
    Garbage(String),
    /// The stream ended, or went silent, before its end.
    #[error("the model's answer broke off: {0}")]
    Interrupted(String),
}

/// What the program needs to know of a model before it calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelProfile {
    pub name: String,
    /// Tokens of input and output together.
    pub context_tokens: u32,
    /// Whether tools may be offered to it.
    pub tools: bool,
}

pub trait ChatModel: Send + Sync + std::fmt::Debug {
    fn profile(&self) -> &ModelProfile;

    /// Tokens in a text: exact where the model's own tokenizer is at hand, an upper estimate elsewhere.
    fn count_tokens(&self, text: &str) -> u32;

    /// Streams an answer. Dropping the stream stops the model.
    fn chat(&self, request: ChatRequest) -> BoxStream<'static, Result<ChatEvent, ModelError>>;

    /// Ends what the model does in this process, before the process ends. It refuses every later call.
    fn shut_down(&self) {}
}
