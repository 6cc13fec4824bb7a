//! What a change of rights would come to: who gains and who loses what. Nothing is changed.

use std::collections::BTreeSet;

use contracts::{
    AgentId, Caller, GrantId, UserId,
    policy::{Decision, Grant, Resource, Scope},
};

use super::{
    api::{Change, Difference, DryRun},
    explain, giving, grants, roles,
    service::{self, Error, Rights, catalogue_roles},
    store,
};
use crate::{
    App,
    authority::{self, Denied},
    identity,
};

/// Users that are looked at. A role that more were given is told as far as these.
const USERS_MAX: usize = 100;

/// A change as it meets one user's rights.
enum Effect {
    /// The tenant's own role has these patterns from then on; none: it is gone, with the grants that gave it.
    Role {
        name: String,
        patterns: Option<Vec<String>>,
    },
    Given(Grant),
    Taken(GrantId),
    Assigned(Vec<String>),
    Revoked(Vec<String>),
}

impl Effect {
    fn apply(&self, rights: &mut Rights) {
        match self {
            Self::Role { name, patterns: Some(patterns) } => {
                for grant in rights.grants.iter_mut().filter(|grant| grant.role.as_ref() == Some(name)) {
                    grant.permissions.clone_from(patterns);
                }
            }
            Self::Role { name, patterns: None } => {
                rights.grants.retain(|grant| grant.role.as_ref() != Some(name));
            }
            Self::Given(grant) => rights.grants.push(grant.clone()),
            Self::Taken(id) => rights.grants.retain(|grant| grant.id != *id),
            Self::Assigned(names) => rights.roles.extend(names.iter().cloned()),
            Self::Revoked(names) => rights.roles.retain(|role| !names.contains(role)),
        }
    }
}

pub(super) async fn run(app: &App, caller: &Caller, change: Change) -> Result<DryRun, Error> {
    authority::require(app, caller, "user:assign_roles", Resource::any("permission")).await?;
    let (effect, mut users) = read(app, caller, change).await?;
    let complete = users.len() <= USERS_MAX;
    users.truncate(USERS_MAX);
    let mut outcome = DryRun { gained: Vec::new(), lost: Vec::new(), users: users.len(), complete };
    for user in users {
        let before = service::rights_of(app.database.read(), caller.tenant, user).await?;
        let mut after = before.clone();
        effect.apply(&mut after);
        compare(app, caller, user, before, after, &mut outcome).await?;
        // Hundreds of decisions for each user: others get a turn between them.
        tokio::task::yield_now().await;
    }
    Ok(outcome)
}

async fn compare(
    app: &App,
    caller: &Caller,
    user: UserId,
    before: Rights,
    after: Rights,
    outcome: &mut DryRun,
) -> Result<(), Denied> {
    // The whole tenant first, and every agent that a grant is about.
    let grants = before.grants.iter().chain(&after.grants);
    let places: BTreeSet<Option<AgentId>> = grants.map(|grant| grant.agent).chain([None]).collect();
    let before = explain::as_user(caller, user, before);
    let after = explain::as_user(caller, user, after);
    let actions: Vec<&String> = app.policy.catalogue().actions.keys().collect();
    let mut found = Vec::new();
    for place in places {
        let was = giving::rights(app, &before, &actions, place).await?;
        let is = giving::rights(app, &after, &actions, place).await?;
        found.push((place, was, is));
    }
    for (index, action) in actions.into_iter().enumerate() {
        let may = |decisions: &[Decision]| decisions.get(index).is_some_and(Decision::allowed);
        let mut everywhere = None;
        for (place, was, is) in &found {
            let now = (may(was), may(is));
            // What holds everywhere is told once.
            if everywhere.replace(everywhere.unwrap_or(now)) == Some(now) {
                continue;
            }
            let difference = || Difference { user_id: user, action: action.clone(), agent_id: *place };
            match now {
                (false, true) => outcome.gained.push(difference()),
                (true, false) => outcome.lost.push(difference()),
                _ => {}
            }
        }
    }
    Ok(())
}

/// What a change is, and whom it meets.
async fn read(app: &App, caller: &Caller, change: Change) -> Result<(Effect, Vec<UserId>), Error> {
    let of_role = async |name: &str| {
        let limit = i64::try_from(USERS_MAX + 1).unwrap_or(i64::MAX);
        store::grants::users_of_role(app.database.read(), caller.tenant, name, limit).await
    };
    match change {
        Change::Role { name, permissions } => {
            if !catalogue_roles(app, &name).is_empty() {
                return Err(Error::RoleTaken);
            }
            let patterns = Some(roles::checked_patterns(app, permissions)?);
            let users = of_role(&name).await?;
            Ok((Effect::Role { name, patterns }, users))
        }
        Change::DeleteRole { name } => {
            let found = store::roles::find(app.database.read(), caller.tenant, &name).await?;
            let name = found.ok_or(Error::NoSuchRole)?.name;
            let users = of_role(&name).await?;
            Ok((Effect::Role { name, patterns: None }, users))
        }
        Change::Grant(new) => {
            let user = member(app, caller, new.user_id).await?;
            let checked = grants::checked(app, caller, new).await?;
            let grant = Grant {
                id: checked.grant.id,
                role: checked.grant.role,
                permissions: if checked.own { checked.patterns } else { Vec::new() },
                effect: checked.grant.effect,
                scope: checked.grant.scope,
                agent: checked.grant.agent_id,
            };
            Ok((Effect::Given(grant), vec![user]))
        }
        Change::DeleteGrant { id } => {
            let found = store::grants::find(app.database.read(), caller.tenant, id).await?;
            let found = found.filter(|grant| grant.scope != Scope::Platform).ok_or(Error::NotFound)?;
            Ok((Effect::Taken(id), vec![found.user_id]))
        }
        Change::Assign { user_id, role } => {
            Ok((Effect::Assigned(roles_of(app, &role)?), vec![member(app, caller, user_id).await?]))
        }
        Change::Revoke { user_id, role } => {
            Ok((Effect::Revoked(roles_of(app, &role)?), vec![member(app, caller, user_id).await?]))
        }
    }
}

fn roles_of(app: &App, name: &str) -> Result<Vec<String>, Error> {
    let roles = catalogue_roles(app, name);
    if roles.is_empty() { Err(Error::NoSuchRole) } else { Ok(roles) }
}

async fn member(app: &App, caller: &Caller, user: UserId) -> Result<UserId, Error> {
    let there = identity::is_member(app.database.read(), caller.tenant, user).await?;
    there.then_some(user).ok_or(Error::NoSuchUser)
}
