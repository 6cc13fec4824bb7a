//! The turn: model and tools in turn until the model answers. One source for every engine.
//!
//! A call that the policy asks a person about makes the turn wait, for days if need be, until it is decided.
//! Policy, budget and bounds are inside the steps, so that a history holds two small records for a model call and a
//! tool call, whatever they carry.

use contracts::ToolCallId;
use platform::durable::{Durable, StepError};
use serde::{Deserialize, Serialize};

use super::{CallModel, Finish, RunTool};
use crate::App;

/// Model calls that any turn may make; an agent's own limit is lower or the same.
const MODEL_CALLS_MAX: u32 = 100;

/// What a model call came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The model answered, and the run has ended with its answer.
    Answered,
    /// These calls are to be made, one by one. There are none where the turn's time ended while the model spoke: its
    /// next call is refused for that.
    Tools(Vec<ToolCallId>),
    /// The run was cancelled while the model spoke.
    Stopped,
}

/// Answers one message. The run is in a final state when this returns `Ok`.
pub async fn turn<C: Durable<Worker = App>>(context: &C) -> Result<(), StepError> {
    match converse(context).await {
        Ok(()) => Ok(()),
        Err(error) => {
            let finish = Finish { code: error.code().to_owned(), message: error.to_string() };
            context.shielded().step(finish).await
        }
    }
}

async fn converse<C: Durable<Worker = App>>(context: &C) -> Result<(), StepError> {
    for number in 0..=MODEL_CALLS_MAX {
        match context.step(CallModel { number }).await? {
            Reply::Answered => return Ok(()),
            Reply::Stopped => return Err(StepError::Cancelled),
            Reply::Tools(calls) => {
                for call in calls {
                    let asked = context.step(RunTool { call, approval: None }).await?;
                    if let Some(approval) = asked {
                        context.wait_signal(&approval.to_string()).await?;
                        context.step(RunTool { call, approval: Some(approval) }).await?;
                    }
                }
            }
        }
    }
    Err(StepError::failed("steps_exceeded", "The turn made too many model calls."))
}
