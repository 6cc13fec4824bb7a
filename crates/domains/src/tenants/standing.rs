//! Whether a tenant may be worked in, and what it asks of every request: looked up at most twice a second for each
//! tenant.

use std::{fmt, str::FromStr};

use contracts::TenantId;
use platform::{database::Error, remembered::Remembered};

use super::{settings, settings::MfaPolicy, store};
use crate::App;

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
pub struct Standings(Remembered<TenantId, Standing>);

impl Standings {
    /// A tenant's standing. One that is not there is closed.
    pub(crate) async fn of(&self, app: &App, tenant: TenantId) -> Result<Standing, Error> {
        let lookup = match self.0.get(&tenant) {
            Ok(standing) => return Ok(standing),
            Err(lookup) => lookup,
        };
        let standing = match store::status(app.database.read(), tenant).await? {
            None => Standing::CLOSED,
            Some(status) => {
                let (mfa, requests_per_minute) = settings::of_requests(app, tenant).await?;
                Standing { status, mfa, requests_per_minute }
            }
        };
        self.0.put(lookup, tenant, standing);
        Ok(standing)
    }

    /// After a change in this process: the next request looks again.
    pub(super) fn forget_all(&self) {
        self.0.forget_all();
    }
}
