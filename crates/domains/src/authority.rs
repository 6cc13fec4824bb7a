//! The one way in which a domain asks the policy.
//!
//! A denial is written to the audit here. An allowed change is written by the change itself, in its own commit, from
//! the [`Permit`] that this module hands out; an allowed read goes to the trace.

use contracts::{
    Caller,
    policy::{Decision, Effect, Request, Resource},
};

use crate::{App, audit};

/// The policy said no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Denied {
    pub reason: String,
    pub revision: String,
}

impl From<Denied> for platform::http::Problem {
    fn from(denied: Denied) -> Self {
        Self::denied(&denied.reason, &denied.revision)
    }
}

/// The policy said yes: who may do what to which thing, to be kept with the change.
#[derive(Debug, Clone)]
pub struct Permit {
    pub request: Request,
    pub decision: Decision,
}

impl Permit {
    /// The audit's row for this change; `details` is what changed.
    #[must_use]
    pub fn entry(&self, details: serde_json::Value) -> audit::Entry {
        audit::Entry::new(&self.request, &self.decision, details)
    }
}

/// Whether `caller` may do this: for what a list shows of many things. Nothing was attempted, so a no is not audited.
pub async fn may(app: &App, caller: &Caller, action: &str, resource: Resource) -> bool {
    app.policy.decide(&Request::new(caller, action, resource)).allowed()
}

/// Asks whether `caller` may do `action` to `resource`.
pub async fn require(app: &App, caller: &Caller, action: &str, resource: Resource) -> Result<Permit, Denied> {
    let request = Request::new(caller, action, resource);
    let decision = app.policy.decide(&request);
    // Only a tool call can wait for a person; a request is answered now.
    let decision = match decision.effect {
        Effect::Ask => Decision::deny("approval_unavailable", &decision.revision),
        Effect::Allow | Effect::Deny => decision,
    };
    metrics::counter!("auth_decisions_total", "effect" => decision.effect.as_str()).increment(1);
    if decision.allowed() {
        tracing::debug!(action, reason = %decision.reason, revision = %decision.revision, "allowed");
        return Ok(Permit { request, decision });
    }
    let denied = Denied { reason: decision.reason.clone(), revision: decision.revision.clone() };
    let entry = audit::Entry::new(&request, &decision, serde_json::Value::Null);
    if let Err(error) = audit::write(app, entry).await {
        // The answer is no either way; that the audit has a gap is for the operator to hear.
        tracing::error!(%error, action, "a denial could not be written to the audit");
    }
    Err(denied)
}
