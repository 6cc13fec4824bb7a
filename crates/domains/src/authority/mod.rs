//! The one way in which a domain asks the policy, and the order of everything that is checked before.
//!
//! A denial is written to the audit here. An allowed change is written by the change itself, in its own commit, from
//! the [`Permit`] that this module hands out; an allowed read goes to the trace.

mod quota;

use std::future::Ready;

use contracts::{
    AgentId, Caller,
    policy::{Decision, Effect, GrantEffect, Request, Resource},
};
use platform::{database::Error as StoreError, http::Problem, policy::Scope};

pub(crate) use quota::Quotas;
pub use quota::{Counted, Meter, whole_seconds};

use crate::{
    App, audit,
    tenants::{MfaPolicy, Standing, Status},
};

/// What the client of a tenant that is not active is told.
const TENANT_CLOSED: &str = "tenant_suspended";
/// What somebody is told who has to set up an authenticator first.
const FACTOR_MISSING: &str = "totp_required_by_tenant";

/// The request goes no further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The policy said no, or the caller's tenant is closed to them.
    #[error("{reason}")]
    Refused { code: &'static str, reason: String, revision: String },
    /// The policy can't be asked, so it is no; later it may be yes.
    #[error("{reason}")]
    Undecided { reason: String, revision: String },
    /// It was allowed, and there were too many.
    #[error(transparent)]
    OverQuota(#[from] Counted),
}

impl Denied {
    /// What was asked beside the request itself, and not decided.
    pub(crate) fn undecided(decision: &Decision) -> Self {
        Self::Undecided { reason: decision.reason.clone(), revision: decision.revision.clone() }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Refused { code, reason, revision } => {
                Self { code: code.to_owned(), ..Self::denied(&reason, &revision) }
            }
            Denied::Undecided { reason, revision } => {
                // Where the policy's server is, and what is wrong with it, is for the log and the audit.
                tracing::error!(reason, "a request was refused that the policy did not decide");
                let detail =
                    "The policy can't be asked, so nothing is allowed. Nothing was done; try again soon.";
                let problem = Self::unavailable("policy_unavailable", detail);
                Self { policy_revision: Some(revision), ..problem }
            }
            Denied::OverQuota(over) => over.refusal(),
        }
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

/// Whether somebody showed a second proof of who they are, where the tenant may ask for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Factor {
    /// They did, or need none: a program, or somebody for whom an identity provider vouches.
    Shown,
    /// A person who has no authenticator.
    Missing,
}

/// Who a credential proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proven {
    pub caller: Caller,
    pub factor: Factor,
}

/// Why a request goes no further.
#[derive(Debug, PartialEq)]
enum Refusal {
    Unauthenticated,
    TenantClosed(Status),
    FactorMissing,
    Denied(Decision),
    OverQuota(Counted),
}

/// What is asked of the order of checks; a step that is not asked for is passed.
struct Checks<'a, Decide, Take> {
    of_platform: &'a (dyn Fn(&Caller) -> bool + Sync),
    standing: Standing,
    factor: Factor,
    decide: Option<Decide>,
    take: Option<Take>,
}

/// What stands where the policy is not asked.
const NOTHING_ASKED: Option<Ready<Decision>> = None;
/// And where no quota is taken.
const NOTHING_TAKEN: Option<Ready<Result<(), Counted>>> = None;

