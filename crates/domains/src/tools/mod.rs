//! Tools: what an agent can do besides talking.
//!
//! [`Toolbox`] holds them by name. Each tool says what it needs, as a JSON Schema, and what it does to the world, as
//! an effect class; the turn asks the policy before any call and writes the ledger around it.

mod api;
mod code;
#[cfg(feature = "faults")]
mod effects;
mod fetch;
mod files;
mod store;
mod time;
mod toolbox;
mod workspaces;

pub(crate) use toolbox::{CALL_TIMEOUT, WORKSPACE_BYTES_MAX, bounded};
pub use toolbox::{Call, NoTools, Outcome, Probed, Status, Tool, Toolbox, Tools, load_policy};
pub use workspaces::{NotShared, are_shared};

use crate::Domain;

pub(crate) const DOMAIN: Domain = Domain {
    name: "tools",
    prefixes: &["/api/v2/tools"],
    routes: api::routes,
    migrations: store::MIGRATIONS,
};
