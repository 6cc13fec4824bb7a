//! The SQL of tenants' own roles.

use contracts::TenantId;
use platform::{
    database::{Error, Row, Sql, Tx},
    http::Timestamp,
    params,
};

use super::super::api::OwnRole;

fn role(row: &Row) -> Result<OwnRole, Error> {
    Ok(OwnRole {
        name: row.text("name")?,
        description: row.text("description")?,
        permissions: row.json("permissions")?,
        created_at: Timestamp(row.int("created_at")?),
        updated_at: Timestamp(row.int("updated_at")?),
    })
}

fn permissions(role: &OwnRole) -> Result<String, Error> {
    serde_json::to_string(&role.permissions).map_err(|error| Error::Corrupt(error.to_string()))
}

/// All of a tenant's roles, by name. Their number is bounded where they are made.
pub(in super::super) async fn all(connection: &impl Sql, tenant: TenantId) -> Result<Vec<OwnRole>, Error> {
    let sql = "SELECT name, description, permissions, created_at, updated_at FROM custom_roles
               WHERE tenant_id = $1 ORDER BY name";
    connection.all(sql, params![tenant]).await?.iter().map(role).collect()
}

pub(in super::super) async fn find(
    connection: &impl Sql,
    tenant: TenantId,
    name: &str,
) -> Result<Option<OwnRole>, Error> {
    let sql = "SELECT name, description, permissions, created_at, updated_at FROM custom_roles
               WHERE tenant_id = $1 AND name = $2";
    connection.one(sql, params![tenant, name]).await?.as_ref().map(role).transpose()
}

pub(in super::super) async fn insert(tx: &Tx, tenant: TenantId, new: &OwnRole) -> Result<(), Error> {
    tx.run(
        "INSERT INTO custom_roles (tenant_id, name, description, permissions, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        params![
            tenant,
            new.name.as_str(),
            new.description.as_str(),
            permissions(new)?,
            new.created_at.0,
            new.updated_at.0
        ],
    )
    .await?;
    Ok(())
}

pub(in super::super) async fn update(tx: &Tx, tenant: TenantId, role: &OwnRole) -> Result<u64, Error> {
    tx.run(
        "UPDATE custom_roles SET description = $1, permissions = $2, updated_at = $3
         WHERE tenant_id = $4 AND name = $5",
        params![role.description.as_str(), permissions(role)?, role.updated_at.0, tenant, role.name.as_str()],
    )
    .await
}

pub(in super::super) async fn delete(tx: &Tx, tenant: TenantId, name: &str) -> Result<u64, Error> {
    tx.run("DELETE FROM custom_roles WHERE tenant_id = $1 AND name = $2", params![tenant, name]).await
}
