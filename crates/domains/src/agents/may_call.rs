//! The policy's word on a tool call, and what becomes of it once a person has answered.

use std::time::Duration;

use contracts::{
    Caller, Credential,
    policy::{Decision, Effect as Answer, Request, Resource},
};
use platform::durable::StepError;
use serde_json::json;

use super::store::ToolCall;
use crate::{App, agents, approvals::Approval, conversations::journal::Run, permissions, tenants::settings};

/// How long a call waits for a policy that can't be asked, before each time that it is asked again.
const UNDECIDED_WAITS: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// The policy's word on this call: the agent's list and the rights of whoever sent the message, as they are now.
pub(super) async fn decide(app: &App, run: &Run, call: &ToolCall) -> Result<(Request, Decision), StepError> {
    let agent = agents::get(app.database.read(), run.tenant, run.agent)
        .await?
        .ok_or_else(|| StepError::failed("no_agent", "The agent is gone."))?;
    let rights = permissions::rights_of(app.database.read(), run.tenant, run.user).await?;
    let scopes = run.scopes.clone();
    let caller = Caller {
        tenant: run.tenant,
        user: run.user,
        roles: rights.roles,
        grants: rights.grants,
        scopes,
        expires_at: None,
        credential: Credential::Run(run.id),
        impersonator: run.impersonator,
    };
    let mut ask = agent.tools_ask;
    ask.extend(settings::approval_required_tools(app, run.tenant, agent.id).await?);
    let request = Request::new(&caller, "tool:execute", Resource::new("tool", &call.tool).of_agent(agent.id))
        .with_context(json!({ "agent_tools": agent.tools, "agent_tools_ask": ask }));
    let decision = decide_patiently(app, &request).await;
    metrics::counter!("tool_executor_policy_decisions_total", "effect" => decision.effect.as_str())
        .increment(1);
    Ok((request, decision))
}

/// Asks again for a while where the policy can't be asked: a server of it that starts anew is no reason to tell the
/// model that the call is forbidden.
async fn decide_patiently(app: &App, request: &Request) -> Decision {
    for wait in UNDECIDED_WAITS {
        let decision = app.policy.decide(request).await;
        if !decision.is_undecided() {
            return decision;
        }
        tokio::time::sleep(wait).await;
    }
    app.policy.decide(request).await
}

/// The policy asked, and a person answered. A call that it allows or denies by now needs no person's word.
pub(super) fn decided(decision: Decision, approval: &Approval) -> Decision {
    if decision.effect != Answer::Ask {
        return decision;
    }
    let by = approval.decided_by.map(|user| format!(" by {user}")).unwrap_or_default();
    let effect = if approval.approved().is_some() { Answer::Allow } else { Answer::Deny };
    let reason = format!("{}{by} (approval {})", approval.state.as_str(), approval.id);
    Decision { effect, reason, ..decision }
}
