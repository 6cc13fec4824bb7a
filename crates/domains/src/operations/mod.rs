//! Operations: is it alive, can it work, how much does it do.

mod api;

use crate::Domain;

pub(crate) const DOMAIN: Domain =
    Domain { name: "operations", prefixes: &["/health", "/metrics"], routes: api::routes, migrations: &[] };
