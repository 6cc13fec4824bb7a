//! Usage: what a tenant's runs and calls of models took, in tokens and money, by day, agent, user or model.
//!
//! It keeps nothing: the sums are those of the runs and calls themselves.

mod api;
mod service;
mod store;

pub(crate) use store::{By, Sum, Window, read, sums_of};

use crate::Domain;

pub(crate) const DOMAIN: Domain =
    Domain { name: "usage", prefixes: &["/api/v2/usage"], routes: api::routes, migrations: &[] };
