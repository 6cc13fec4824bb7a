//! Agents: who answers, with which prompt, tools and bounds; and the turn, the workflow that answers a message.
//!
//! `turn` is the workflow; `call_model`, `run_tool` and `finish` are its steps; `context` decides what a model is
//! shown, `bounds` what a turn may take. Only ids travel between them.

mod api;
mod bounds;
mod call_model;
mod context;
mod engine;
mod events;
mod finish;
mod form;
mod may_call;
mod run_tool;
mod service;
mod spans;
mod steps;
mod store;
#[cfg(test)]
mod tests;
mod turn;

pub(crate) use api::Agent;
pub(crate) use bounds::OVERTIME_MAX;
pub use call_model::CallModel;
pub use engine::EmbeddedTurns;
pub use finish::Finish;
pub(crate) use finish::settle;
pub use run_tool::RunTool;
pub use service::ensure_default;
pub(crate) use service::{add_default, every, find, forget_run, get};
pub(crate) use spans::invoke_agent as invoke_agent_span;
pub(crate) use steps::calls_of_steps;
pub use turn::turn;

use crate::Domain;

pub(crate) const DOMAIN: Domain = Domain {
    name: "agents",
    prefixes: &["/api/v2/agents"],
    routes: api::routes,
    migrations: store::MIGRATIONS,
};
