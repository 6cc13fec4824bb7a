//! Audit: who did, or was refused, what to which thing, why, and by which revision of the policy.
//!
//! Rows are only added, and each is chained to the one before it in its tenant (`chain`), so that a row that was
//! changed, removed or put in between is found (`verify`). A change writes its row in its own commit, so neither is
//! there without the other: what the audit can't take is not done.

mod api;
mod bulk;
mod chain;
mod csv;
mod export;
mod query;
mod service;
mod store;
#[cfg(test)]
mod tests;
mod verify;

pub(crate) use bulk::add_made_up;
pub(crate) use service::{Entry, add, add_all, write};
pub use verify::{Broken, Noted, Verification, chained_tenants, verify};

use crate::Domain;

pub(crate) const DOMAIN: Domain = Domain {
    name: "audit",
    prefixes: &["/api/v2/audit"],
    routes: api::routes,
    migrations: store::MIGRATIONS,
};
