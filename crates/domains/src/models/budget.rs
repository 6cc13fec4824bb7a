//! Budgets: money is reserved before a model call and settled after it.
//!
//! Three limits hold at once: the tenant's, the user's, and the run's own. A reservation that does not fit is a hard
//! stop. Sums are whole millionths of a US dollar. A call that was lost settles at all that was reserved for it:
//! its provider may have charged it.
//!
//! That much of a tenant's or a user's limit is spent is told outside, once for each of [`THRESHOLDS`].

use contracts::{
    Caller, RunId, TenantId, UserId,
    events::{About, Topic},
    model::Usage,
    policy::Resource,
};
use platform::{
    config::Config,
    database::{Error as StoreError, Tx},
};
use serde_json::json;

use super::{
    api::{Budget, SetBudget},
    store,
};
use crate::{App, audit, authority, authority::Denied, events};

const MILLION: u128 = 1_000_000;
/// Parts of a limit, in percent, that are told of when they are spent.
const THRESHOLDS: [u8; 4] = [50, 80, 90, 100];

/// What a model's tokens cost, in millionths of a US dollar for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    pub input: u64,
    pub output: u64,
}

impl Price {
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self { input: config.model.input_price, output: config.model.output_price }
    }

    /// Millionths of a US dollar, rounded up: a budget is never short by a fraction.
    #[must_use]
    pub fn cost(&self, usage: Usage) -> u64 {
        let input = u128::from(usage.input_tokens) * u128::from(self.input);
        let output = u128::from(usage.output_tokens) * u128::from(self.output);
        u64::try_from(input.saturating_add(output).div_ceil(MILLION)).unwrap_or(u64::MAX)
    }
}

/// US dollars, for people and programs outside: sums are kept as whole millionths.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "nothing is added up from it")]
pub(crate) fn dollars(micros: u64) -> f64 {
    micros as f64 / 1_000_000.0
}

/// Which budget has no room for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OverBudget {
    TenantOrUser,
    Run,
}

/// Who pays for one attempt at one model call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Charge {
    pub tenant: TenantId,
    pub user: UserId,
    pub run: RunId,
    pub ordinal: u32,
    pub run_limit: Option<u64>,
}

/// Makes an account without a limit, unless it is there.
pub(crate) async fn open_account(
    tx: &Tx,
    tenant: TenantId,
    scope: &'static str,
    id: &str,
) -> Result<(), StoreError> {
    store::insert_account(tx, tenant, scope, id).await
}

/// Reserves, or says which budget is full. Nothing is held of a reservation that does not fit.
pub(crate) async fn reserve(
    tx: &Tx,
    charge: Charge,
    amount: u64,
) -> Result<Result<(), OverBudget>, StoreError> {
    let taken = store::run_total(tx, charge.run).await?;
    if charge.run_limit.is_some_and(|limit| taken.saturating_add(amount) > limit) {
        return Ok(Err(OverBudget::Run));
    }
    if !store::hold(tx, charge.tenant, charge.user, amount).await? {
        return Ok(Err(OverBudget::TenantOrUser));
    }
    store::insert_reservation(tx, &charge, amount).await?;
    Ok(Ok(()))
}

/// Settles the open reservation of one call at its real cost.
pub(crate) async fn settle(tx: &Tx, charge: Charge, cost: u64) -> Result<(), StoreError> {
    for reserved in store::take_open(tx, charge.run, Some(charge.ordinal), Some(cost)).await? {
        release(tx, charge.tenant, charge.user, reserved, cost).await?;
    }
    Ok(())
}

/// Settles what is still open of a run, or of one of its calls, at the full amount. Answers the sum.
pub(crate) async fn settle_open(
    tx: &Tx,
    tenant: TenantId,
    user: UserId,
    run: RunId,
    ordinal: Option<u32>,
) -> Result<u64, StoreError> {
    let mut sum = 0_u64;
    for reserved in store::take_open(tx, run, ordinal, None).await? {
        release(tx, tenant, user, reserved, reserved).await?;
        sum = sum.saturating_add(reserved);
    }
    Ok(sum)
}

