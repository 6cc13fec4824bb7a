//! The Responses protocol for agents: what is asked, and the object that answers.
//!
//! A response's id is its run's. One that is stored can be read again, stopped, and followed by another.

use std::sync::Arc;

use axum::http::StatusCode;
use contracts::{
    Caller, RunId,
    model::{ChatMessage, Role, ToolRequest, Usage},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    error::Error,
    hearing::{Hearing, Piece},
    request::{self, Chat, Delivery, unsupported},
};
use crate::{
    App,
    conversations::{self, Run, RunState},
};

const ID: &str = "resp_";

#[derive(Debug, Deserialize)]
pub(super) struct ResponsesRequest {
    pub model: String,
    input: Input,
    #[serde(default)]
    instructions: Option<String>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    store: Option<bool>,
    #[serde(default)]
    background: Option<bool>,
    #[serde(default)]
    previous_response_id: Option<String>,
    #[serde(default)]
    tools: Option<Vec<WireTool>>,
    #[serde(default)]
    tool_choice: Option<Value>,
    #[serde(default)]
    parallel_tool_calls: Option<bool>,
    #[serde(default)]
    text: Option<TextOptions>,
    #[serde(default)]
    max_output_tokens: Option<u32>,
    #[serde(default)]
    temperature: Option<f32>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Items(Vec<Item>),
}

#[derive(Debug, Deserialize)]
struct Item {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    role: Option<String>,
    #[serde(default)]
    content: Option<request::Content>,
    #[serde(default)]
    call_id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
    #[serde(default)]
    output: Option<String>,
}

#[derive(Debug, Deserialize)]
struct WireTool {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    parameters: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct TextOptions {
    #[serde(default)]
    format: Option<Value>,
}

/// A request, checked.
#[derive(Debug)]
pub(super) struct Wanted {
    pub chat: Chat,
    pub background: bool,
    pub after: Option<RunId>,
}

impl ResponsesRequest {
    pub(super) fn read(body: &[u8]) -> Result<Self, Error> {
        request::read(body)
    }

