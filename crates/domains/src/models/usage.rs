//! What calls of a model by its name took: they belong to no run.

use contracts::TenantId;
use platform::database::{Error, Sql};

use super::store;
use crate::conversations::{By, Sum, Window};

/// Sums of the calls that were made in the window, the dearest first, at most `limit` of them. No agent is in a call.
pub(crate) async fn sums(
    connection: &impl Sql,
    tenant: TenantId,
    window: Window,
    by: By,
    limit: i64,
) -> Result<Vec<Sum>, Error> {
    store::usage::sums(connection, tenant, window, by, limit).await
}
