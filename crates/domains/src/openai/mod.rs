//! OpenAI's API under `/v1`: a model by its name passes through to the configured server, `agent/<slug>` runs an agent.
//!
//! `api` parses; `pass` holds money, forwards bytes and reads the usage as they pass; `error` is the one place where
//! an error takes OpenAI's shape. `agent` puts a request as a question to an agent and follows its run; `hearing` makes
//! of the run's events what a client hears. What is asked of a model here is never stored, what is asked of an agent
//! only where the request says so.

mod agent;
mod api;
mod chunks;
mod embedded;
mod error;
mod hearing;
mod listing;
mod meter;
mod pass;
mod request;
mod responding;
mod responses;

pub use error::in_openais_shape;

use crate::Domain;

pub(crate) const DOMAIN: Domain =
    Domain { name: "openai", prefixes: &["/v1"], routes: api::routes, migrations: &[] };
