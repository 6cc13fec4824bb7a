//! Assigning roles of the catalogue, and telling what a user holds.

use contracts::{
    Caller, TenantId, UserId,
    policy::{Grant, Resource},
};
use platform::{
    database::{Error as StoreError, Sql, Tx},
    durable::unix_ms,
    policy::{Catalogue, Scope},
};
use serde_json::json;

use super::{
    GRANTS_OF_USER_MAX, ROLES_MAX,
    api::{Assignment, NewAssignment},
    giving, store,
};
use crate::{App, audit, authority, authority::Denied, identity};

/// The platform's own administrator.
pub const PLATFORM_ADMIN: &str = "saas_super_admin";
/// A tenant's owner holds these roles; who holds the first administers it.
pub const TENANT_OWNER: [&str; 3] = ["tenant_admin", "billing_admin", "security_auditor"];
/// The scope of roles that hold in every tenant.
pub(super) const PLATFORM: &str = "platform";

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("no such user in this tenant")]
    NoSuchUser,
    #[error("there is no role of this name; GET /api/v2/permissions/catalogue lists them")]
    NoSuchRole,
    #[error("this role is about one agent: give it by a grant whose scope is `agent`")]
    NeedsAgent,
    #[error("this is a role of the tenant's own: give it by a grant")]
    OwnRole,
    #[error("what is more than you hold yourself may not be given or taken by you")]
    MoreThanOwn(&'static str),
    #[error(
        "somebody else has to hold this role first: a tenant, and the platform, keeps its last administrator"
    )]
    LastOwner,
    #[error("a role has this name already")]
    RoleTaken,
    #[error("a tenant has at most {ROLES_MAX} roles of its own")]
    TooManyRoles,
    #[error("a user has at most {GRANTS_OF_USER_MAX} grants in a tenant: take some back first")]
    TooManyGrants,
    #[error("{0}: {1}")]
    Invalid(&'static str, String),
    #[error("no such assignment, grant or role")]
    NotFound,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a user holds in a tenant, by now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// Names of roles of the catalogue, the platform's among them, sorted.
    pub roles: Vec<String>,
    pub grants: Vec<Grant>,
}

/// What became of a user's roles when their groups were looked at; each list is sorted.
#[derive(Debug, serde::Serialize)]
pub(crate) struct RolesOfGroups {
    pub given: Vec<String>,
    pub withdrawn: Vec<String>,
    /// What no group gives any more, and nobody else in the tenant holds.
    pub kept: Vec<String>,
}

/// Looks up what a user holds in a tenant. What has ended is no part of it.
pub(crate) async fn rights_of(
    connection: &impl Sql,
    tenant: TenantId,
    user: UserId,
) -> Result<Rights, StoreError> {
    let roles = store::roles(connection, &[PLATFORM, &tenant.to_string()], user).await?;
    Ok(Rights { roles, grants: store::grants::held(connection, tenant, user, unix_ms()).await? })
}

/// Assigns a role within a change of another domain; `None` is the whole platform.
pub(crate) async fn assign_in(
    tx: &Tx,
    tenant: Option<TenantId>,
    user: UserId,
    role: &str,
) -> Result<(), StoreError> {
    let scope = tenant.map_or_else(|| PLATFORM.to_owned(), |tenant| tenant.to_string());
    store::insert(tx, &scope, user, role, unix_ms()).await
}

/// Makes these the roles that a user has in a tenant by their groups at the identity provider, within a change of another
/// domain. What was given by hand stays, and so does the tenant's last administrator.
pub(crate) async fn set_roles_of_groups_in(
    tx: &Tx,
    tenant: TenantId,
    user: UserId,
    roles: &[String],
) -> Result<RolesOfGroups, StoreError> {
    let scope = tenant.to_string();
    let before = store::of_groups(tx, &scope, user).await?;
    let mut kept = Vec::new();
    for role in before.iter().filter(|role| !roles.contains(role)) {
        if role == TENANT_OWNER[0] && store::is_last_holder(tx, &scope, user, role).await? {
            tracing::warn!(%tenant, %user, role, "no group gives it any more, and the tenant has nobody else");
            kept.push(role.clone());
        } else {
            store::delete_of_group(tx, &scope, user, role).await?;
        }
    }
    for role in roles {
        store::insert_of_group(tx, &scope, user, role, unix_ms()).await?;
    }
    let after = store::of_groups(tx, &scope, user).await?;
    let only_in = |these: &[String], those: &[String]| {
        these.iter().filter(|role| !those.contains(role)).cloned().collect::<Vec<_>>()
    };
    Ok(RolesOfGroups { given: only_in(&after, &before), withdrawn: only_in(&before, &after), kept })
}

