//! The SQL of role assignments, grants and tenants' own roles.

use contracts::{
    TenantId, UserId,
    policy::{Grant, GrantEffect, Scope},
};
use platform::{
    database::{Error, Migration, Row, Sql, Tx},
    params,
};

use super::api::Assignment;

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "permissions_0001_role_assignments",
        // `scope` is a tenant's id, or `platform`.
        statements: &["CREATE TABLE role_assignments (
            scope TEXT NOT NULL,
            user_id TEXT NOT NULL,
            role TEXT NOT NULL,
            created_at BIGINT NOT NULL,
            PRIMARY KEY (user_id, scope, role)
        )"],
    },
    Migration {
        name: "permissions_0002_grants",
        statements: &[
            "CREATE TABLE custom_roles (
                tenant_id TEXT NOT NULL,
                name TEXT NOT NULL,
                description TEXT NOT NULL,
                permissions TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                updated_at BIGINT NOT NULL,
                PRIMARY KEY (tenant_id, name)
            )",
            // `scope` as above; one that has an agent is about that agent of the tenant alone.
            "CREATE TABLE grants (
                id TEXT PRIMARY KEY,
                scope TEXT NOT NULL,
                user_id TEXT NOT NULL,
                agent_id TEXT,
                role TEXT,
                permission TEXT,
                effect TEXT NOT NULL,
                expires_at BIGINT,
                created_by TEXT NOT NULL,
                created_at BIGINT NOT NULL
            )",
            "CREATE INDEX grants_user ON grants (user_id, scope)",
            "CREATE INDEX grants_scope ON grants (scope, id)",
            "CREATE INDEX role_assignments_scope ON role_assignments (scope, role)",
        ],
    },
    Migration {
        name: "permissions_0003_roles_of_groups",
        // `groups`: by the person's groups at the identity provider, and withdrawn with them; else `hand`.
        statements: &["ALTER TABLE role_assignments ADD COLUMN given_by TEXT NOT NULL DEFAULT 'hand'"],
    },
];

/// The grants of a user in a tenant and on the platform that have not ended, oldest first.
pub(super) async fn grants(
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
    rows.iter().map(held).collect()
}

fn held(row: &Row) -> Result<Grant, Error> {
    let agent = row.parse_opt("agent_id")?;
    let permissions = match (row.text_opt("permission")?, row.text_opt("own_permissions")?) {
        (Some(permission), _) => vec![permission],
        (None, Some(_)) => row.json("own_permissions")?,
        (None, None) => Vec::new(),
    };
    Ok(Grant {
        id: row.parse("id")?,
        role: row.text_opt("role")?,
        permissions,
        effect: match row.text("effect")?.as_str() {
            "allow" => GrantEffect::Allow,
            "deny" => GrantEffect::Deny,
            _ => return Err(Error::Corrupt("grants.effect".into())),
        },
        scope: match (agent, row.text("scope")?.as_str()) {
            (Some(_), _) => Scope::Agent,
            (None, "platform") => Scope::Platform,
            (None, _) => Scope::Tenant,
        },
        agent,
    })
}

pub(super) async fn roles(
    connection: &impl Sql,
    scopes: &[&str; 2],
    user: UserId,
) -> Result<Vec<String>, Error> {
    let sql =
        "SELECT DISTINCT role FROM role_assignments WHERE user_id = $1 AND scope IN ($2, $3) ORDER BY role";
    let rows = connection.all(sql, params![user, scopes[0], scopes[1]]).await?;
    rows.iter().map(|row| row.text("role")).collect()
}

pub(super) async fn of_tenant(connection: &impl Sql, tenant: TenantId) -> Result<Vec<Assignment>, Error> {
    let sql = "SELECT user_id, role FROM role_assignments WHERE scope = $1 ORDER BY user_id, role";
    let rows = connection.all(sql, params![tenant]).await?;
    rows.iter()
        .map(|row| Ok(Assignment { user_id: row.parse("user_id")?, role: row.text("role")? }))
        .collect()
}

pub(super) async fn insert(tx: &Tx, scope: &str, user: UserId, role: &str, now: i64) -> Result<(), Error> {
    tx.run(
        "INSERT INTO role_assignments (scope, user_id, role, created_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (user_id, scope, role) DO UPDATE SET given_by = 'hand'",
        params![scope, user, role, now],
    )
    .await?;
    Ok(())
}

/// The roles that a user has by their groups, sorted.
pub(super) async fn of_groups(
    connection: &impl Sql,
    scope: &str,
    user: UserId,
) -> Result<Vec<String>, Error> {
    let sql = "SELECT role FROM role_assignments
               WHERE user_id = $1 AND scope = $2 AND given_by = 'groups' ORDER BY role";
    let rows = connection.all(sql, params![user, scope]).await?;
    rows.iter().map(|row| row.text("role")).collect()
}

/// Gives a role by a group; one that was given by hand stays so.
pub(super) async fn insert_of_group(
    tx: &Tx,
    scope: &str,
    user: UserId,
    role: &str,
    now: i64,
) -> Result<(), Error> {
    tx.run(
        "INSERT INTO role_assignments (scope, user_id, role, created_at, given_by) VALUES ($1, $2, $3, $4, 'groups')
         ON CONFLICT (user_id, scope, role) DO NOTHING",
        params![scope, user, role, now],
    )
    .await?;
    Ok(())
}

/// Withdraws a role that was given by a group.
pub(super) async fn delete_of_group(tx: &Tx, scope: &str, user: UserId, role: &str) -> Result<(), Error> {
    let sql = "DELETE FROM role_assignments
               WHERE scope = $1 AND user_id = $2 AND role = $3 AND given_by = 'groups'";
    tx.run(sql, params![scope, user, role]).await?;
    Ok(())
}

pub(super) async fn delete(tx: &Tx, scope: &str, user: UserId, role: &str) -> Result<u64, Error> {
    let sql = "DELETE FROM role_assignments WHERE scope = $1 AND user_id = $2 AND role = $3";
    tx.run(sql, params![scope, user, role]).await
}

/// Whether a user has a role or a grant on the whole platform.
pub(super) async fn is_on_platform(connection: &impl Sql, user: UserId) -> Result<bool, Error> {
    let row = connection
        .one(
            "SELECT 1 AS one FROM role_assignments WHERE user_id = $1 AND scope = 'platform'
             UNION ALL SELECT 1 AS one FROM grants WHERE user_id = $1 AND scope = 'platform' LIMIT 1",
            params![user],
        )
        .await?;
    Ok(row.is_some())
}

/// Takes away all roles and grants of a user in a scope.
pub(super) async fn delete_all(tx: &Tx, scope: &str, user: UserId) -> Result<(), Error> {
    tx.run("DELETE FROM grants WHERE scope = $1 AND user_id = $2", params![scope, user]).await?;
    tx.run("DELETE FROM role_assignments WHERE scope = $1 AND user_id = $2", params![scope, user]).await?;
    Ok(())
}
