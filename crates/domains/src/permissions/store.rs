//! The SQL of role assignments.

use contracts::{TenantId, UserId};
use platform::{
    database::{Error, Migration, Sql, Tx},
    params,
};

use super::api::Assignment;

pub(super) const MIGRATIONS: &[Migration] = &[Migration {
    name: "permissions_0001_role_assignments",
    // `scope` is a tenant's id, or `platform`.
    statements: &["CREATE TABLE role_assignments (
        scope TEXT NOT NULL,
        user_id TEXT NOT NULL,
        role TEXT NOT NULL,
        created_at BIGINT NOT NULL,
        PRIMARY KEY (user_id, scope, role)
    )"],
}];

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
         ON CONFLICT (user_id, scope, role) DO NOTHING",
        params![scope, user, role, now],
    )
    .await?;
    Ok(())
}

pub(super) async fn delete(tx: &Tx, scope: &str, user: UserId, role: &str) -> Result<u64, Error> {
    let sql = "DELETE FROM role_assignments WHERE scope = $1 AND user_id = $2 AND role = $3";
    tx.run(sql, params![scope, user, role]).await
}
