//! The SQL of what calls of a model by its name took, summed: they belong to no run.

use contracts::TenantId;
use platform::database::{Error, Sql};

use crate::usage::{self, By, Sum, Window, sums_of};

/// Sums of the calls that were made in the window, the dearest first, at most `limit` of them. No agent is in a call.
pub(crate) async fn sums(
    connection: &impl Sql,
    tenant: TenantId,
    window: Window,
    by: By,
    limit: i64,
) -> Result<Vec<Sum>, Error> {
    let sql = match by {
        By::Day => sums_of!("model_calls", "COALESCE(settled_micros, 0)", day),
        By::Agent => sums_of!("model_calls", "COALESCE(settled_micros, 0)", "''"),
        By::User => sums_of!("model_calls", "COALESCE(settled_micros, 0)", "user_id"),
        By::Model => sums_of!("model_calls", "COALESCE(settled_micros, 0)", "model"),
    };
    usage::read(connection, sql, tenant, window, limit).await
}
