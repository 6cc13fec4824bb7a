//! Audit: who did, or was refused, what to which thing, why, and by which revision of the policy.
//!
//! Rows are only added. A change writes its row in its own commit, so neither is there without the other.

mod api;
mod service;
mod store;

pub(crate) use service::{Entry, add, write};

use crate::Domain;

pub(crate) const DOMAIN: Domain = Domain {
    name: "audit",
    prefixes: &["/api/v2/audit"],
    routes: api::routes,
    migrations: store::MIGRATIONS,
};
