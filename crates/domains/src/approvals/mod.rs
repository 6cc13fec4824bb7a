//! Approvals: a tool call that the policy asks a person about waits here until somebody decides.
//!
//! An approval is for one call with exactly the arguments that were shown, known by their hash; a person may change
//! them, and then the call is made with those. It counts once. A run that waits holds nothing but its rows, so it waits
//! for days and over restarts. Whether a call needs approval is the policy's word, not this domain's.

mod api;
mod service;
mod store;

pub use service::sweep;
pub(crate) use service::{Approval, NewApproval, cancel_open, find, forget_run, request, take};

use serde::{Deserialize, Serialize};

use crate::Domain;

pub(crate) const DOMAIN: Domain = Domain {
    name: "approvals",
    prefixes: &["/api/v2/approvals"],
    routes: api::routes,
    migrations: store::MIGRATIONS,
};

/// Longest reason that a person may give, in characters.
const REASON_CHARS_MAX: usize = 2000;

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nobody has decided yet.
    Pending,
    Approved,
    Rejected,
    /// Nobody decided in time; the call is not made.
    Expired,
    /// The run was stopped before anybody decided.
    Cancelled,
}

impl State {
    const ALL: [Self; 5] = [Self::Pending, Self::Approved, Self::Rejected, Self::Expired, Self::Cancelled];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}

#[derive(Debug)]
pub struct UnknownState;

impl std::fmt::Display for UnknownState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not an approval's state")
    }
}

impl std::str::FromStr for State {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(UnknownState)
    }
}
