//! Who may give what: nobody gives to others, or lifts from anybody, what they do not hold themselves by now.

use contracts::{
    AgentId, Caller, TenantId, UserId,
    policy::{Decision, GrantEffect, Request, Resource, Scope},
};
use platform::database::{Error as StoreError, Sql, Tx};

use super::{
    service::{Rights, catalogue_roles},
    store,
};
use crate::{
    App,
    authority::{self, Denied},
};

/// The catalogue's action for work on the platform itself.
pub(super) const PLATFORM_WORK: &str = "platform:manage";

/// Why roles that come with something else can't be given by this caller.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotGiveable {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("{0}")]
    Refused(&'static str),
}

/// What became of taking everything from a user who leaves.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaving {
    Gone,
    /// Nothing was taken: a tenant keeps its last administrator.
    LastOwner,
}

/// The roles of the catalogue behind these names, if the caller may give every one of them.
pub(crate) async fn giveable(
    app: &App,
    caller: &Caller,
    names: &[String],
) -> Result<Vec<String>, NotGiveable> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    authority::require(app, caller, "user:assign_roles", Resource::any("user")).await?;
    let mut all = Vec::new();
    for name in names {
        let roles = catalogue_roles(app, name);
        if roles.is_empty() {
            return Err(NotGiveable::Refused(
                "there is no such role in the catalogue; a tenant's own roles are given by a grant",
            ));
        }
        if roles.iter().any(|role| scope_of(app, role) == Some(Scope::Agent)) {
            return Err(NotGiveable::Refused(
                "this role is about one agent: give it by a grant that names one",
            ));
        }
        if roles.iter().any(|role| scope_of(app, role) != Some(Scope::Tenant))
            || !holds_all(app, caller, &roles).await?
        {
            return Err(NotGiveable::Refused(
                "a role that is more than you hold yourself may not be given by you",
            ));
        }
        all.extend(roles);
    }
    all.sort();
    all.dedup();
    Ok(all)
}

pub(super) fn scope_of(app: &App, role: &str) -> Option<Scope> {
    app.policy.catalogue().roles.get(role).map(|role| role.scope)
}

/// The patterns of these roles of the catalogue.
pub(super) fn patterns_of(app: &App, roles: &[String]) -> Vec<String> {
    let roles = roles.iter().filter_map(|role| app.policy.catalogue().roles.get(role));
    roles.flat_map(|role| role.permissions.iter().cloned()).collect()
}

/// Whether the caller may do, by now and by this credential, whatever these roles of the catalogue allow.
pub(super) async fn holds_all(app: &App, caller: &Caller, roles: &[String]) -> Result<bool, Denied> {
    holds(app, caller, &patterns_of(app, roles), None).await
}

/// Whether the caller may do all that these patterns cover: in the whole tenant, or about one agent.
pub(super) async fn holds(
    app: &App,
    caller: &Caller,
    patterns: &[String],
    agent: Option<AgentId>,
) -> Result<bool, Denied> {
    let actions: Vec<&str> = app.policy.catalogue().covered(patterns).collect();
    Ok(rights(app, caller, &actions, agent).await?.iter().all(Decision::allowed))
}

/// What the policy says of the right to each of these actions: in the whole tenant, or about one agent.
pub(super) async fn rights(
    app: &App,
    subject: &Caller,
    actions: &[impl AsRef<str>],
    agent: Option<AgentId>,
) -> Result<Vec<Decision>, Denied> {
    let about = |action: &str| Request::new(subject, action, place(action, agent));
    let requests: Vec<Request> = actions.iter().map(|action| about(action.as_ref())).collect();
    let decisions = app.policy.rights(&requests).await;
    match decisions.iter().find(|decision| decision.is_undecided()) {
        Some(decision) => Err(Denied::undecided(decision)),
        None => Ok(decisions),
    }
}

/// What an action is about where no single thing is meant.
pub(super) fn place(action: &str, agent: Option<AgentId>) -> Resource {
    let resource = Resource::any(action.split(':').next().unwrap_or_default());
    match agent {
        Some(agent) => resource.of_agent(agent),
        None => resource,
    }
}

/// Whether the caller could give somebody all of these rights, and so may act with them.
pub(crate) async fn may_give(app: &App, caller: &Caller, rights: &Rights) -> Result<bool, Denied> {
    if !holds_all(app, caller, &rights.roles).await? {
        return Ok(false);
    }
    for grant in rights.grants.iter().filter(|grant| grant.effect == GrantEffect::Allow) {
        let of_catalogue = patterns_of(app, &grant.role.iter().cloned().collect::<Vec<_>>());
        let patterns = if grant.permissions.is_empty() { &of_catalogue } else { &grant.permissions };
        if !holds(app, caller, patterns, grant.agent).await?
            || (grant.scope == Scope::Platform && !on_platform(app, caller).await?)
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Grants of the whole platform are seen, given and taken back by who works on it.
pub(super) async fn on_platform(app: &App, caller: &Caller) -> Result<bool, Denied> {
    holds(app, caller, &[PLATFORM_WORK.to_owned()], None).await
}

/// Whether a user has a right on the whole platform.
pub(crate) async fn is_platforms(connection: &impl Sql, user: UserId) -> Result<bool, StoreError> {
    store::is_on_platform(connection, user).await
}

/// Takes away all that a user holds in a tenant, within a change of another domain.
pub(crate) async fn forget_in(tx: &Tx, tenant: TenantId, user: UserId) -> Result<Leaving, StoreError> {
    let scope = tenant.to_string();
    if store::is_last_holder(tx, &scope, user, super::TENANT_OWNER[0]).await? {
        return Ok(Leaving::LastOwner);
    }
    store::delete_all(tx, &scope, user).await?;
    Ok(Leaving::Gone)
}
