//! Conversations: where people talk to agents, message by message, run by run.
//!
//! `api` -> `service` (policy, rules) -> `store` (SQL). A message is stored, together with its run, before anything
//! is answered. `journal` is what a running turn reads and writes here; `dispatch` starts runs and finds those that a
//! crash left; `stream` gives a run's events to whoever listens, and `ws` does so over a WebSocket that takes messages
//! too. `retention` drops events past their time. Model calls never happen here; they belong to `agents`.

mod api;
mod bulk;
mod dispatch;
pub(crate) mod journal;
mod retention;
mod service;
mod stop;
mod store;
mod stream;
mod ws;

pub(crate) use bulk::{MadeUp, add as add_made_up, any};
pub(crate) use dispatch::{fail_lost, signal};
pub use dispatch::{resume, start_next, sweep};
pub(crate) use journal::{Brief, DONE, Run, RunEvent, RunState};
pub use service::asks::{abandon_left as abandon_left_asks, sweep as sweep_asks};
pub(crate) use service::messages::send_text as send;
pub(crate) use service::{
    Error,
    asks::{Asked, Question, abandon, ask, events_of, forget},
    runs::{cancel as cancel_run, get as kept_run},
};
pub(crate) use stop::{Stopped, stop_all};
pub(crate) use store::usage::sums as usage;
pub(crate) use stream::{Broken, follow_new};

#[cfg(test)]
pub(crate) use service::test_access::{
    events as events_for_test, run_states as run_states_for_test, send as send_for_test,
};

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

pub(crate) use ws::Sockets;

use crate::{App, Domain};

/// Longest message, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Longest title that somebody gives a conversation.
pub(crate) const TITLE_CHARS_MAX: usize = 200;
/// How much of its first message a conversation has as its title at first.
pub(crate) const TITLE_AT_FIRST_CHARS: usize = 50;
/// Messages that may wait in one conversation.
pub(crate) const QUEUED_RUNS_MAX: i64 = 100;

pub(crate) const DOMAIN: Domain = Domain {
    name: "conversations",
    prefixes: &["/api/v2/conversations", "/api/v2/runs", "/ws/v2/chat"],
    routes,
    migrations: store::MIGRATIONS,
};

fn routes() -> OpenApiRouter<Arc<App>> {
    api::routes().merge(ws::routes())
}
