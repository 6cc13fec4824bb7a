//! A tenant's own roles: a name for a set of permissions, given by grants.

use std::collections::BTreeSet;

use contracts::{Caller, policy::Resource};
use platform::{database::Tx, durable::unix_ms, http::Timestamp};
use serde_json::json;

use super::{
    ROLES_MAX,
    api::{NewRole, OwnRole, RoleChange},
    giving,
    service::{Error, catalogue_roles},
    store,
};
use crate::{App, audit, authority};

const NAME_BYTES_MAX: usize = 64;
const DESCRIPTION_CHARS_MAX: usize = 500;
const PATTERNS_MAX: usize = 100;

pub(super) async fn list(app: &App, caller: &Caller) -> Result<Vec<OwnRole>, Error> {
    authority::require(app, caller, "user:read", Resource::any("role")).await?;
    Ok(store::roles::all(app.database.read(), caller.tenant).await?)
}

/// Permission patterns, each of which covers something, once and in order.
pub(super) fn checked_patterns(app: &App, patterns: Vec<String>) -> Result<Vec<String>, Error> {
    if patterns.is_empty() || patterns.len() > PATTERNS_MAX {
        return Err(Error::Invalid("permissions", format!("expected 1 to {PATTERNS_MAX} patterns")));
    }
    if let Some(unknown) = patterns.iter().find(|pattern| !app.policy.catalogue().knows(pattern)) {
        let what = format!("`{unknown}` covers no action; GET /api/v2/permissions/catalogue lists them");
        return Err(Error::Invalid("permissions", what));
    }
    Ok(patterns.into_iter().collect::<BTreeSet<_>>().into_iter().collect())
}

fn checked_description(text: &str) -> Result<(), Error> {
    if text.chars().count() > DESCRIPTION_CHARS_MAX {
        return Err(Error::Invalid(
            "description",
            format!("expected at most {DESCRIPTION_CHARS_MAX} characters"),
        ));
    }
    Ok(())
}

pub(super) async fn create(app: &App, caller: &Caller, new: NewRole) -> Result<OwnRole, Error> {
    let resource = Resource::new("role", &new.name);
    let permit = authority::require(app, caller, "user:assign_roles", resource).await?;
    let good = (1..=NAME_BYTES_MAX).contains(&new.name.len())
        && new.name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_' || c == b'-');
    if !good {
        let expected = format!("expected 1 to {NAME_BYTES_MAX} lower-case letters, digits, `_` and `-`");
        return Err(Error::Invalid("name", expected));
    }
    if !catalogue_roles(app, &new.name).is_empty() {
        return Err(Error::RoleTaken);
    }
    checked_description(&new.description)?;
    let permissions = checked_patterns(app, new.permissions)?;
    if !giving::holds(app, caller, &permissions, None).await? {
        return Err(Error::MoreThanOwn("permissions"));
    }
    let now = Timestamp(unix_ms());
    let role = OwnRole {
        name: new.name,
        description: new.description,
        permissions,
        created_at: now,
        updated_at: now,
    };
    let entry = permit.entry(json!({ "permissions": role.permissions }));
    let tenant = caller.tenant;
    app.database
        .write(move |tx| {
            Box::pin(async move {
                if store::roles::find(tx, tenant, &role.name).await?.is_some() {
                    return Err(Error::RoleTaken);
                }
                if store::roles::all(tx, tenant).await?.len() >= ROLES_MAX {
                    return Err(Error::TooManyRoles);
                }
                store::roles::insert(tx, tenant, &role).await?;
                audit::add(tx, &entry).await?;
                Ok(role)
            })
        })
        .await
}

/// Changes a role for everybody who was given it.
pub(super) async fn change(
    app: &App,
    caller: &Caller,
    name: &str,
    change: RoleChange,
) -> Result<OwnRole, Error> {
    let permit = authority::require(app, caller, "user:assign_roles", Resource::new("role", name)).await?;
    let before =
        store::roles::find(app.database.read(), caller.tenant, name).await?.ok_or(Error::NotFound)?;
    let mut role = before.clone();
    if let Some(description) = change.description {
        checked_description(&description)?;
        role.description = description;
    }
    if let Some(permissions) = change.permissions {
        role.permissions = checked_patterns(app, permissions)?;
        // What is taken out of a denial is given back.
        let mut touched = role.permissions.clone();
        if store::grants::denies(app.database.read(), caller.tenant, name).await? {
            touched.extend(before.permissions.iter().cloned());
        }
        if !giving::holds(app, caller, &touched, None).await? {
            return Err(Error::MoreThanOwn("permissions"));
        }
    }
    role.updated_at = Timestamp(unix_ms());
    let entry = permit.entry(json!({ "before": before.permissions, "permissions": role.permissions }));
    let tenant = caller.tenant;
    let role = app
        .database
        .write(move |tx| {
            Box::pin(async move {
                if store::roles::update(tx, tenant, &role).await? == 0 {
                    return Err(Error::NotFound);
                }
                spare_last_owner(tx, tenant, &role).await?;
                audit::add(tx, &entry).await?;
                Ok(role)
            })
        })
        .await?;
    app.sessions.forget_all();
    Ok(role)
}

/// A role that is denied to a tenant's last administrator is not changed under them.
async fn spare_last_owner(tx: &Tx, tenant: contracts::TenantId, role: &OwnRole) -> Result<(), Error> {
    for user in store::grants::denied_users(tx, tenant, &role.name).await? {
        if store::is_last_holder(tx, &tenant.to_string(), user, super::TENANT_OWNER[0]).await? {
            return Err(Error::LastOwner);
        }
    }
    Ok(())
}

/// Deletes a role, and with it the grants that gave it.
pub(super) async fn delete(app: &App, caller: &Caller, name: &str) -> Result<(), Error> {
    let permit = authority::require(app, caller, "user:revoke_roles", Resource::new("role", name)).await?;
    let role = store::roles::find(app.database.read(), caller.tenant, name).await?.ok_or(Error::NotFound)?;
    if store::grants::denies(app.database.read(), caller.tenant, name).await?
        && !giving::holds(app, caller, &role.permissions, None).await?
    {
        return Err(Error::MoreThanOwn("name"));
    }
    let tenant = caller.tenant;
    app.database
        .write(move |tx| {
            Box::pin(async move {
                if store::roles::delete(tx, tenant, &role.name).await? == 0 {
                    return Err(Error::NotFound);
                }
                let grants = store::grants::delete_of_role(tx, tenant, &role.name).await?;
                let entry = permit.entry(json!({ "permissions": role.permissions, "grants": grants }));
                Ok(audit::add(tx, &entry).await?)
            })
        })
        .await?;
    app.sessions.forget_all();
    Ok(())
}
