//! What a run did, step by step: the ledger's rows with what each model call took and each tool call came to.

use std::collections::{HashMap, VecDeque};

use contracts::{Caller, RunId};
use platform::http::{Page, Timestamp};
use serde::Deserialize;

use super::{Error, runs};
use crate::{
    App, agents,
    conversations::{
        api::{StepDecision, StepInfo},
        store,
    },
};

/// The payload of `policy.decision`, as far as it is shown here.
#[derive(Deserialize)]
struct Decided {
    call_id: String,
    #[serde(flatten)]
    decision: StepDecision,
}

pub(in super::super) async fn list(app: &App, caller: &Caller, id: RunId) -> Result<Page<StepInfo>, Error> {
    runs::allowed(app, caller, "conversation:read", id).await?;
    let steps = app.ledger.steps(id).await?;
    let connection = app.database.read();
    let mut calls = agents::calls_of_steps(connection, id, &steps).await?;
    let usage = store::step_usage::of_run(connection, id).await?;
    // The decisions about one call come in the order of its steps: asked first, then allowed or not.
    let mut decisions: HashMap<String, VecDeque<StepDecision>> = HashMap::new();
    for payload in store::events::of_kind(connection, id, "policy.decision").await? {
        if let Ok(decided) = serde_json::from_str::<Decided>(&payload) {
            decisions.entry(decided.call_id).or_default().push_back(decided.decision);
        }
    }
    let items = steps
        .into_iter()
        .map(|step| {
            let call = calls.remove(&step.ordinal);
            let took = usage.get(&step.ordinal);
            let call_id = call.as_ref().map(|call| call.id);
            let decision =
                call_id.and_then(|call| decisions.get_mut(&call.to_string()).and_then(VecDeque::pop_front));
            let (tool, status, duration_ms) =
                call.map_or((None, None, None), |call| (Some(call.tool), call.status, call.duration_ms));
            StepInfo {
                ordinal: step.ordinal,
                name: step.name,
                effect: step.effect,
                state: step.state,
                attempt: step.attempt,
                started_at: Timestamp(step.started_at),
                ended_at: step.finished_at.map(Timestamp),
                input_tokens: took.map(|took| took.usage.input_tokens),
                output_tokens: took.map(|took| took.usage.output_tokens),
                cost_micros: took.map(|took| took.cost_micros),
                call_id,
                tool,
                status,
                duration_ms,
                decision,
            }
        })
        .collect();
    Ok(Page { items, next_cursor: None })
}
