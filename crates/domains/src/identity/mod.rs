//! Identity: users, their memberships, and the API keys that prove who calls.
//!
//! Users are global; a membership carries the tenant. A key is one user in one tenant: its rights are the roles held
//! there that its scopes allow. Only a key's hash is stored.

mod api;
mod authenticate;
mod service;
mod store;

pub(crate) use authenticate::Sessions;
pub use authenticate::{Authenticated, require_caller};
pub(crate) use service::is_member;
pub use service::{Error, NewKey, create_admin, create_key_for_email, ensure_user, issue_key};

use crate::Domain;

pub(crate) const DOMAIN: Domain = Domain {
    name: "identity",
    prefixes: &["/api/v2/me", "/api/v2/api-keys"],
    routes: api::routes,
    migrations: store::MIGRATIONS,
};