/// Gives back what was held, and takes what it came to.
pub(super) async fn release(
    tx: &Tx,
    tenant: TenantId,
    user: UserId,
    reserved: u64,
    cost: u64,
) -> Result<(), StoreError> {
    for budget in store::release(tx, tenant, user, reserved, cost).await? {
        let before = part_spent(budget.spent_micros.saturating_sub(cost), budget.limit_micros);
        tell_if_passed(tx, tenant, before, &budget);
    }
    Ok(())
}

/// The highest of the thresholds that a budget has reached: 0 where it has reached none, or has no limit.
fn part_spent(spent: u64, limit: Option<u64>) -> u8 {
    let Some(limit) = limit else { return 0 };
    let reached = |part: &u8| u128::from(spent) * 100 >= u128::from(limit) * u128::from(*part);
    THRESHOLDS.into_iter().rfind(reached).unwrap_or(0)
}

fn tell_if_passed(tx: &Tx, tenant: TenantId, before: u8, budget: &Budget) {
    let now = part_spent(budget.spent_micros, budget.limit_micros);
    if now <= before {
        return;
    }
    events::tell(tx, Topic::BudgetEvents, events::BUDGET_THRESHOLD, tenant, About::default(), || {
        json!({
            "scope": budget.scope,
            "budget_id": budget.id,
            "threshold_percent": now,
            "limit_micros": budget.limit_micros,
            "spent_micros": budget.spent_micros,
        })
    });
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("no such budget")]
    NotFound,
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(super) async fn list(app: &App, caller: &Caller) -> Result<Vec<Budget>, Error> {
    authority::require(app, caller, "billing:view_usage", Resource::any("budget")).await?;
    Ok(store::accounts(app.database.read(), caller.tenant).await?)
}

pub(super) async fn set(app: &App, caller: &Caller, id: String, new: SetBudget) -> Result<(), Error> {
    let permit = authority::require(app, caller, "billing:change_plan", Resource::new("budget", &id)).await?;
    let tenant = caller.tenant;
    let entry = permit.entry(json!({ "limit_micros": new.limit_micros }));
    app.database
        .write(move |tx| {
            Box::pin(async move {
                let mut budget = store::account(tx, tenant, &id).await?.ok_or(Error::NotFound)?;
                let before = part_spent(budget.spent_micros, budget.limit_micros);
                store::set_limit(tx, tenant, &id, new.limit_micros).await?;
                budget.limit_micros = new.limit_micros;
                tell_if_passed(tx, tenant, before, &budget);
                Ok(audit::add(tx, &entry).await?)
            })
        })
        .await
}

#[cfg(test)]
pub(crate) async fn accounts_for_test(app: &App, tenant: TenantId) -> Vec<Budget> {
    store::accounts(app.database.read(), tenant).await.unwrap()
}

#[cfg(test)]
mod tests {
    use contracts::model::Usage;

    use super::{Price, part_spent};

    #[test]
    fn a_cost_is_exact_and_rounded_up() {
        let price = Price { input: 150_000, output: 600_000 };
        assert_eq!(price.cost(Usage { input_tokens: 1_000_000, output_tokens: 0 }), 150_000);
        assert_eq!(price.cost(Usage { input_tokens: 1, output_tokens: 1 }), 1);
        assert_eq!(price.cost(Usage::default()), 0);
        let huge = Price { input: u64::MAX, output: u64::MAX };
        assert_eq!(huge.cost(Usage { input_tokens: u64::MAX, output_tokens: u64::MAX }), u64::MAX);
    }

    #[test]
    fn the_part_that_is_spent_is_the_highest_threshold_reached() {
        for (spent, limit, part) in [
            (0, Some(10), 0),
            (4, Some(10), 0),
            (5, Some(10), 50),
            (7, Some(10), 50),
            (8, Some(10), 80),
            (9, Some(10), 90),
            (10, Some(10), 100),
            (11, Some(10), 100),
            (0, Some(0), 100),
            (u64::MAX, Some(u64::MAX), 100),
            (u64::MAX, None, 0),
        ] {
            assert_eq!(part_spent(spent, limit), part, "{spent} of {limit:?}");
        }
    }
}
