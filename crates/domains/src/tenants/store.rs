//! The SQL of tenants.

use contracts::TenantId;
use platform::{
    database::{Error, Migration, Row, Sql, Tx},
    http::Timestamp,
    params,
};

use super::api::Tenant;

pub(super) const MIGRATIONS: &[Migration] = &[Migration {
    name: "tenants_0001_tenants",
    statements: &["CREATE TABLE tenants (
        id TEXT PRIMARY KEY,
        slug TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        created_at BIGINT NOT NULL
    )"],
}];

fn tenant(row: &Row) -> Result<Tenant, Error> {
    Ok(Tenant {
        id: row.parse("id")?,
        slug: row.text("slug")?,
        name: row.text("name")?,
        created_at: Timestamp(row.int("created_at")?),
    })
}

pub(super) async fn insert(tx: &Tx, tenant: &Tenant) -> Result<(), Error> {
    tx.run(
        "INSERT INTO tenants (id, slug, name, created_at) VALUES ($1, $2, $3, $4)",
        params![tenant.id, tenant.slug.as_str(), tenant.name.as_str(), tenant.created_at.0],
    )
    .await?;
    Ok(())
}

pub(super) async fn by_slug(connection: &impl Sql, slug: &str) -> Result<Option<Tenant>, Error> {
    let sql = "SELECT id, slug, name, created_at FROM tenants WHERE slug = $1";
    connection.one(sql, params![slug]).await?.as_ref().map(tenant).transpose()
}

pub(super) async fn by_id(connection: &impl Sql, id: TenantId) -> Result<Option<Tenant>, Error> {
    let sql = "SELECT id, slug, name, created_at FROM tenants WHERE id = $1";
    connection.one(sql, params![id]).await?.as_ref().map(tenant).transpose()
}

pub(super) async fn slugs(connection: &impl Sql) -> Result<Vec<(TenantId, String)>, Error> {
    let rows = connection.all("SELECT id, slug FROM tenants ORDER BY id", params![]).await?;
    rows.iter().map(|row| Ok((row.parse("id")?, row.text("slug")?))).collect()
}
