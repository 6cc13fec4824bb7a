//! The one way in which a domain asks the policy, and the order of everything that is checked before.
//!
//! A denial is written to the audit here. An allowed change is written by the change itself, in its own commit, from
//! the [`Permit`] that this module hands out; an allowed read goes to the trace.

use contracts::{
    Caller,
    policy::{Decision, Effect, Request, Resource},
};
use platform::{database::Error as StoreError, http::Problem, policy::Scope};

use crate::{App, audit, tenants::Status};

/// What the client of a tenant that is not active is told.
const TENANT_CLOSED: &str = "tenant_suspended";

/// The policy said no, or the caller's tenant is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Denied {
    pub code: &'static str,
    pub reason: String,
    pub revision: String,
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        Self { code: denied.code.to_owned(), ..Self::denied(&denied.reason, &denied.revision) }
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

/// Why a request goes no further.
#[derive(Debug, PartialEq)]
enum Refusal {
    Unauthenticated,
    TenantClosed(Status),
    Denied(Decision),
}

/// The order of checks. Each refuses before the next is asked:
///
/// 1. Somebody calls (401).
/// 2. A role of the platform passes the next one.
/// 3. Their tenant is active (403 `tenant_suspended`).
/// 4. The policy allows the action (403 `denied`); what is about oneself has none.
///
/// The gateway takes a request's quota (429) between 3 and 4, once for each request: so one that will be denied counts
/// as well, and guessing costs as much as asking. Tiers, whose features others check before 4, do not exist here.
fn judge(
    caller: Option<&Caller>,
    of_platform: impl FnOnce(&Caller) -> bool,
    status: Status,
    decide: Option<&dyn Fn() -> Decision>,
) -> Result<Option<Decision>, Refusal> {
    let caller = caller.ok_or(Refusal::Unauthenticated)?;
    if status != Status::Active && !of_platform(caller) {
        return Err(Refusal::TenantClosed(status));
    }
    match decide.map(|decide| decide()) {
        Some(decision) if !decision.allowed() => Err(Refusal::Denied(decision)),
        decision => Ok(decision),
    }
}

fn of_platform(app: &App, caller: &Caller) -> bool {
    let roles = &app.policy.catalogue().roles;
    caller.roles.iter().any(|role| roles.get(role).is_some_and(|role| role.scope == Scope::Platform))
}

async fn status(app: &App, caller: &Caller) -> Result<Status, StoreError> {
    app.standing.of(app.database.read(), caller.tenant).await
}

/// Lets a caller in, or says why not, before anything is asked: the first three checks.
pub(crate) async fn admit(app: &App, caller: Option<Caller>) -> Result<Caller, Problem> {
    let status = match &caller {
        Some(caller) => status(app, caller).await?,
        None => Status::Active,
    };
    match judge(caller.as_ref(), |caller| of_platform(app, caller), status, None) {
        Ok(_) => caller.ok_or_else(Problem::unauthenticated),
        Err(Refusal::TenantClosed(status)) => {
            let decision = closed(app, status);
            let reason = decision.reason;
            Err(Denied { code: TENANT_CLOSED, reason, revision: decision.revision }.into())
        }
        Err(Refusal::Unauthenticated | Refusal::Denied(_)) => Err(Problem::unauthenticated()),
    }
}

fn closed(app: &App, status: Status) -> Decision {
    Decision::deny(&format!("This tenant is {status}. Ask whoever runs the platform."), app.policy.revision())
}

/// Whether `caller` may do this: for what a list shows of many things. Nothing was attempted, so a no is not audited.
pub async fn may(app: &App, caller: &Caller, action: &str, resource: Resource) -> bool {
    app.policy.decide(&Request::new(caller, action, resource)).allowed()
}

