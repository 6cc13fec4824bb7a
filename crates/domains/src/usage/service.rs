//! Sums with names that people know.

use contracts::{Caller, policy::Resource};
use platform::{database::Error as StoreError, http::Timestamp};

use super::api::UsageItem;
use crate::{
    App, agents,
    authority::{self, Denied},
    conversations::{self, By, Sum, Window},
    identity,
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
    let sums = conversations::usage(app.database.read(), caller.tenant, window, by, ITEMS_MAX).await?;
    let mut items = Vec::with_capacity(sums.len());
    for sum in sums {
        items.push(item(app, caller, by, sum).await?);
    }
    if by == By::Day {
        items.sort_by(|one, other| one.key.cmp(&other.key));
    }
    Ok(items)
}

async fn item(app: &App, caller: &Caller, by: By, sum: Sum) -> Result<UsageItem, StoreError> {
    let connection = app.database.read();
    let (key, label) = match by {
        By::Day => {
            let start = Timestamp(sum.key.parse().unwrap_or_default()).to_string();
            let day = start.split('T').next().unwrap_or_default().to_owned();
            (day.clone(), day)
        }
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
