//! Permissions: who holds which role where. What a role may do is the policy's data.

mod api;
mod giving;
mod service;
mod store;

pub(crate) use giving::{NotGiveable, forget_in, giveable, is_platforms, may_give};
pub use service::{PLATFORM_ADMIN, Rights, TENANT_OWNER};
pub(crate) use service::{assign_in, rights_of, roles_named, set_roles_of_groups_in};

use crate::Domain;

pub(crate) const DOMAIN: Domain = Domain {
    name: "permissions",
    prefixes: &["/api/v2/permissions"],
    routes: api::routes,
    migrations: store::MIGRATIONS,
};