/// The order of checks. Each refuses before the next is asked:
///
/// 1. Somebody calls (401).
/// 2. A role of the platform passes the next one.
/// 3. Their tenant is active (403 `tenant_suspended`).
/// 4. They have the second factor that their tenant asks for (403 `totp_required_by_tenant`).
/// 5. The policy allows the action (403 `denied`); what is about oneself has none.
/// 6. There is quota left (429 `rate_limited`), which only a request that came this far takes.
///
/// Tiers, whose features others check before 5, do not exist here.
async fn judge<Decide: Future<Output = Decision>, Take: Future<Output = Result<(), Counted>>>(
    caller: Option<&Caller>,
    checks: Checks<'_, Decide, Take>,
) -> Result<Option<Decision>, Refusal> {
    let caller = caller.ok_or(Refusal::Unauthenticated)?;
    let Standing { status, mfa, .. } = checks.standing;
    if status != Status::Active && !(checks.of_platform)(caller) {
        return Err(Refusal::TenantClosed(status));
    }
    if mfa == MfaPolicy::Required && checks.factor == Factor::Missing {
        return Err(Refusal::FactorMissing);
    }
    let decision = match checks.decide {
        Some(decide) => Some(decide.await),
        None => None,
    };
    if let Some(decision) = decision.as_ref().filter(|decision| !decision.allowed()) {
        return Err(Refusal::Denied(decision.clone()));
    }
    if let Some(take) = checks.take {
        take.await.map_err(Refusal::OverQuota)?;
    }
    Ok(decision)
}

fn of_platform(app: &App, caller: &Caller) -> bool {
    let roles = &app.policy.catalogue().roles;
    caller.roles.iter().any(|role| roles.get(role).is_some_and(|role| role.scope == Scope::Platform))
}

/// What a refusal before the policy is asked comes to.
fn refused(app: &App, refusal: &Refusal) -> Denied {
    let (code, reason) = match refusal {
        Refusal::TenantClosed(status) => {
            (TENANT_CLOSED, format!("This tenant is {status}. Ask whoever runs the platform."))
        }
        Refusal::FactorMissing => (
            FACTOR_MISSING,
            "This tenant asks for a second factor: set up an authenticator (POST /api/v2/me/totp), and all is open."
                .to_owned(),
        ),
        Refusal::Denied(decision) if decision.is_undecided() => return Denied::undecided(decision),
        Refusal::Denied(decision) => ("denied", decision.reason.clone()),
        Refusal::OverQuota(over) => return Denied::OverQuota(*over),
        Refusal::Unauthenticated => ("denied", "undecided".to_owned()),
    };
    Denied::Refused { code, reason, revision: app.policy.revision().to_owned() }
}

/// Lets a caller in, or says why not, before anything is asked: the checks up to the second factor, which is not asked
/// of whoever is `setting_up` one.
pub(crate) async fn admit(app: &App, proven: Proven, setting_up: bool) -> Result<Caller, Problem> {
    let Proven { caller, factor } = proven;
    let standing = app.standings.of(app, caller.tenant).await?;
    let judged = judge(
        Some(&caller),
        Checks {
            of_platform: &|caller| of_platform(app, caller),
            standing,
            factor: if setting_up { Factor::Shown } else { factor },
            decide: NOTHING_ASKED,
            take: NOTHING_TAKEN,
        },
    )
    .await;
    match judged {
        Ok(_) => Ok(caller),
        Err(refusal) => Err(refused(app, &refusal).into()),
    }
}

/// Takes the quota of a request that asks the policy for nothing.
pub async fn take_quota(app: &App, caller: &Caller) -> Result<(), Problem> {
    let standing = app.standings.of(app, caller.tenant).await?;
    let judged = judge(
        Some(caller),
        Checks {
            of_platform: &|caller| of_platform(app, caller),
            standing,
            factor: Factor::Shown,
            decide: NOTHING_ASKED,
            take: Some(quota::take(app, standing.requests_per_minute)),
        },
    )
    .await;
    judged.map_err(|refusal| refused(app, &refusal))?;
    Ok(())
}

/// Whether `caller` may do this: for what a list shows of many things. Nothing was attempted, so a no is not audited.
pub async fn may(app: &App, caller: &Caller, action: &str, resource: Resource) -> Result<bool, Denied> {
    let decision = app.policy.decide(&Request::new(caller, action, resource)).await;
    if decision.is_undecided() { Err(Denied::undecided(&decision)) } else { Ok(decision.allowed()) }
}