    pub(super) fn check(self) -> Result<Wanted, Error> {
        let offered = request::offered(self.tool_choice.as_ref())?;
        let mut functions = Vec::new();
        for tool in self.tools.unwrap_or_default() {
            let Some(name) = tool.name.filter(|_| tool.kind == "function") else {
                return Err(unsupported("tools", "Only tools of type `function` can be offered."));
            };
            functions.push(request::function_spec(name, tool.description, tool.parameters)?);
        }
        let (mut instructions, said) = match self.input {
            Input::Text(text) => (Vec::new(), vec![ChatMessage::text(Role::User, text)]),
            Input::Items(items) => split(items)?,
        };
        instructions.extend(self.instructions);
        let store = self.store == Some(true);
        let background = self.background == Some(true);
        if background && !store {
            let message = "A response in the background has to be stored: send `store: true` as well.";
            return Err(Error::invalid("background", "invalid_value", message));
        }
        let after = self.previous_response_id.as_deref().map(run_of).transpose()?;
        if after.is_some() && !store {
            let message = "What follows a stored response is stored too: send `store: true` as well.";
            return Err(Error::invalid("previous_response_id", "invalid_value", message));
        }
        let format = self.text.and_then(|text| text.format).map(as_chat_format);
        let chat = Chat {
            model: self.model,
            instructions: instructions.join("\n\n"),
            said,
            functions: if offered { functions } else { Vec::new() },
            one_call: self.parallel_tool_calls == Some(false),
            response_format: request::response_format(format)?,
            output_tokens_max: self.max_output_tokens,
            temperature: self.temperature,
            store,
            delivery: Delivery { stream: self.stream == Some(true), include_usage: true },
        };
        Ok(Wanted { chat, background, after })
    }
}

/// Chat completions nest what responses have flat.
fn as_chat_format(mut format: Value) -> Value {
    if format.get("type").and_then(Value::as_str) != Some("json_schema") {
        return format;
    }
    if let Some(fields) = format.as_object_mut() {
        fields.remove("type");
    }
    json!({ "type": "json_schema", "json_schema": format })
}

fn split(items: Vec<Item>) -> Result<(Vec<String>, Vec<ChatMessage>), Error> {
    let (mut instructions, mut said): (Vec<String>, Vec<ChatMessage>) = (Vec::new(), Vec::new());
    for (index, item) in items.into_iter().enumerate() {
        let param = format!("input[{index}]");
        let missing = || Error::invalid(&param, "invalid_value", "A field of this item is missing.");
        match item.kind.as_deref().unwrap_or("message") {
            "message" => {
                let content = item.content.map(|content| request::text(content, &param)).transpose()?;
                let content = content.ok_or_else(missing)?;
                match item.role.as_deref() {
                    Some("system" | "developer") => instructions.push(content),
                    Some("user") => said.push(ChatMessage::text(Role::User, content)),
                    Some("assistant") => said.push(ChatMessage::text(Role::Assistant, content)),
                    _ => return Err(missing()),
                }
            }
            "function_call" => {
                let call = ToolRequest {
                    id: item.call_id.ok_or_else(missing)?,
                    name: item.name.ok_or_else(missing)?,
                    arguments: item.arguments.ok_or_else(missing)?,
                };
                match said.last_mut() {
                    Some(last) if last.role == Role::Assistant => last.tool_calls.push(call),
                    _ => {
                        let mut message = ChatMessage::text(Role::Assistant, "");
                        message.tool_calls.push(call);
                        said.push(message);
                    }
                }
            }
            "function_call_output" => {
                let mut message = ChatMessage::text(Role::Tool, item.output.ok_or_else(missing)?);
                message.tool_call_id = Some(item.call_id.ok_or_else(missing)?);
                said.push(message);
            }
            "reasoning" => {}
            _ => return Err(unsupported(&param, "Items are messages, function calls and their outputs.")),
        }
    }
    request::check_results(&said)?;
    Ok((instructions, said))
}

fn no_response() -> Error {
    let message = "There is no response under this id, or none that was stored.";
    Error::new(StatusCode::NOT_FOUND, "not_found", message)
}

/// The run behind a response's id.
pub(super) fn run_of(id: &str) -> Result<RunId, Error> {
    id.strip_prefix(ID).and_then(|run| run.parse().ok()).ok_or_else(no_response)
}

/// The same for a path: the policy is asked about what can't be one as well.
fn asked_for(id: &str) -> RunId {
    run_of(id).unwrap_or_else(|_| RunId::new())
}

fn hidden(error: conversations::Error) -> Error {
    if matches!(error, conversations::Error::NotFound) { no_response() } else { error.into() }
}

/// A response as an object, more of it from moment to moment.
#[derive(Debug, Clone)]
pub(super) struct Response {
    pub run: RunId,
    /// Seconds since 1970.
    pub created: i64,
    pub model: String,
    pub status: &'static str,
    pub background: bool,
    pub store: bool,
    pub previous: Option<RunId>,
    pub text: String,
    pub calls: Vec<ToolRequest>,
    pub usage: Option<Usage>,
    pub error: Option<Value>,
    pub cut: bool,
}

impl Response {
    pub(super) fn id(&self) -> String {
        format!("{ID}{}", self.run)
    }

    pub(super) fn message_id(&self) -> String {
        format!("msg_{}", self.run)
    }

    pub(super) fn message(&self, status: &str) -> Value {
        let content = if status == "in_progress" {
            Vec::new()
        } else {
            vec![json!({ "type": "output_text", "text": self.text, "annotations": [] })]
        };
        json!({ "id": self.message_id(), "type": "message", "role": "assistant", "status": status, "content": content })
    }

