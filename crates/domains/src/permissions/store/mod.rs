//! The SQL of role assignments; grants and tenants' own roles have files of their own.

pub(super) mod grants;
pub(super) mod roles;

use contracts::{TenantId, UserId};
use platform::{
    database::{Error, Migration, Sql, Tx},
    params,
};

use super::api::Assignment;

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "permissions_0001_role_assignments",
        // `scope` is a tenant's id, or `platform`.
        postgres: None,
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
        postgres: None,
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
        postgres: None,
        statements: &["ALTER TABLE role_assignments ADD COLUMN given_by TEXT NOT NULL DEFAULT 'hand'"],
    },
    Migration {
        name: "permissions_0004_owners_audit",
        // Owners were without it until then.
        postgres: None,
        statements: &[
            "INSERT INTO role_assignments (scope, user_id, role, created_at, given_by)
             SELECT a.scope, a.user_id, 'security_auditor', a.created_at, a.given_by FROM role_assignments a
             JOIN role_assignments b ON b.scope = a.scope AND b.user_id = a.user_id AND b.role = 'billing_admin'
             WHERE a.role = 'tenant_admin' AND a.scope <> 'platform'
             ON CONFLICT (user_id, scope, role) DO NOTHING",
        ],
    },
];

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

/// Whether a user is the only one who holds a role in a scope.
pub(super) async fn is_last_holder(tx: &Tx, scope: &str, user: UserId, role: &str) -> Result<bool, Error> {
    let row = tx
        .one(
            "SELECT COUNT(*) AS holders, MAX(user_id) AS holder FROM role_assignments WHERE scope = $1 AND role = $2",
            params![scope, role],
        )
        .await?;
    let Some(row) = row else { return Ok(false) };
    Ok(row.int("holders")? == 1 && row.text("holder")? == user.to_string())
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
