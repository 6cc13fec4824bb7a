//! Sums with names that people know.

use std::collections::BTreeMap;

use contracts::{Caller, policy::Resource};
use platform::{database::Error as StoreError, http::Timestamp};

use super::{
    api::UsageItem,
    store::{By, Sum, Window},
};
use crate::{
    App, agents,
    authority::{self, Denied},
    conversations, identity, models,
};

/// Sums in one answer.
const ITEMS_MAX: i64 = 1000;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(super) async fn usage(
    app: &App,
    caller: &Caller,
    window: Window,
    by: By,
) -> Result<Vec<UsageItem>, Error> {
    authority::require(app, caller, "billing:view_usage", Resource::any("usage")).await?;
    let connection = app.database.read();
    let mut sums = conversations::usage(connection, caller.tenant, window, by, ITEMS_MAX).await?;
    sums.extend(models::usage(connection, caller.tenant, window, by, ITEMS_MAX).await?);
    let mut items = Vec::new();
    for sum in merged(sums) {
        items.push(item(app, caller, by, sum).await?);
    }
    // They come by key, as days are shown.
    if by != By::Day {
        items.sort_by_key(|item| std::cmp::Reverse((item.cost_micros, item.runs)));
    }
    items.truncate(usize::try_from(ITEMS_MAX).unwrap_or(usize::MAX));
    Ok(items)
}

/// One sum for each key, in the order of the keys.
fn merged(sums: Vec<Sum>) -> impl Iterator<Item = Sum> {
    let mut by_key: BTreeMap<String, Sum> = BTreeMap::new();
    for sum in sums {
        match by_key.get_mut(&sum.key) {
            None => drop(by_key.insert(sum.key.clone(), sum)),
            Some(whole) => {
                whole.runs = whole.runs.saturating_add(sum.runs);
                whole.input_tokens = whole.input_tokens.saturating_add(sum.input_tokens);
                whole.output_tokens = whole.output_tokens.saturating_add(sum.output_tokens);
                whole.cost_micros = whole.cost_micros.saturating_add(sum.cost_micros);
            }
        }
    }
    by_key.into_values()
}

async fn item(app: &App, caller: &Caller, by: By, sum: Sum) -> Result<UsageItem, StoreError> {
    let connection = app.database.read();
    let (key, label) = match by {
        By::Day => {
            let start = Timestamp(sum.key.parse().unwrap_or_default()).to_string();
            let day = start.split('T').next().unwrap_or_default().to_owned();
            (day.clone(), day)
        }
        By::Agent if sum.key.is_empty() => (sum.key, "models called by name".to_owned()),
        By::Agent => {
            let agent = agents::find(connection, caller.tenant, &sum.key).await?;
            (sum.key.clone(), agent.map_or(sum.key, |agent| agent.name))
        }
        By::User => {
            let email = match sum.key.parse() {
                Ok(user) => identity::email_of(connection, user).await?,
                Err(_) => None,
            };
            (sum.key.clone(), email.unwrap_or(sum.key))
        }
        By::Model if sum.key.is_empty() => (sum.key, "no model was asked".to_owned()),
        By::Model => (sum.key.clone(), sum.key),
    };
    Ok(UsageItem {
        key,
        label,
        runs: sum.runs,
        input_tokens: sum.input_tokens,
        output_tokens: sum.output_tokens,
        cost_micros: sum.cost_micros,
    })
}
