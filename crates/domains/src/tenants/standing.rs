//! Whether a tenant may be worked in: looked up at most twice a second for each tenant.

use std::{
    collections::HashMap,
    fmt,
    str::FromStr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use contracts::TenantId;
use platform::database::{Error, Sql};

use super::store;

/// How long a status is remembered: a suspension counts at most this much later in another process.
const REMEMBERED: Duration = Duration::from_millis(500);
/// Tenants remembered at once.
const REMEMBERED_MAX: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Made, and not opened to its members yet.
    Pending,
    Active,
    /// Closed for a while: its runs were stopped, its members get nothing.
    Suspended,
    /// Closed for good.
    Churned,
}

impl Status {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Churned => "churned",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Pending, Self::Active, Self::Suspended, Self::Churned]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| format!("no status of a tenant: {text}"))
    }
}

/// The statuses that were looked up a moment ago.
#[derive(Debug, Default)]
pub struct Standing(Mutex<HashMap<TenantId, (Instant, Status)>>);

impl Standing {
    /// A tenant's status. One that is not there is closed.
    pub(crate) async fn of(&self, connection: &impl Sql, tenant: TenantId) -> Result<Status, Error> {
        if let Some(status) = self.remembered(tenant) {
            return Ok(status);
        }
        let looked_at = Instant::now();
        let status = store::status(connection, tenant).await?.unwrap_or(Status::Churned);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(tenant, (looked_at, status));
        Ok(status)
    }

    fn remembered(&self, tenant: TenantId) -> Option<Status> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&tenant).filter(|(at, _)| at.elapsed() < REMEMBERED).map(|(_, status)| *status)
    }

    /// After a change in this process: the next request looks again.
    pub(super) fn forget(&self, tenant: TenantId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&tenant);
    }
}
