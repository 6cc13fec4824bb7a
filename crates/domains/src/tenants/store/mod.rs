//! The SQL of tenants; settings have a file of their own.

pub(super) mod settings;

use contracts::TenantId;
use platform::{
    database::{Error, Migration, Row, Sql, Tx},
    http::{PageRequest, Timestamp},
    params,
};

use super::{api::Tenant, standing::Status};

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "tenants_0001_tenants",
        postgres: None,
        statements: &["CREATE TABLE tenants (
            id TEXT PRIMARY KEY,
            slug TEXT NOT NULL UNIQUE,
            name TEXT NOT NULL,
            created_at BIGINT NOT NULL
        )"],
    },
    Migration {
        name: "tenants_0002_status_and_settings",
        postgres: None,
        statements: &[
            "ALTER TABLE tenants ADD COLUMN status TEXT NOT NULL DEFAULT 'active'",
            "ALTER TABLE tenants ADD COLUMN status_reason TEXT",
            // `scope` is `platform`, `tenant:ID`, `agent:ID` or `user:TENANT:ID`; `value` is JSON.
            "CREATE TABLE settings (
                scope TEXT NOT NULL,
                key TEXT NOT NULL,
                value TEXT NOT NULL,
                updated_by TEXT NOT NULL,
                updated_at BIGINT NOT NULL,
                PRIMARY KEY (scope, key)
            )",
        ],
    },
];

fn tenant(row: &Row) -> Result<Tenant, Error> {
    Ok(Tenant {
        id: row.parse("id")?,
        slug: row.text("slug")?,
        name: row.text("name")?,
        status: row.parse("status")?,
        status_reason: row.text_opt("status_reason")?,
        created_at: Timestamp(row.int("created_at")?),
    })
}

pub(super) async fn insert(tx: &Tx, tenant: &Tenant) -> Result<(), Error> {
    tx.run(
        "INSERT INTO tenants (id, slug, name, status, created_at) VALUES ($1, $2, $3, $4, $5)",
        params![
            tenant.id,
            tenant.slug.as_str(),
            tenant.name.as_str(),
            tenant.status.as_str(),
            tenant.created_at.0
        ],
    )
    .await?;
    Ok(())
}

pub(super) async fn by_slug(connection: &impl Sql, slug: &str) -> Result<Option<Tenant>, Error> {
    let sql = "SELECT id, slug, name, status, status_reason, created_at FROM tenants WHERE slug = $1";
    connection.one(sql, params![slug]).await?.as_ref().map(tenant).transpose()
}

pub(super) async fn by_id(connection: &impl Sql, id: TenantId) -> Result<Option<Tenant>, Error> {
    let sql = "SELECT id, slug, name, status, status_reason, created_at FROM tenants WHERE id = $1";
    connection.one(sql, params![id]).await?.as_ref().map(tenant).transpose()
}

/// Oldest first.
pub(super) async fn page(connection: &impl Sql, page: &PageRequest) -> Result<Vec<Tenant>, Error> {
    let sql = "SELECT id, slug, name, status, status_reason, created_at FROM tenants
               WHERE id > $1 ORDER BY id LIMIT $2";
    let after = page.after.clone().unwrap_or_default();
    connection.all(sql, params![after, page.rows_wanted()]).await?.iter().map(tenant).collect()
}

pub(super) async fn status(connection: &impl Sql, id: TenantId) -> Result<Option<Status>, Error> {
    let row = connection.one("SELECT status FROM tenants WHERE id = $1", params![id]).await?;
    row.map(|row| row.parse("status")).transpose()
}

pub(super) async fn rename(tx: &Tx, id: TenantId, name: &str) -> Result<u64, Error> {
    tx.run("UPDATE tenants SET name = $1 WHERE id = $2", params![name, id]).await
}

pub(super) async fn set_status(
    tx: &Tx,
    id: TenantId,
    status: Status,
    reason: Option<&str>,
) -> Result<u64, Error> {
    let sql = "UPDATE tenants SET status = $1, status_reason = $2 WHERE id = $3";
    tx.run(sql, params![status.as_str(), reason, id]).await
}

pub(super) async fn slugs(connection: &impl Sql) -> Result<Vec<(TenantId, String)>, Error> {
    let rows = connection.all("SELECT id, slug FROM tenants ORDER BY id", params![]).await?;
    rows.iter().map(|row| Ok((row.parse("id")?, row.text("slug")?))).collect()
}
