//! The audit's SQL. There is no update and no delete.

use contracts::TenantId;
use platform::{
    database::{Error, Migration, Sql, Tx},
    http::{PageRequest, Timestamp},
    params,
};

use super::{api::AuditEntry, service::Entry};

pub(super) const MIGRATIONS: &[Migration] = &[Migration {
    name: "audit_0001_entries",
    statements: &[
        "CREATE TABLE audit_entries (
            id TEXT PRIMARY KEY,
            tenant_id TEXT NOT NULL,
            at BIGINT NOT NULL,
            actor_id TEXT NOT NULL,
            action TEXT NOT NULL,
            resource_type TEXT NOT NULL,
            resource_id TEXT,
            effect TEXT NOT NULL,
            reason TEXT NOT NULL,
            policy_revision TEXT NOT NULL,
            details TEXT NOT NULL
        )",
        "CREATE INDEX audit_entries_tenant ON audit_entries (tenant_id, id)",
    ],
}];

pub(super) async fn insert(tx: &Tx, entry: &Entry) -> Result<(), Error> {
    tx.run(
        "INSERT INTO audit_entries (id, tenant_id, at, actor_id, action, resource_type, resource_id, effect, reason,
             policy_revision, details)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        params![
            entry.id.to_string(), entry.tenant.as_str(), entry.at, entry.actor.as_str(), entry.action.as_str(),
            entry.resource_type.as_str(), entry.resource_id.clone(), entry.effect, entry.reason.as_str(),
            entry.revision.as_str(), entry.details.to_string()
        ],
    )
    .await?;
    Ok(())
}

/// Newest first.
pub(super) async fn page(
    connection: &impl Sql,
    tenant: TenantId,
    page: &PageRequest,
) -> Result<Vec<AuditEntry>, Error> {
    // Ids are hexadecimal, so `g` is after them all.
    let before = page.after.clone().unwrap_or_else(|| "g".into());
    let rows = connection
        .all(
            "SELECT id, at, actor_id, action, resource_type, resource_id, effect, reason, policy_revision, details
             FROM audit_entries WHERE tenant_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
            params![tenant.to_string(), before, page.rows_wanted()],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(AuditEntry {
                id: row.text("id")?,
                at: Timestamp(row.int("at")?),
                actor_id: row.text("actor_id")?,
                action: row.text("action")?,
                resource_type: row.text("resource_type")?,
                resource_id: row.text_opt("resource_id")?,
                effect: row.text("effect")?,
                reason: row.text("reason")?,
                policy_revision: row.text("policy_revision")?,
                details: row.json("details")?,
            })
        })
        .collect()
}