    pub(super) fn call(call: &ToolRequest, status: &str) -> Value {
        let arguments = if status == "in_progress" { "" } else { &call.arguments };
        json!({
            "id": format!("fc_{}", call.id), "type": "function_call", "status": status, "call_id": call.id,
            "name": call.name, "arguments": arguments,
        })
    }

    pub(super) fn object(&self) -> Value {
        let mut output = Vec::new();
        if !self.text.is_empty() {
            output.push(self.message("completed"));
        }
        output.extend(self.calls.iter().map(|call| Self::call(call, "completed")));
        let usage = self.usage.map(|usage| {
            json!({
                "input_tokens": usage.input_tokens, "input_tokens_details": { "cached_tokens": 0 },
                "output_tokens": usage.output_tokens, "output_tokens_details": { "reasoning_tokens": 0 },
                "total_tokens": usage.input_tokens.saturating_add(usage.output_tokens),
            })
        });
        let incomplete = self.cut.then(|| json!({ "reason": "max_output_tokens" }));
        json!({
            "id": self.id(), "object": "response", "created_at": self.created, "status": self.status,
            "background": self.background, "error": self.error, "incomplete_details": incomplete,
            "instructions": null, "max_output_tokens": null, "metadata": {}, "model": self.model, "output": output,
            "parallel_tool_calls": true, "previous_response_id": self.previous.map(|run| format!("{ID}{run}")),
            "store": self.store, "temperature": null, "text": { "format": { "type": "text" } },
            "tool_choice": "auto", "tools": [], "top_p": null, "truncation": "disabled", "usage": usage,
        })
    }

    /// Takes a piece of the answer.
    pub(super) fn take(&mut self, piece: &Piece, hearing: &Hearing) {
        match piece {
            Piece::Text(text) => self.text.push_str(text),
            Piece::Calls(calls) => self.calls.extend(calls.iter().cloned()),
            Piece::Event(_) => {}
            Piece::End(usage) => {
                self.usage = Some(*usage);
                self.cut = hearing.cut;
                self.status = if hearing.cut { "incomplete" } else { "completed" };
            }
        }
    }

    pub(super) fn fail(&mut self, error: &Error) {
        self.status = if error.code() == "cancelled" { "cancelled" } else { "failed" };
        if self.status == "failed" {
            self.error = Some(json!({ "code": error.code(), "message": error.message() }));
        }
    }
}

/// A stored response as it is now.
async fn of_run(app: &Arc<App>, run: Run, model: String) -> Result<Response, Error> {
    let mut response = Response {
        run: run.id,
        created: run.created_at / 1000,
        model,
        status: match run.state {
            RunState::Queued => "queued",
            _ => "in_progress",
        },
        background: true,
        store: true,
        previous: run.parent,
        text: String::new(),
        calls: Vec::new(),
        usage: None,
        error: None,
        cut: false,
    };
    let mut hearing = Hearing::new(false);
    for event in conversations::events_of(app, run.id).await? {
        match hearing.hear(&event.kind, &event.payload) {
            Ok(pieces) => pieces.iter().for_each(|piece| response.take(piece, &hearing)),
            Err(error) => response.fail(&error),
        }
    }
    Ok(response)
}

pub(super) async fn get(app: &Arc<App>, caller: &Caller, id: &str) -> Result<Response, Error> {
    let run = conversations::kept_run(app, caller, asked_for(id)).await.map_err(hidden)?;
    let model = super::agent::name_of(app, caller, run.agent).await?;
    of_run(app, run, model).await
}

pub(super) async fn cancel(app: &Arc<App>, caller: &Caller, id: &str) -> Result<Response, Error> {
    let run = conversations::cancel_run(app, caller, asked_for(id)).await.map_err(hidden)?;
    let cancelled = matches!(run.state, RunState::Cancelling | RunState::Cancelled);
    let model = super::agent::name_of(app, caller, run.agent).await?;
    let mut response = of_run(app, run, model).await?;
    if cancelled {
        response.status = "cancelled";
    }
    Ok(response)
}