/// Asks whether `caller` may do `action` to `resource`.
pub async fn require(app: &App, caller: &Caller, action: &str, resource: Resource) -> Result<Permit, Denied> {
    let request = Request::new(caller, action, resource);
    let decide = || {
        let decision = app.policy.decide(&request);
        // Only a tool call can wait for a person; a request is answered now.
        match decision.effect {
            Effect::Ask => Decision::deny("approval_unavailable", &decision.revision),
            Effect::Allow | Effect::Deny => decision,
        }
    };
    // A status that can't be read closes: nothing is allowed on a guess.
    let status = status(app, caller).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a tenant's status can't be read");
        Status::Suspended
    });
    let (code, decision) = match judge(Some(caller), |caller| of_platform(app, caller), status, Some(&decide))
    {
        Ok(Some(decision)) => {
            metrics::counter!("auth_decisions_total", "effect" => decision.effect.as_str()).increment(1);
            tracing::debug!(action, reason = %decision.reason, revision = %decision.revision, "allowed");
            return Ok(Permit { request, decision });
        }
        Err(Refusal::Denied(decision)) => ("denied", decision),
        Err(Refusal::TenantClosed(status)) => (TENANT_CLOSED, closed(app, status)),
        Ok(None) | Err(Refusal::Unauthenticated) => {
            ("denied", Decision::deny("undecided", app.policy.revision()))
        }
    };
    metrics::counter!("auth_decisions_total", "effect" => decision.effect.as_str()).increment(1);
    let denied = Denied { code, reason: decision.reason.clone(), revision: decision.revision.clone() };
    let entry = audit::Entry::new(&request, &decision, serde_json::Value::Null);
    if let Err(error) = audit::write(app, entry).await {
        // The answer is no either way; that the audit has a gap is for the operator to hear.
        tracing::error!(%error, action, "a denial could not be written to the audit");
    }
    Err(denied)
}

#[cfg(test)]
mod tests {
    use contracts::{ApiKeyId, Credential, TenantId, UserId};
    use serde_json::json;

    use super::*;

    fn caller(role: &str) -> Caller {
        Caller {
            tenant: TenantId::new(),
            user: UserId::new(),
            roles: vec![role.to_owned()],
            grants: Vec::new(),
            scopes: vec!["*".to_owned()],
            expires_at: None,
            credential: Credential::ApiKey(ApiKeyId::new()),
            impersonator: None,
        }
    }

    fn check(
        caller: Option<&Caller>,
        status: Status,
        effect: Option<Effect>,
    ) -> Result<Option<Decision>, Refusal> {
        let decide = || decision(effect.unwrap_or(Effect::Deny));
        let decide: Option<&dyn Fn() -> Decision> = if effect.is_some() { Some(&decide) } else { None };
        judge(caller, |caller| caller.roles == ["saas_super_admin"], status, decide)
    }

    fn decision(effect: Effect) -> Decision {
        Decision { effect, reason: "because".into(), obligations: json!({}), revision: "r".into() }
    }

    #[test]
    fn first_somebody_has_to_call() {
        let nobody = check(None, Status::Suspended, Some(Effect::Deny));
        assert_eq!(nobody, Err(Refusal::Unauthenticated));
    }

    #[test]
    fn then_the_tenant_has_to_be_active_before_the_policy_is_asked() {
        for status in [Status::Pending, Status::Suspended, Status::Churned] {
            let refused = check(Some(&caller("user")), status, Some(Effect::Deny));
            assert_eq!(refused, Err(Refusal::TenantClosed(status)));
            assert_eq!(check(Some(&caller("user")), status, None), Err(Refusal::TenantClosed(status)));
        }
        assert_eq!(check(Some(&caller("user")), Status::Active, None), Ok(None));
    }

    #[test]
    fn a_role_of_the_platform_passes_a_closed_tenant_and_not_the_policy() {
        let admin = caller("saas_super_admin");
        let allowed = Ok(Some(decision(Effect::Allow)));
        assert_eq!(check(Some(&admin), Status::Suspended, Some(Effect::Allow)), allowed);
        let denied = Err(Refusal::Denied(decision(Effect::Deny)));
        assert_eq!(check(Some(&admin), Status::Suspended, Some(Effect::Deny)), denied);
    }

    #[test]
    fn last_the_policy_has_to_allow() {
        for effect in [Effect::Deny, Effect::Ask] {
            let refused = check(Some(&caller("user")), Status::Active, Some(effect));
            assert_eq!(refused, Err(Refusal::Denied(decision(effect))));
        }
    }
}
