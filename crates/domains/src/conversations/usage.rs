//! What runs took: tokens and money, summed for whoever pays.

use contracts::TenantId;
use platform::database::{Error, Sql};

use super::store;

/// What sums are made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Day,
    Agent,
    User,
    Model,
}

/// From a time on, up to and without another, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub from: i64,
    pub to: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sum {
    /// The day's first millisecond, or the id of agent or user, or the model's name; empty when no model was asked.
    pub key: String,
    pub runs: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cost_micros: u64,
}

/// Sums of the runs that were made in the window, the dearest first, at most `limit` of them.
pub(crate) async fn sums(
    connection: &impl Sql,
    tenant: TenantId,
    window: Window,
    by: By,
    limit: i64,
) -> Result<Vec<Sum>, Error> {
    store::usage::sums(connection, tenant, window, by, limit).await
}
