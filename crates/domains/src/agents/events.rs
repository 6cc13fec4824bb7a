//! What is told outside of a turn: its answer, its model calls, its tool calls.

use contracts::{
    ConversationId, TenantId,
    events::{About, Topic},
    model::Usage,
    policy::Decision,
};
use platform::database::Tx;
use serde_json::{Value, json};

use super::store::ToolCall;
use crate::{
    conversations::journal::{NewMessage, Run},
    events, models,
};

/// Tells of one run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    tenant: TenantId,
    about: About,
}

impl Told {
    pub(super) fn of(run: &Run) -> Self {
        Self { tenant: run.tenant, about: About::from(run) }
    }

    /// Where its agent is not known.
    pub(super) fn of_call(call: &ToolCall, conversation: ConversationId) -> Self {
        let about = About { conversation: Some(conversation), agent: None, run: Some(call.run) };
        Self { tenant: call.tenant, about }
    }

    fn tell(self, tx: &Tx, topic: Topic, kind: &'static str, body: impl FnOnce() -> Value) {
        events::tell(tx, topic, kind, self.tenant, self.about, body);
    }

    pub(super) fn answer(self, tx: &Tx, message: &NewMessage, cut: bool) {
        self.tell(tx, Topic::ConversationOutbound, events::ASSISTANT_FINAL, || {
            json!({
                "role": message.role,
                "message": message.content,
                "metadata": { "run_id": message.run, "message_id": message.id, "cut": cut },
            })
        });
    }

    pub(super) fn model_call(self, tx: &Tx, step: u32, model: &str, usage: Usage, cost_micros: u64) {
        self.tell(tx, Topic::LlmMetrics, events::LLM_CALL, || {
            let cost = models::dollars(cost_micros);
            json!({ "run_id": self.about.run, "step": step, "model": model, "usage": usage, "cost": cost })
        });
    }

    pub(super) fn tool_start(self, tx: &Tx, call: &ToolCall, arguments: &str, decision: &Decision) {
        self.tell(tx, Topic::ToolRequests, events::TOOL_START, || {
            json!({
                "call_id": call.id,
                "run_id": call.run,
                "tool": call.tool,
                "arguments": shown(arguments),
                "effect": decision.effect,
                "reason": decision.reason,
                "policy_revision": decision.revision,
            })
        });
    }

    pub(super) fn tool_result(self, tx: &Tx, call: &ToolCall, status: &str, output: &str, duration_ms: i64) {
        self.tell(tx, Topic::ToolResults, events::TOOL_RESULT, || {
            json!({
                "call_id": call.id,
                "run_id": call.run,
                "tool": call.tool,
                "status": status,
                "output": output,
                "duration_ms": duration_ms,
            })
        });
    }
}

/// Arguments as JSON. What is none is shown as the text it is.
pub(super) fn shown(arguments: &str) -> Value {
    serde_json::from_str(arguments).unwrap_or_else(|_| json!(arguments))
}
