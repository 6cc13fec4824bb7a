//! OpenAI's API under `/v1`: a model by its name passes through to the configured server, `agent/<slug>` runs an agent.
//!
//! `api` parses; `pass` holds money, forwards bytes and reads the usage as they pass; `error` is the one place where
//! an error takes OpenAI's shape. What is asked of a model here is never stored.

mod api;
mod error;
mod listing;
mod meter;
mod pass;

pub use error::in_openais_shape;

use crate::Domain;

pub(crate) const DOMAIN: Domain =
    Domain { name: "openai", prefixes: &["/v1"], routes: api::routes, migrations: &[] };
