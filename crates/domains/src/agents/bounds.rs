//! What a turn may take, and what it is told when it has taken that.

use std::time::Duration;

use platform::durable::{StepError, unix_ms};

use super::api::Agent;
use crate::{conversations::journal::Run, models::OverBudget};

/// No step goes on for longer than this past its turn's deadline: a model is heard to the deadline only, no tool call
/// begins after it, and one that began before ends by its own bound.
pub(crate) const OVERTIME_MAX: Duration = super::run_tool::STEP_TIMEOUT;

/// Whether the turn may make its `number`-th model call.
pub(super) fn check(run: &Run, agent: &Agent, number: u32) -> Result<(), StepError> {
    if unix_ms() >= run.deadline {
        let message = format!("The turn took longer than its {} s.", agent.limits.wall_clock_s);
        return Err(StepError::failed("deadline_exceeded", message));
    }
    if number >= agent.limits.steps_max {
        let message = format!("The turn needs more than its {} model calls.", agent.limits.steps_max);
        return Err(StepError::failed("steps_exceeded", message));
    }
    Ok(())
}

/// How long the turn may still take.
pub(super) fn time_left(run: &Run) -> Duration {
    Duration::from_millis(u64::try_from(run.deadline.saturating_sub(unix_ms())).unwrap_or(0))
}

pub(super) fn over_budget(over: OverBudget) -> StepError {
    let whose = match over {
        OverBudget::Run => "The turn's own cost limit",
        OverBudget::TenantOrUser => "The tenant's or the user's budget",
    };
    StepError::failed(
        "budget_exceeded",
        format!("{whose} has no room for this call. An administrator can raise it."),
    )
}
