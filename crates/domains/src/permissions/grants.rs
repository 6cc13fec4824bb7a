//! Grants: a role or a permission that is given or denied to one user, for a place and a time.

use contracts::{
    Caller, GrantId, UserId,
    policy::{GrantEffect, Resource, Scope},
};
use platform::{
    durable::unix_ms,
    http::{Page, PageRequest, Timestamp},
};
use serde_json::json;

use super::{
    GRANTS_OF_USER_MAX,
    api::{GrantItem, NewGrant},
    giving,
    service::{Error, catalogue_roles},
    store,
};
use crate::{App, agents, audit, authority, identity};

pub(super) async fn list(
    app: &App,
    caller: &Caller,
    user: Option<UserId>,
    page: &PageRequest,
) -> Result<Page<GrantItem>, Error> {
    authority::require(app, caller, "user:read", Resource::any("grant")).await?;
    let platform = giving::on_platform(app, caller).await?;
    let rows = store::grants::page(app.database.read(), caller.tenant, platform, user, page).await?;
    Ok(page.page(rows, |grant| grant.id.to_string()))
}

/// A grant that is well formed, and the patterns that it comes to.
pub(super) struct Checked {
    pub grant: GrantItem,
    pub patterns: Vec<String>,
    /// The patterns are those of a role of the tenant's own, or a single one.
    pub own: bool,
}

/// Checks everything but whether the caller may give it.
pub(super) async fn checked(app: &App, caller: &Caller, new: NewGrant) -> Result<Checked, Error> {
    let (role, patterns, own) = match (new.role, &new.permission) {
        (Some(name), None) => role_of(app, caller, name).await?,
        (None, Some(pattern)) => {
            if !app.policy.catalogue().knows(pattern) {
                return Err(Error::Invalid("permission", "covers no action of the catalogue".into()));
            }
            (None, vec![pattern.clone()], true)
        }
        _ => return Err(Error::Invalid("role", "give either a role or a permission".into())),
    };
    let scope = new.scope.unwrap_or(Scope::Tenant);
    match role.as_deref().filter(|_| !own).and_then(|role| giving::scope_of(app, role)) {
        Some(Scope::Agent) if scope != Scope::Agent => return Err(Error::NeedsAgent),
        Some(Scope::Platform) if scope != Scope::Platform => {
            return Err(Error::Invalid("scope", "this role is held on the whole platform".into()));
        }
        _ => {}
    }
    match (scope, new.agent_id) {
        (Scope::Agent, Some(agent)) => {
            let found = agents::get(app.database.read(), caller.tenant, agent).await?;
            found.ok_or_else(|| Error::Invalid("agent_id", "there is no such agent".into()))?;
        }
        (Scope::Agent, None) => return Err(Error::Invalid("agent_id", "say which agent it is about".into())),
        (_, Some(_)) => {
            return Err(Error::Invalid("agent_id", "only a grant of scope `agent` has one".into()));
        }
        (_, None) => {}
    }
    let now = unix_ms();
    if new.expires_at.is_some_and(|at| at.0 <= now) {
        return Err(Error::Invalid("expires_at", "expected a time to come".into()));
    }
    let grant = GrantItem {
        id: GrantId::new(),
        user_id: new.user_id,
        role,
        permission: new.permission,
        effect: new.effect.unwrap_or(GrantEffect::Allow),
        scope,
        agent_id: new.agent_id,
        expires_at: new.expires_at,
        created_by: caller.user,
        created_at: Timestamp(now),
    };
    Ok(Checked { grant, patterns, own })
}

/// A role by its name, its patterns, and whether it is the tenant's own.
async fn role_of(
    app: &App,
    caller: &Caller,
    name: String,
) -> Result<(Option<String>, Vec<String>, bool), Error> {
    let roles = catalogue_roles(app, &name);
    if let [role] = roles.as_slice() {
        return Ok((Some(role.clone()), giving::patterns_of(app, &roles), false));
    }
    if !roles.is_empty() {
        let detail =
            format!("`{name}` stands for several roles: grant them one by one ({})", roles.join(", "));
        return Err(Error::Invalid("role", detail));
    }
    let own =
        store::roles::find(app.database.read(), caller.tenant, &name).await?.ok_or(Error::NoSuchRole)?;
    Ok((Some(own.name), own.permissions, true))
}

pub(super) async fn create(app: &App, caller: &Caller, new: NewGrant) -> Result<GrantItem, Error> {
    let resource = Resource::new("user", new.user_id);
    let permit = authority::require(app, caller, "user:assign_roles", resource).await?;
    if !identity::is_member(app.database.read(), caller.tenant, new.user_id).await? {
        return Err(Error::NoSuchUser);
    }
    let named = if new.role.is_some() { "role" } else { "permission" };
    let Checked { grant, patterns, own } = checked(app, caller, new).await?;
    if grant.scope == Scope::Platform {
        authority::require(app, caller, giving::PLATFORM_WORK, Resource::any("platform")).await?;
        if own && grant.role.is_some() {
            return Err(Error::Invalid("role", "a tenant's own role means nothing on the platform".into()));
        }
    }
    if !giving::holds(app, caller, &patterns, grant.agent_id).await? {
        return Err(Error::MoreThanOwn(named));
    }
    let entry = permit.entry(json!({ "grant": grant }));
    let tenant = caller.tenant;
    let grant = app
        .database
        .write(move |tx| {
            Box::pin(async move {
                let owner = super::TENANT_OWNER[0];
                if grant.effect == GrantEffect::Deny
                    && (store::is_last_holder(tx, &tenant.to_string(), grant.user_id, owner).await?
                        || store::is_last_holder(
                            tx,
                            super::service::PLATFORM,
                            grant.user_id,
                            super::PLATFORM_ADMIN,
                        )
                        .await?)
                {
                    return Err(Error::LastOwner);
                }
                if store::grants::count(tx, tenant, grant.user_id).await? >= GRANTS_OF_USER_MAX {
                    return Err(Error::TooManyGrants);
                }
                store::grants::insert(tx, tenant, &grant).await?;
                audit::add(tx, &entry).await?;
                Ok(grant)
            })
        })
        .await?;
    app.sessions.forget_all();
    Ok(grant)
}

/// Takes a grant back. A denial is lifted only by who could have given what it denies: never by who is denied it.
pub(super) async fn delete(app: &App, caller: &Caller, id: GrantId) -> Result<(), Error> {
    let permit = authority::require(app, caller, "user:revoke_roles", Resource::new("grant", id)).await?;
    let grant = store::grants::find(app.database.read(), caller.tenant, id).await?.ok_or(Error::NotFound)?;
    if grant.scope == Scope::Platform && !giving::on_platform(app, caller).await? {
        return Err(Error::NotFound);
    }
    if grant.effect == GrantEffect::Deny {
        let patterns = match (&grant.role, &grant.permission) {
            (Some(role), _) => role_of(app, caller, role.clone()).await?.1,
            (None, permission) => permission.iter().cloned().collect(),
        };
        if !giving::holds(app, caller, &patterns, grant.agent_id).await? {
            return Err(Error::MoreThanOwn("id"));
        }
    }
    let entry = permit.entry(json!({ "grant": grant }));
    app.database
        .write(move |tx| {
            Box::pin(async move {
                if store::grants::delete(tx, id).await? == 0 {
                    return Err(Error::NotFound);
                }
                Ok(audit::add(tx, &entry).await?)
            })
        })
        .await?;
    app.sessions.forget_all();
    Ok(())
}
