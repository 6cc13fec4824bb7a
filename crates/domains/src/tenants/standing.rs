//! Whether a tenant may be worked in, and what it asks of every request: looked up at most twice a second for each
//! tenant.

use std::{
    collections::HashMap,
    fmt,
    str::FromStr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use contracts::TenantId;
use platform::database::Error;

use super::{settings, settings::MfaPolicy, store};
use crate::App;

/// How long a standing is remembered: a suspension counts at most this much later in another process.
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

/// What every request of a tenant's is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub status: Status,
    pub mfa: MfaPolicy,
    /// The tenant's own limit; the install's counts as well.
    pub requests_per_minute: Option<u32>,
}

impl Standing {
    /// Of a tenant that is not there, or can't be asked for.
    pub(crate) const CLOSED: Self =
        Self { status: Status::Churned, mfa: MfaPolicy::Required, requests_per_minute: None };
}

/// The standings that were looked up a moment ago.
#[derive(Debug, Default)]
pub struct Standings(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    standings: HashMap<TenantId, (Instant, Standing)>,
    /// How often all was forgotten: what was looked up before the last time is not kept.
    forgotten: u64,
}

impl Standings {
    /// A tenant's standing. One that is not there is closed.
    pub(crate) async fn of(&self, app: &App, tenant: TenantId) -> Result<Standing, Error> {
        if let Some(standing) = self.remembered(tenant) {
            return Ok(standing);
        }
        let (looked_at, forgotten) = (Instant::now(), self.lock().forgotten);
        let standing = match store::status(app.database.read(), tenant).await? {
            None => Standing::CLOSED,
            Some(status) => {
                let (mfa, requests_per_minute) = settings::of_requests(app, tenant).await?;
                Standing { status, mfa, requests_per_minute }
            }
        };
        self.keep(tenant, standing, looked_at, forgotten);
        Ok(standing)
    }

    fn keep(&self, tenant: TenantId, standing: Standing, looked_at: Instant, forgotten: u64) {
        let mut known = self.lock();
        if known.forgotten != forgotten {
            return;
        }
        if known.standings.len() >= REMEMBERED_MAX {
            known.standings.clear();
        }
        known.standings.insert(tenant, (looked_at, standing));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self, tenant: TenantId) -> Option<Standing> {
        let known = self.lock();
        known
            .standings
            .get(&tenant)
            .filter(|(at, _)| at.elapsed() < REMEMBERED)
            .map(|(_, standing)| *standing)
    }

    /// After a change in this process: the next request looks again.
    pub(super) fn forget_all(&self) {
        let mut known = self.lock();
        known.standings.clear();
        known.forgotten += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_looked_up_before_a_change_is_not_kept_after_it() {
        let (standings, tenant) = (Standings::default(), TenantId::new());
        let (looked_at, forgotten) = (Instant::now(), standings.lock().forgotten);
        standings.forget_all();
        standings.keep(tenant, Standing::CLOSED, looked_at, forgotten);
        assert_eq!(standings.remembered(tenant), None);
        let forgotten = standings.lock().forgotten;
        standings.keep(tenant, Standing::CLOSED, Instant::now(), forgotten);
        assert_eq!(standings.remembered(tenant), Some(Standing::CLOSED));
    }
}
