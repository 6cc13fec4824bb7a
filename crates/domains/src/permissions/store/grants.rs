//! The SQL of grants.

use contracts::{
    GrantId, TenantId, UserId,
    policy::{Grant, GrantEffect, Scope},
};
use platform::{
    database::{Error, Row, Sql, Tx},
    http::{PageRequest, Timestamp},
    params,
};

use super::super::{api::GrantItem, service::PLATFORM};

/// The grants of a user in a tenant and on the platform that have not ended, oldest first.
pub(in super::super) async fn held(
    connection: &impl Sql,
    tenant: TenantId,
    user: UserId,
    now: i64,
) -> Result<Vec<Grant>, Error> {
    let rows = connection
        .all(
            "SELECT g.id, g.scope, g.agent_id, g.role, g.permission, g.effect, c.permissions AS own_permissions
             FROM grants g LEFT JOIN custom_roles c ON c.tenant_id = $1 AND c.name = g.role
             WHERE g.user_id = $2 AND g.scope IN ($1, 'platform') AND (g.expires_at IS NULL OR g.expires_at > $3)
             ORDER BY g.id",
            params![tenant, user, now],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let permissions = match (row.text_opt("permission")?, row.text_opt("own_permissions")?) {
                (Some(permission), _) => vec![permission],
                (None, Some(_)) => row.json("own_permissions")?,
                (None, None) => Vec::new(),
            };
            Ok(Grant {
                id: row.parse("id")?,
                role: row.text_opt("role")?,
                permissions,
                effect: effect(row)?,
                scope: scope(row)?,
                agent: row.parse_opt("agent_id")?,
            })
        })
        .collect()
}

fn effect(row: &Row) -> Result<GrantEffect, Error> {
    match row.text("effect")?.as_str() {
        "allow" => Ok(GrantEffect::Allow),
        "deny" => Ok(GrantEffect::Deny),
        _ => Err(Error::Corrupt("grants.effect".into())),
    }
}

fn scope(row: &Row) -> Result<Scope, Error> {
    Ok(match (row.text_opt("agent_id")?, row.text("scope")?.as_str()) {
        (Some(_), _) => Scope::Agent,
        (None, PLATFORM) => Scope::Platform,
        (None, _) => Scope::Tenant,
    })
}

fn item(row: &Row) -> Result<GrantItem, Error> {
    Ok(GrantItem {
        id: row.parse("id")?,
        user_id: row.parse("user_id")?,
        role: row.text_opt("role")?,
        permission: row.text_opt("permission")?,
        effect: effect(row)?,
        scope: scope(row)?,
        agent_id: row.parse_opt("agent_id")?,
        expires_at: row.int_opt("expires_at")?.map(Timestamp),
        created_by: row.parse("created_by")?,
        created_at: Timestamp(row.int("created_at")?),
    })
}

/// Oldest first, also those that have ended.
pub(in super::super) async fn page(
    connection: &impl Sql,
    tenant: TenantId,
    platform: bool,
    user: Option<UserId>,
    page: &PageRequest,
) -> Result<Vec<GrantItem>, Error> {
    let scope = tenant.to_string();
    let also = if platform { PLATFORM } else { &scope };
    let rows = connection
        .all(
            "SELECT id, scope, user_id, agent_id, role, permission, effect, expires_at, created_by, created_at
             FROM grants WHERE scope IN ($1, $2) AND id > $3 AND ($4 IS NULL OR user_id = $4)
             ORDER BY id LIMIT $5",
            params![
                scope.as_str(),
                also,
                page.after.clone().unwrap_or_default(),
                user.map(|user| user.to_string()),
                page.rows_wanted()
            ],
        )
        .await?;
    rows.iter().map(item).collect()
}

/// A grant in a tenant or on the platform.
pub(in super::super) async fn find(
    connection: &impl Sql,
    tenant: TenantId,
    id: GrantId,
) -> Result<Option<GrantItem>, Error> {
    let row = connection
        .one(
            "SELECT id, scope, user_id, agent_id, role, permission, effect, expires_at, created_by, created_at
             FROM grants WHERE id = $1 AND scope IN ($2, 'platform')",
            params![id, tenant],
        )
        .await?;
    row.as_ref().map(item).transpose()
}

pub(in super::super) async fn count(tx: &Tx, tenant: TenantId, user: UserId) -> Result<i64, Error> {
    let sql = "SELECT COUNT(*) AS found FROM grants WHERE user_id = $1 AND scope IN ($2, 'platform')";
    tx.one(sql, params![user, tenant]).await?.map_or(Ok(0), |row| row.int("found"))
}

pub(in super::super) async fn insert(tx: &Tx, tenant: TenantId, new: &GrantItem) -> Result<(), Error> {
    let scope = match new.scope {
        Scope::Platform => PLATFORM.to_owned(),
        Scope::Tenant | Scope::Agent => tenant.to_string(),
    };
    let effect = match new.effect {
        GrantEffect::Allow => "allow",
        GrantEffect::Deny => "deny",
    };
    tx.run(
        "INSERT INTO grants (id, scope, user_id, agent_id, role, permission, effect, expires_at, created_by, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        params![
            new.id,
            scope,
            new.user_id,
            new.agent_id.map(|agent| agent.to_string()),
            new.role.clone(),
            new.permission.clone(),
            effect,
            new.expires_at.map(|at| at.0),
            new.created_by,
            new.created_at.0
        ],
    )
    .await?;
    Ok(())
}

pub(in super::super) async fn delete(tx: &Tx, id: GrantId) -> Result<u64, Error> {
    tx.run("DELETE FROM grants WHERE id = $1", params![id]).await
}

/// Deletes the grants that gave a role; answers how many.
pub(in super::super) async fn delete_of_role(tx: &Tx, tenant: TenantId, role: &str) -> Result<u64, Error> {
    tx.run("DELETE FROM grants WHERE scope = $1 AND role = $2", params![tenant, role]).await
}

/// Whether a role is denied to anybody.
pub(in super::super) async fn denies(
    connection: &impl Sql,
    tenant: TenantId,
    role: &str,
) -> Result<bool, Error> {
    let sql = "SELECT 1 AS one FROM grants WHERE scope = $1 AND role = $2 AND effect = 'deny' LIMIT 1";
    Ok(connection.one(sql, params![tenant, role]).await?.is_some())
}

pub(in super::super) async fn denied_users(
    tx: &Tx,
    tenant: TenantId,
    role: &str,
) -> Result<Vec<UserId>, Error> {
    let sql = "SELECT DISTINCT user_id FROM grants WHERE scope = $1 AND role = $2 AND effect = 'deny'";
    tx.all(sql, params![tenant, role]).await?.iter().map(|row| row.parse("user_id")).collect()
}

/// Users to whom a role was given or denied, up to a number.
pub(in super::super) async fn users_of_role(
    connection: &impl Sql,
    tenant: TenantId,
    role: &str,
    limit: i64,
) -> Result<Vec<UserId>, Error> {
    let sql = "SELECT DISTINCT user_id FROM grants WHERE scope = $1 AND role = $2 ORDER BY user_id LIMIT $3";
    connection.all(sql, params![tenant, role, limit]).await?.iter().map(|row| row.parse("user_id")).collect()
}
