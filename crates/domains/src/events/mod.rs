//! What is told outside, and what is taken from there: the types of events, their schemas, and the one handler of those
//! that come in.
//!
//! Whoever makes a change tells of it in the same commit, by [`tell`]. Where no bus is named that costs nothing.

mod inbound;
mod schemas;

use contracts::{
    TenantId,
    events::{About, Event, Topic},
};
use platform::{database::Tx, durable::unix_ms, outbox};
use serde_json::Value;

pub use inbound::Inbound;
pub use schemas::check;

use crate::conversations::Run;

pub(crate) const ASSISTANT_FINAL: &str = "assistant.final";
pub(crate) const RUN_DONE: &str = "run.done";
pub(crate) const TOOL_START: &str = "tool.start";
pub(crate) const TOOL_RESULT: &str = "tool.result";
pub(crate) const LLM_CALL: &str = "llm.call";
pub(crate) const BUDGET_THRESHOLD: &str = "budget.threshold";
pub(crate) const AUDIT_ENTRY: &str = "audit.entry";
pub(crate) const USER_MESSAGE: &str = "user.message";

impl From<&Run> for About {
    fn from(run: &Run) -> Self {
        Self { conversation: Some(run.conversation), agent: Some(run.agent), run: Some(run.id) }
    }
}

/// Tells outside of what the change does, if it is committed. `body` is made only where somebody is to be told.
pub(crate) fn tell(
    tx: &Tx,
    topic: Topic,
    kind: &'static str,
    tenant: TenantId,
    about: About,
    body: impl FnOnce() -> Value,
) {
    outbox::put(tx, || Event {
        id: uuid::Uuid::now_v7().to_string(),
        topic,
        kind,
        tenant,
        about,
        at: unix_ms(),
        body: body(),
    });
}
