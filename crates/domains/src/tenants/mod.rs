//! Tenants: the walls between customers. Every row of every other domain carries its tenant.

mod api;
mod service;
mod store;

pub use service::{
    DEFAULT_SLUG, Error, NewTenant, TenantName, create, default_tenant, ensure_default, slugs,
};
pub(crate) use service::{by_slug, name_of};

use crate::Domain;

pub(crate) const DOMAIN: Domain = Domain {
    name: "tenants",
    prefixes: &["/api/v2/tenant"],
    routes: api::routes,
    migrations: store::MIGRATIONS,
};
