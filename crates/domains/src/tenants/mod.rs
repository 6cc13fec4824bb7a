//! Tenants: the walls between customers. Every row of every other domain carries its tenant.
//!
//! `standing` is whether a tenant may be worked in at all, and what it asks of each request; `settings` is what is set for the platform, a tenant, an
//! agent or a user, and where a value comes from.

mod api;
pub mod operator;
mod service;
pub(crate) mod settings;
mod standing;
mod store;

pub use api::{Suspension, Tenant};
pub use service::{
    DEFAULT_SLUG, Error, NewTenant, TenantName, create, default_tenant, ensure_default, slugs,
};
pub(crate) use service::{by_slug, name_of};
pub(crate) use settings::{MfaPolicy, run_events_kept_ms, shorter_run_events};
pub use standing::{Standing, Standings, Status};

use crate::Domain;

pub(crate) const DOMAIN: Domain = Domain {
    name: "tenants",
    prefixes: &["/api/v2/tenant", "/api/v2/tenants", "/api/v2/settings"],
    routes: api::routes,
    migrations: store::MIGRATIONS,
};
