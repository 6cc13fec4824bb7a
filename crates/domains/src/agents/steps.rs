//! Which tool call a step of the ledger was about, for those who look into a run.

use std::collections::HashMap;

use contracts::RunId;
use platform::{
    database::{Error, Sql},
    durable::{self, Step, StepRecord},
};

use super::{
    RunTool,
    store::{self, CallRecord},
};

/// The tool calls of a run by the ordinal of the steps that made them. A call that a person was asked about has two.
pub(crate) async fn calls_of_steps(
    connection: &impl Sql,
    run: RunId,
    steps: &[StepRecord],
) -> Result<HashMap<u32, CallRecord>, Error> {
    let mut by_input = HashMap::new();
    for call in store::ended_calls(connection, run).await? {
        // A step's input is a few ids, which are always written as JSON.
        if let Ok(hash) = durable::input_hash(&RunTool { call: call.id, approval: None }) {
            by_input.insert(hash, call);
        }
    }
    let mut found = HashMap::new();
    let mut asked: Option<CallRecord> = None;
    for step in steps.iter().filter(|step| step.name == RunTool::NAME) {
        // The step after a question has the approval in its input; it follows the one that asked.
        let call = by_input.get(&step.input_hash).cloned().or_else(|| asked.take());
        if let Some(call) = call {
            asked = Some(call.clone());
            found.insert(step.ordinal, call);
        }
    }
    Ok(found)
}
