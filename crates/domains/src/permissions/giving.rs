//! Roles that come with something else: with an invitation, a service account, or the key of one.

use contracts::{
    Caller, TenantId, UserId,
    policy::{Grant, GrantEffect, Resource, Scope},
};
use platform::database::{Error as StoreError, Sql, Tx};

use super::{
    service::{PLATFORM_ADMIN, Rights, TENANT_OWNER, permission_roles},
    store,
};
use crate::{
    App,
    authority::{self, Denied},
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum NotGiveable {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("{0}")]
    Refused(&'static str),
}

/// The roles behind these names, if the caller may give every one of them.
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
        let roles = permission_roles(app, name);
        if roles.is_empty() {
            return Err(NotGiveable::Refused(
                "there is no such role; GET /api/v2/permissions/catalogue lists them",
            ));
        }
        let beyond = |role: &String| {
            app.policy.catalogue().roles.get(role).is_some_and(|role| role.scope != Scope::Tenant)
        };
        if roles.iter().any(beyond) {
            return Err(NotGiveable::Refused("a role of the platform or of one agent can't come with this"));
        }
        if !holds_all(caller, &roles) {
            return Err(NotGiveable::Refused("a role that you do not hold yourself may not be given by you"));
        }
        all.extend(roles);
    }
    all.sort();
    all.dedup();
    Ok(all)
}

/// Whether the caller holds each of these roles, or administers what they are in.
fn holds_all(caller: &Caller, roles: &[String]) -> bool {
    let holds = |role: &String| caller.roles.contains(role);
    roles.iter().all(|role| holds(role) || (is_admin(caller) && role != PLATFORM_ADMIN))
}

fn is_admin(caller: &Caller) -> bool {
    caller.roles.iter().any(|role| role == PLATFORM_ADMIN || role == TENANT_OWNER[0])
}

/// Whether the caller could give somebody all of these rights, and so may act with them.
pub(crate) fn may_give(caller: &Caller, rights: &Rights) -> bool {
    let given = |grant: &Grant| {
        grant.effect == GrantEffect::Deny || (is_admin(caller) && grant.scope != Scope::Platform)
    };
    holds_all(caller, &rights.roles) && rights.grants.iter().all(given)
}

/// Whether a user has a right on the whole platform.
pub(crate) async fn is_platforms(connection: &impl Sql, user: UserId) -> Result<bool, StoreError> {
    store::is_on_platform(connection, user).await
}

/// Takes away all that a user holds in a tenant, within a change of another domain.
pub(crate) async fn forget_in(tx: &Tx, tenant: TenantId, user: UserId) -> Result<(), StoreError> {
    store::delete_all(tx, &tenant.to_string(), user).await
}
