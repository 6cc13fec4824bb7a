//! Is the chain whole? Every entry is read and hashed anew.
//!
//! What it can't see is a chain that was made anew from some place on, head and all, by somebody who may write the
//! database's file: for that, a head that was noted elsewhere is given to it.

use contracts::{Caller, TenantId, policy::Resource};
use platform::database::{Database, Error};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::{
    chain::{GENESIS, Head, Record},
    service::ServiceError,
    store,
};
use crate::{App, authority};

/// Entries read at a time.
const ROWS: i64 = 1000;

/// One verification at a time for those who ask over HTTP: it reads all there is.
static AT_ONCE: Semaphore = Semaphore::const_new(1);

/// What is wrong, and at which entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("entry {0} is missing")]
    Missing(i64),
    #[error("entry {0} was changed: its hash is not that of its content")]
    Changed(i64),
    #[error("entry {0} does not follow the one before it: one of the two was changed, or put there")]
    Unlinked(i64),
    #[error("entry {0} was put after the end of the chain")]
    Added(i64),
    #[error("entry {0} is the last, and not the one that the chain ends in")]
    OtherHead(i64),
    #[error("entry {0} is not the one that was noted")]
    NotAsNoted(i64),
    #[error("of the entries from before the chain, some were added or removed")]
    Earlier,
}

impl Broken {
    /// The first entry that is not as it was written; 0 for those from before the chain.
    #[must_use]
    pub fn at(&self) -> i64 {
        match self {
            Self::Missing(at)
            | Self::Changed(at)
            | Self::Unlinked(at)
            | Self::Added(at)
            | Self::OtherHead(at)
            | Self::NotAsNoted(at) => *at,
            Self::Earlier => 0,
        }
    }
}

/// A head that was written down elsewhere at an earlier time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    pub sequence: i64,
    pub hash: String,
}

/// What became of the check of one tenant's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Entries that hold, from the first on.
    pub entries: i64,
    /// Hash of the last of these; 64 zeros when there is none.
    pub head: String,
    /// Entries from before the chain: they are counted, and nothing else can be said of them.
    pub earlier: i64,
    pub broken: Option<Broken>,
}

/// The same, as the API says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct AuditVerification {
    /// Whether every entry is as it was written and none is missing.
    pub ok: bool,
    /// Entries that hold, from the first of the chain on.
    pub entries: i64,
    /// Hash of the last of these. Noted elsewhere, it proves later that nothing up to it was made anew.
    pub head: String,
    /// Entries from before the chain, which have no hash.
    pub earlier: i64,
    /// `sequence` of the first entry that is not as it was written; 0 for those from before the chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken_at: Option<i64>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl From<Verification> for AuditVerification {
    fn from(found: Verification) -> Self {
        Self {
            ok: found.broken.is_none(),
            entries: found.entries,
            head: found.head,
            earlier: found.earlier,
            broken_at: found.broken.as_ref().map(Broken::at),
            problem: found.broken.map(|broken| broken.to_string()),
        }
    }
}

pub(super) async fn for_caller(app: &App, caller: &Caller) -> Result<AuditVerification, ServiceError> {
    authority::require(app, caller, "audit:read", Resource::any("audit")).await?;
    let _turn = AT_ONCE.try_acquire().map_err(|_| ServiceError::Busy)?;
    Ok(verify(&app.database, caller.tenant, None).await?.into())
}

/// Tenants whose audit has entries, or had.
pub async fn chained_tenants(database: &Database) -> Result<Vec<TenantId>, Error> {
    store::tenants(database.read()).await
}

/// Reads a tenant's chain from its first entry to its head.
pub async fn verify(
    database: &Database,
    tenant: TenantId,
    noted: Option<&Noted>,
) -> Result<Verification, Error> {
    let tenant = tenant.to_string();
    let earlier = store::count_earlier(database.read(), &tenant).await?;
    let mut walk = Walk { end: Head::genesis(), noted };
    let mut head = Head::genesis();
    let broken = loop {
        let records = store::after(database.read(), &tenant, Some(walk.end.sequence), ROWS).await?;
        if let Some(broken) = records.iter().find_map(|record| walk.step(record)) {
            break Some(broken);
        }
        if records.is_empty() {
            // The head was read before these entries were looked for, so it is none that came meanwhile.
            if walk.end.sequence < head.sequence {
                break Some(Broken::Missing(walk.end.sequence + 1));
            }
            let (now, counted) = store::head_and_earlier(database.read(), &tenant).await?;
            if now.sequence > walk.end.sequence {
                head = now;
                continue;
            }
            break walk.ends_in(&now).or((counted != earlier).then_some(Broken::Earlier));
        }
    };
    Ok(Verification { entries: walk.end.sequence, head: walk.end.hash, earlier, broken })
}

struct Walk<'a> {
    /// The last entry that holds.
    end: Head,
    noted: Option<&'a Noted>,
}

impl Walk<'_> {
    fn step(&mut self, record: &Record) -> Option<Broken> {
        let expected = self.end.sequence + 1;
        if record.sequence != expected {
            return Some(Broken::Missing(expected));
        }
        if record.previous_hash.as_deref() != Some(self.end.hash.as_str()) {
            return Some(Broken::Unlinked(expected));
        }
        let hash = record.sealed();
        if record.hash.as_deref() != Some(hash.as_str()) {
            return Some(Broken::Changed(expected));
        }
        if self.noted.is_some_and(|noted| noted.sequence == expected && noted.hash != hash) {
            return Some(Broken::NotAsNoted(expected));
        }
        self.end = Head { sequence: expected, hash };
        None
    }

    fn ends_in(&self, head: &Head) -> Option<Broken> {
        if head.sequence < self.end.sequence {
            return Some(Broken::Added(head.sequence + 1));
        }
        if head.hash != self.end.hash {
            return Some(Broken::OtherHead(self.end.sequence));
        }
        let noted = self.noted?;
        // An entry that was noted is one of these, unless they were made anew and are fewer.
        (noted.sequence > self.end.sequence || (noted.sequence == 0 && noted.hash != GENESIS))
            .then_some(Broken::NotAsNoted(noted.sequence))
    }
}
