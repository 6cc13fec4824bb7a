//! The SQL of what runs took, summed.

use contracts::TenantId;
use platform::database::{Error, Sql};

use crate::usage::{self, By, Sum, Window, sums_of};

/// Sums of the runs that were made in the window, the dearest first, at most `limit` of them.
pub(crate) async fn sums(
    connection: &impl Sql,
    tenant: TenantId,
    window: Window,
    by: By,
    limit: i64,
) -> Result<Vec<Sum>, Error> {
    let sql = match by {
        By::Day => sums_of!("runs", "cost_micros", day),
        By::Agent => sums_of!("runs", "cost_micros", "agent_id"),
        By::User => sums_of!("runs", "cost_micros", "user_id"),
        By::Model => sums_of!("runs", "cost_micros", "COALESCE(model, '')"),
    };
    usage::read(connection, sql, tenant, window, limit).await
}
