//! The spans of a turn, by OpenTelemetry's conventions for generative AI: `invoke_agent`, `chat` and `execute_tool`.
//! They carry names and numbers, never what was said.

use contracts::{
    RunId,
    model::{ModelError, Usage},
};
use platform::{
    config::ModelChoice,
    telemetry::{Kind, Span, Value, traces_enabled},
};

use super::store::ToolCall;
use crate::{
    App, agents,
    conversations::journal::{self, Run, RunState},
};

/// A model call that begins.
pub(super) fn chat(app: &App, run: &Run, model: &str) -> Span {
    let mut span = Span::of_run(run.id, Kind::Client, || format!("chat {model}"));
    let provider = match app.config.model.choice {
        ModelChoice::Server(_) => "openai",
        ModelChoice::Embedded => "llama.cpp",
    };
    span.set("gen_ai.operation.name", "chat");
    span.set("gen_ai.provider.name", provider);
    span.set("gen_ai.request.model", model);
    span.set("gen_ai.conversation.id", run.conversation.to_string());
    span
}

/// What the model's answer came to.
pub(super) fn heard(span: &mut Span, usage: Usage, reason: &str) {
    usage_of(span, usage);
    span.set("gen_ai.response.finish_reasons", Value::Texts(vec![reason.to_owned()]));
}

/// Why the model said no more.
pub(super) fn finish_reason(stopped: bool, cut: bool, no_tools: bool) -> &'static str {
    match (stopped, cut, no_tools) {
        (true, ..) => "cancelled",
        (_, true, _) => "length",
        (.., false) => "tool_calls",
        _ => "stop",
    }
}

/// The name under which a failed call is recorded. What its server said stays out of traces.
pub(super) fn code_of(error: &ModelError) -> &'static str {
    match error {
        ModelError::Refused(_) => "model_refused",
        ModelError::Unavailable(_) => "model_unavailable",
        ModelError::Garbage(_) => "model_garbage",
        ModelError::Interrupted(_) => "model_interrupted",
    }
}

fn usage_of(span: &mut Span, usage: Usage) {
    span.set("gen_ai.usage.input_tokens", usage.input_tokens);
    span.set("gen_ai.usage.output_tokens", usage.output_tokens);
}

/// A tool call that begins.
pub(super) fn execute_tool(run: &Run, call: &ToolCall) -> Span {
    let mut span = Span::of_run(run.id, Kind::Internal, || format!("execute_tool {}", call.tool));
    span.set("gen_ai.operation.name", "execute_tool");
    span.set("gen_ai.tool.name", call.tool.as_str());
    span.set("gen_ai.tool.call.id", call.id.to_string());
    span.set("gen_ai.conversation.id", run.conversation.to_string());
    span
}

/// A run that has ended, whichever process did what of it: the parent of its calls' spans.
pub(crate) async fn invoke_agent(app: &App, run: RunId) {
    if !traces_enabled() {
        return;
    }
    let Ok(Some(run)) = journal::find_run(app.database.read(), run).await else { return };
    let Ok(Some(agent)) = agents::get(app.database.read(), run.tenant, run.agent).await else { return };
    let began = run.started_at.unwrap_or(run.created_at);
    let mut span = Span::whole_run(run.id, format!("invoke_agent {}", agent.slug), began);
    span.set("gen_ai.operation.name", "invoke_agent");
    span.set("gen_ai.agent.id", run.agent.to_string());
    span.set("gen_ai.agent.name", agent.slug);
    span.set("gen_ai.conversation.id", run.conversation.to_string());
    usage_of(&mut span, run.usage);
    if run.state == RunState::Failed {
        span.fail(run.code.as_deref().unwrap_or("failed"));
    }
}
