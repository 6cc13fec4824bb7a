//! Permissions: who holds which role where, what was given or denied to one user, and a tenant's own roles. What a role
//! of the catalogue may do is the policy's data, and whether something is allowed is the policy's word alone: this
//! domain says what a user holds (`service`), who may give it (`giving`), and what the policy makes of it (`explain`,
//! `dry_run`).

mod api;
mod dry_run;
mod explain;
mod giving;
mod grants;
mod roles;
mod service;
mod store;

pub(crate) use giving::{Leaving, NotGiveable, forget_in, giveable, is_platforms, may_give};
pub use service::{PLATFORM_ADMIN, Rights, TENANT_OWNER};
pub(crate) use service::{assign_in, rights_of, roles_named, set_roles_of_groups_in};

use crate::Domain;

/// Roles of its own that a tenant may have.
const ROLES_MAX: usize = 100;
/// Grants that a user may have in a tenant: each is part of every question to the policy.
const GRANTS_OF_USER_MAX: i64 = 50;

pub(crate) const DOMAIN: Domain = Domain {
    name: "permissions",
    prefixes: &["/api/v2/permissions"],
    routes: api::routes,
    migrations: store::MIGRATIONS,
};
