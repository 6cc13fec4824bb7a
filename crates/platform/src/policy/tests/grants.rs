//! What was given to one user beside their roles, and what was denied to them.

use contracts::{
    AgentId, GrantId,
    policy::{Grant, GrantEffect, Request, Resource, Scope},
};

use super::{allows, denies, read, request};

/// A grant of a role of the catalogue, for one agent.
pub(super) fn grant(role: &str) -> Grant {
    Grant {
        id: GrantId::new(),
        role: Some(role.to_owned()),
        permissions: Vec::new(),
        effect: GrantEffect::Allow,
        scope: Scope::Agent,
        agent: Some(AgentId::new()),
    }
}

fn holding(grant: &Grant, action: &str, resource: Resource) -> Request {
    let mut request = request(&[], action, resource);
    request.subject.grants.push(grant.clone());
    request
}

#[test]
fn a_grant_about_an_agent_counts_for_what_belongs_to_it() {
    let grant = grant("agent_operator");
    let (id, agent) = (grant.id, grant.agent.unwrap());
    let why = |action: &str| format!("grant {id} (role agent_operator) grants {action}");
    let conversation = |agent| Resource::any("conversation").of_agent(agent);
    let ask = |action: &str, resource| holding(&grant, action, resource);
    allows(&ask("conversation:create", conversation(agent)), &why("conversation:create"));
    allows(&ask("agent:stop", Resource::new("agent", agent)), &why("agent:stop"));
    denies(&ask("conversation:create", conversation(AgentId::new())), "no_grant_allows");
    denies(&ask("conversation:create", Resource::any("conversation")), "no_grant_allows");
    denies(&ask("agent:update", Resource::new("agent", agent)), "no_grant_allows");
}

#[test]
fn a_role_of_an_agent_that_is_held_without_one_grants_nothing() {
    let resource = Resource::any("conversation").of_agent(AgentId::new());
    denies(&request(&["agent_owner"], "conversation:read", resource), "role_needs_an_agent");
}

#[test]
fn a_tenants_own_role_grants_its_patterns_and_a_single_permission_itself() {
    let mut grant = grant("reviewer");
    (grant.scope, grant.agent) = (Scope::Tenant, None);
    grant.permissions = vec!["conversation:view_*".to_owned(), "audit:read".to_owned()];
    let why = format!("grant {} (role reviewer) grants audit:read", grant.id);
    allows(&holding(&grant, "audit:read", Resource::any("audit")), &why);
    denies(&holding(&grant, "audit:export", Resource::any("audit")), "no_grant_allows");
    grant.role = None;
    let why = format!("grant {} grants conversation:view_history", grant.id);
    allows(&holding(&grant, "conversation:view_history", Resource::any("conversation")), &why);
}

#[test]
fn a_denial_outranks_every_role_and_grant() {
    let mut denial = grant("user");
    denial.effect = GrantEffect::Deny;
    (denial.scope, denial.agent) = (Scope::Tenant, None);
    let why = format!("denied_by_grant {}", denial.id);
    for role in ["member", "saas_super_admin"] {
        let mut request = read();
        request.subject.roles = vec![role.to_owned()];
        request.subject.grants = vec![denial.clone()];
        denies(&request, &why);
        request.action = "user:delete".to_owned();
        assert_eq!(super::decided(&super::POLICY, &request).allowed(), role == "saas_super_admin");
    }
    let mut allow = denial.clone();
    (allow.id, allow.effect) = (GrantId::new(), GrantEffect::Allow);
    let mut request = holding(&allow, "conversation:read", Resource::any("conversation"));
    request.subject.grants.push(denial);
    denies(&request, &why);
}