/// The roles of the catalogue that a name stands for: itself, or those behind `owner`, `admin`, `member`, `viewer`.
/// Empty: no such name.
pub(super) fn catalogue_roles(app: &App, name: &str) -> Vec<String> {
    roles_named(app.policy.catalogue(), name)
}

/// The same, of a catalogue.
pub(crate) fn roles_named(catalogue: &Catalogue, name: &str) -> Vec<String> {
    if let Some(roles) = catalogue.tenant_roles.get(name) {
        return roles.clone();
    }
    catalogue.roles.contains_key(name).then(|| name.to_owned()).into_iter().collect()
}

/// Where a role is held when it is assigned: a role of the platform everywhere, any other in the caller's tenant.
fn home_of(app: &App, caller: &Caller, role: &str) -> String {
    match giving::scope_of(app, role) {
        Some(Scope::Platform) => PLATFORM.to_owned(),
        _ => caller.tenant.to_string(),
    }
}

pub(super) async fn list(app: &App, caller: &Caller) -> Result<Vec<Assignment>, Error> {
    authority::require(app, caller, "user:read", Resource::any("role_assignment")).await?;
    Ok(store::of_tenant(app.database.read(), caller.tenant).await?)
}

pub(super) async fn assign(app: &App, caller: &Caller, new: NewAssignment) -> Result<Assignment, Error> {
    let resource = Resource::new("user", new.user_id);
    let permit = authority::require(app, caller, "user:assign_roles", resource).await?;
    let names = catalogue_roles(app, &new.role);
    if names.is_empty() {
        let own = store::roles::find(app.database.read(), caller.tenant, &new.role).await?;
        return Err(if own.is_some() { Error::OwnRole } else { Error::NoSuchRole });
    }
    if names.iter().any(|name| giving::scope_of(app, name) == Some(Scope::Agent)) {
        return Err(Error::NeedsAgent);
    }
    // Otherwise an administrator of one tenant could make themselves the platform's.
    if !giving::holds_all(app, caller, &names).await? {
        return Err(Error::MoreThanOwn("role"));
    }
    if !identity::is_member(app.database.read(), caller.tenant, new.user_id).await? {
        return Err(Error::NoSuchUser);
    }
    let assignment = Assignment { user_id: new.user_id, role: new.role.clone() };
    let entry = permit.entry(json!({ "role": new.role }));
    let held: Vec<_> = names.into_iter().map(|name| (home_of(app, caller, &name), name)).collect();
    app.database
        .write(move |tx| {
            Box::pin(async move {
                for (scope, name) in &held {
                    store::insert(tx, scope, new.user_id, name, unix_ms()).await?;
                }
                audit::add(tx, &entry).await
            })
        })
        .await
        .map_err(Error::Store)?;
    app.sessions.forget_all();
    Ok(assignment)
}

pub(super) async fn revoke(app: &App, caller: &Caller, user: UserId, role: String) -> Result<(), Error> {
    let permit = authority::require(app, caller, "user:revoke_roles", Resource::new("user", user)).await?;
    let names = catalogue_roles(app, &role);
    if names.iter().any(|name| giving::scope_of(app, name) == Some(Scope::Platform))
        && !giving::holds_all(app, caller, &names).await?
    {
        // A role of the platform is none of the tenant's assignments.
        return Err(Error::NotFound);
    }
    let entry = permit.entry(json!({ "role": role }));
    let held: Vec<_> = names.into_iter().map(|name| (home_of(app, caller, &name), name)).collect();
    app.database
        .write(move |tx| {
            Box::pin(async move {
                let mut removed = 0;
                for (scope, name) in &held {
                    let kept = name == PLATFORM_ADMIN || name == TENANT_OWNER[0];
                    if kept && store::is_last_holder(tx, scope, user, name).await? {
                        return Err(Error::LastOwner);
                    }
                    removed += store::delete(tx, scope, user, name).await?;
                }
                if removed == 0 {
                    return Err(Error::NotFound);
                }
                Ok(audit::add(tx, &entry).await?)
            })
        })
        .await?;
    app.sessions.forget_all();
    Ok(())
}