/// The agents about which the caller is denied this, whatever they may do in the whole tenant: a list leaves out what
/// belongs to them. As JSON, for a statement's `$1 NOT LIKE '%"' || agent_id || '"%'`: ids have no other letters in them
/// than digits and dashes, and the list is one user's denials.
pub(crate) async fn denied_agents(app: &App, caller: &Caller, action: &str, kind: &str) -> String {
    let denials = caller.grants.iter().filter(|grant| grant.effect == GrantEffect::Deny);
    let mut agents: Vec<AgentId> = denials.filter_map(|grant| grant.agent).collect();
    agents.sort_unstable();
    agents.dedup();
    let about = |agent: &AgentId| Request::new(caller, action, Resource::any(kind).of_agent(*agent));
    let questions: Vec<Request> = agents.iter().map(about).collect();
    let decisions = app.policy.decide_all(&questions).await;
    let denied = agents.iter().zip(decisions).filter(|(_, decision)| !decision.allowed());
    serde_json::Value::from(denied.map(|(agent, _)| agent.to_string()).collect::<Vec<_>>()).to_string()
}

/// Asks whether `caller` may do `action` to `resource`, and takes the request's quota if so.
pub async fn require(app: &App, caller: &Caller, action: &str, resource: Resource) -> Result<Permit, Denied> {
    let request = Request::new(caller, action, resource);
    let decide = async {
        let decision = app.policy.decide(&request).await;
        // Only a tool call can wait for a person; a request is answered now.
        match decision.effect {
            Effect::Ask => Decision::deny("approval_unavailable", &decision.revision),
            Effect::Allow | Effect::Deny => decision,
        }
    };
    // A standing that can't be read closes: nothing is allowed on a guess.
    let standing = app.standings.of(app, caller.tenant).await.unwrap_or_else(|error: StoreError| {
        tracing::error!(%error, "a tenant's standing can't be read");
        Standing::CLOSED
    });
    let judged = judge(
        Some(caller),
        Checks {
            of_platform: &|caller| of_platform(app, caller),
            standing,
            // Whoever lacks it was not let in.
            factor: Factor::Shown,
            decide: Some(decide),
            take: Some(quota::take(app, standing.requests_per_minute)),
        },
    )
    .await;
    let refusal = match judged {
        Ok(Some(decision)) => {
            metrics::counter!("auth_decisions_total", "effect" => decision.effect.as_str()).increment(1);
            tracing::debug!(action, reason = %decision.reason, revision = %decision.revision, "allowed");
            return Ok(Permit { request, decision });
        }
        Ok(None) => Refusal::Unauthenticated,
        Err(refusal) => refusal,
    };
    let denied = refused(app, &refusal);
    let (Denied::Refused { reason, .. } | Denied::Undecided { reason, .. }) = &denied else {
        return Err(denied);
    };
    let decision = match refusal {
        Refusal::Denied(decision) => decision,
        _ => Decision::deny(reason, app.policy.revision()),
    };
    metrics::counter!("auth_decisions_total", "effect" => decision.effect.as_str()).increment(1);
    let entry = audit::Entry::new(&request, &decision, serde_json::Value::Null);
    if let Err(error) = audit::write(app, entry).await {
        // The answer is no either way; that the audit has a gap is for the operator to hear.
        tracing::error!(%error, action, "a denial could not be written to the audit");
    }
    Err(denied)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use contracts::{ApiKeyId, Credential, TenantId, UserId};
    use futures::FutureExt as _;
    use platform::limiter::Taken;
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

    fn decision(effect: Effect) -> Decision {
        Decision { effect, reason: "because".into(), obligations: json!({}), revision: "r".into() }
    }

    fn over() -> Counted {
        let taken = Taken {
            allowed: false,
            remaining: 0,
            reset: std::time::Duration::ZERO,
            retry_after: std::time::Duration::ZERO,
        };
        Counted { name: "key", quota: 1, taken }
    }

    /// A request that every check would refuse, but for what a test mends.
    struct Asked {
        caller: Option<Caller>,
        status: Status,
        mfa: MfaPolicy,
        factor: Factor,
        effect: Option<Effect>,
        quota: Result<(), Counted>,
    }

    fn refused_by_all() -> Asked {
        Asked {
            caller: None,
            status: Status::Suspended,
            mfa: MfaPolicy::Required,
            factor: Factor::Missing,
            effect: Some(Effect::Deny),
            quota: Err(over()),
        }
    }

    fn somebody() -> Asked {
        Asked { caller: Some(caller("user")), ..refused_by_all() }
    }

    fn of_active_tenant() -> Asked {
        Asked { status: Status::Active, ..somebody() }
    }

    fn with_factor() -> Asked {
        Asked { factor: Factor::Shown, ..of_active_tenant() }
    }

    /// What it comes to, whether the policy was asked, and whether the quota was.
    fn check(asked: &Asked) -> (Result<Option<Decision>, Refusal>, bool, bool) {
        let (decided, took) = (AtomicBool::new(false), AtomicBool::new(false));
        let decide = asked.effect.map(async |effect| {
            decided.store(true, Relaxed);
            decision(effect)
        });
        let checks = Checks {
            of_platform: &|caller| caller.roles == ["saas_super_admin"],
            standing: Standing { status: asked.status, mfa: asked.mfa, requests_per_minute: None },
            factor: asked.factor,
            decide,
            take: Some(async {
                took.store(true, Relaxed);
                asked.quota
            }),
        };
        let judged = judge(asked.caller.as_ref(), checks).now_or_never().expect("nothing here waits");
        (judged, decided.load(Relaxed), took.load(Relaxed))
    }

    #[test]
    fn first_somebody_has_to_call() {
        assert_eq!(check(&refused_by_all()), (Err(Refusal::Unauthenticated), false, false));
    }

    #[test]
    fn then_the_tenant_has_to_be_active() {
        for status in [Status::Pending, Status::Suspended, Status::Churned] {
            let closed = (Err(Refusal::TenantClosed(status)), false, false);
            assert_eq!(check(&Asked { status, ..somebody() }), closed);
            assert_eq!(check(&Asked { status, effect: None, ..somebody() }), closed);
        }
    }

    #[test]
    fn a_role_of_the_platform_passes_a_closed_tenant_and_nothing_else() {
        let admin = || Asked { caller: Some(caller("saas_super_admin")), ..refused_by_all() };
        assert_eq!(check(&admin()), (Err(Refusal::FactorMissing), false, false));
        let admin = || Asked { factor: Factor::Shown, ..admin() };
        let denied = Err(Refusal::Denied(decision(Effect::Deny)));
        assert_eq!(check(&admin()), (denied, true, false));
        let admin = || Asked { effect: Some(Effect::Allow), ..admin() };
        assert_eq!(check(&admin()), (Err(Refusal::OverQuota(over())), true, true));
    }

    #[test]
    fn then_a_person_has_the_second_factor_that_their_tenant_asks_for() {
        assert_eq!(check(&of_active_tenant()), (Err(Refusal::FactorMissing), false, false));
        for mfa in [MfaPolicy::Off, MfaPolicy::Optional] {
            let denied = Err(Refusal::Denied(decision(Effect::Deny)));
            assert_eq!(check(&Asked { mfa, ..of_active_tenant() }), (denied, true, false));
        }
    }

    #[test]
    fn then_the_policy_has_to_allow_and_a_denial_takes_no_quota() {
        for effect in [Effect::Deny, Effect::Ask] {
            let denied = Err(Refusal::Denied(decision(effect)));
            assert_eq!(check(&Asked { effect: Some(effect), ..with_factor() }), (denied, true, false));
        }
    }

    #[test]
    fn last_there_has_to_be_quota_left() {
        let allowed = || Asked { effect: Some(Effect::Allow), ..with_factor() };
        assert_eq!(check(&allowed()), (Err(Refusal::OverQuota(over())), true, true));
        let done = Asked { quota: Ok(()), ..allowed() };
        assert_eq!(check(&done), (Ok(Some(decision(Effect::Allow))), true, true));
        let about_oneself = Asked { effect: None, quota: Ok(()), ..with_factor() };
        assert_eq!(check(&about_oneself), (Ok(None), false, true));
    }
}
