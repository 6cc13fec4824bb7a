//! Models: the one that this install is configured with, its price, and the budgets that its calls draw on.

mod api;
mod budget;
mod calls;
mod openai;
mod store;

pub use budget::Price;
pub(crate) use budget::{Charge, OverBudget, dollars, open_account, reserve, settle, settle_open};
pub use calls::{Calls, sweep};
pub(crate) use calls::{NewCall, OpenCall};
pub(crate) use openai::{Endpoint, NoAnswer};
pub use openai::{OpenAiModel, PassThrough};
pub(crate) use store::usage::sums as usage;

#[cfg(test)]
pub(crate) use budget::accounts_for_test;

use crate::Domain;

pub(crate) const DOMAIN: Domain = Domain {
    name: "models",
    prefixes: &["/api/v2/models", "/api/v2/budgets"],
    routes: api::routes,
    migrations: store::MIGRATIONS,
};
