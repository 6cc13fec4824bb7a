//! What somebody may do, and why: one question, all of them, and what each role comes to.

use contracts::{
    AgentId, Caller, UserId,
    policy::{Decision, Grant, Request, Resource},
};
use serde_json::json;

use super::{
    api::{Answer, Effective, EffectiveItem, Matrix, Question},
    giving,
    service::{self, Error, Rights},
    store,
};
use crate::{
    App, agents,
    authority::{self, Denied},
    identity,
};

/// Somebody of the tenant as they would ask with a credential without limits.
pub(super) fn as_user(caller: &Caller, user: UserId, rights: Rights) -> Caller {
    Caller {
        tenant: caller.tenant,
        user,
        roles: rights.roles,
        grants: rights.grants,
        scopes: vec!["*".to_owned()],
        expires_at: None,
        credential: caller.credential,
        impersonator: None,
    }
}

/// The caller as they are, or somebody else of the tenant.
async fn subject(app: &App, caller: &Caller, user: Option<UserId>) -> Result<Caller, Error> {
    let Some(user) = user.filter(|user| *user != caller.user) else { return Ok(caller.clone()) };
    if !identity::is_member(app.database.read(), caller.tenant, user).await? {
        return Err(Error::NoSuchUser);
    }
    let rights = service::rights_of(app.database.read(), caller.tenant, user).await?;
    Ok(as_user(caller, user, rights))
}

/// By which role and which grant a decision was made, as far as its reason names them.
pub(super) fn via(reason: &str, grants: &[Grant]) -> (Option<String>, Option<Grant>) {
    if let Some(grant) = grants.iter().find(|grant| reason.contains(&grant.id.to_string())) {
        return (grant.role.clone(), Some(grant.clone()));
    }
    let role = reason.strip_prefix("role ").and_then(|rest| rest.split_once(" grants "));
    (role.map(|(role, _)| role.to_owned()), None)
}

/// A decision in a sentence: what it rests on, and the policy that made it.
fn sentence(decision: &Decision, grants: &[Grant]) -> String {
    let verb = if decision.allowed() { "allowed" } else { "denied" };
    let by = match via(&decision.reason, grants) {
        (Some(role), Some(grant)) => format!("by role {role} through grant {}", grant.id),
        (Some(role), None) => format!("by role {role}"),
        (None, Some(grant)) => format!("by grant {}", grant.id),
        (None, None) => format!("because {}", decision.reason),
    };
    format!("{verb} {by}, policy revision {}", decision.revision)
}

/// Asks the policy as if somebody did this to that; nothing is done.
pub(super) async fn check(app: &App, caller: &Caller, question: Question) -> Result<Answer, Error> {
    authority::require(app, caller, "user:read", Resource::any("permission")).await?;
    let subject = subject(app, caller, question.user_id).await?;
    let mut resource = match question.resource {
        None => giving::place(&question.action, None),
        Some(asked) => {
            let mut resource = Resource::any(asked.kind);
            resource.id = asked.id;
            if let Some(agent) = asked.agent_id {
                resource = resource.of_agent(agent);
            }
            resource
        }
    };
    let mut context = serde_json::Value::Null;
    if resource.kind == "tool"
        && let Some(agent) = agent_of(&resource)
        && let Some(agent) = agents::get(app.database.read(), caller.tenant, agent).await?
    {
        context = json!({ "agent_tools": agent.tools, "agent_tools_ask": agent.tools_ask });
    }
    if resource.kind == "agent"
        && let Some(named) = &resource.id
        && let Some(found) = agents::find(app.database.read(), caller.tenant, named).await?
    {
        resource = resource.of_agent(found.id);
    }
    let request = Request::new(&subject, &question.action, resource).with_context(context);
    let decision = app.policy.decide(&request).await;
    if decision.is_undecided() {
        return Err(Denied::undecided(&decision).into());
    }
    Ok(Answer {
        effect: decision.effect,
        via: sentence(&decision, &subject.grants),
        reason: decision.reason,
        revision: decision.revision,
    })
}

fn agent_of(resource: &Resource) -> Option<AgentId> {
    resource.attributes.get("agent")?.as_str()?.parse().ok()
}

/// Every action of the catalogue, and whether somebody may do it: in the whole tenant, or about one agent.
pub(super) async fn effective(
    app: &App,
    caller: &Caller,
    user: Option<UserId>,
    agent: Option<AgentId>,
) -> Result<Effective, Error> {
    authority::require(app, caller, "user:read", Resource::any("permission")).await?;
    let subject = subject(app, caller, user).await?;
    let actions: Vec<&String> = app.policy.catalogue().actions.keys().collect();
    let decisions = giving::rights(app, &subject, &actions, agent).await?;
    let items = actions.into_iter().zip(decisions).map(|(action, decision)| {
        let (role, grant) = via(&decision.reason, &subject.grants);
        EffectiveItem {
            action: action.clone(),
            effect: decision.effect,
            explanation: sentence(&decision, &subject.grants),
            reason: decision.reason,
            role,
            grant_id: grant.map(|grant| grant.id),
        }
    });
    Ok(Effective { items: items.collect(), revision: app.policy.revision().to_owned() })
}

/// What each role comes to, the tenant's own among them.
pub(super) async fn matrix(app: &App, caller: &Caller) -> Result<Matrix, Error> {
    authority::require(app, caller, "user:read", Resource::any("role")).await?;
    let catalogue = app.policy.catalogue();
    let actions: Vec<String> = catalogue.actions.keys().cloned().collect();
    let mut roles = Vec::new();
    let mut cells = Vec::new();
    let of_catalogue = catalogue.roles.iter().map(|(name, role)| (name.clone(), role.permissions.clone()));
    let own = store::roles::all(app.database.read(), caller.tenant).await?;
    for (name, patterns) in of_catalogue.chain(own.into_iter().map(|role| (role.name, role.permissions))) {
        let covered: Vec<&str> = catalogue.covered(&patterns).collect();
        cells.push(actions.iter().map(|action| covered.contains(&action.as_str())).collect());
        roles.push(name);
    }
    Ok(Matrix { actions, roles, cells })
}

#[cfg(test)]
mod tests {
    use contracts::{
        GrantId,
        policy::{Decision, Effect, Grant, GrantEffect, Scope},
    };

    use super::sentence;

    fn check(effect: Effect, reason: &str, grants: &[Grant], expected: &str) {
        let decision = Decision {
            effect,
            reason: reason.into(),
            obligations: serde_json::json!({}),
            revision: "r1".into(),
        };
        assert_eq!(sentence(&decision, grants), expected);
    }

    #[test]
    fn a_decision_says_by_which_role_and_grant() {
        let grant = |role: Option<&str>| Grant {
            id: GrantId::new(),
            role: role.map(str::to_owned),
            permissions: Vec::new(),
            effect: GrantEffect::Allow,
            scope: Scope::Tenant,
            agent: None,
        };
        let grants = [grant(Some("reviewer")), grant(None)];
        let [first, second] = [grants[0].id, grants[1].id];
        let allow = Effect::Allow;
        check(allow, "role user grants a:b", &grants, "allowed by role user, policy revision r1");
        check(
            allow,
            &format!("grant {first} (role reviewer) grants a:b"),
            &grants,
            &format!("allowed by role reviewer through grant {first}, policy revision r1"),
        );
        check(
            Effect::Deny,
            &format!("denied_by_grant {second}"),
            &grants,
            &format!("denied by grant {second}, policy revision r1"),
        );
        check(Effect::Deny, "no_role_allows", &[], "denied because no_role_allows, policy revision r1");
    }
}
