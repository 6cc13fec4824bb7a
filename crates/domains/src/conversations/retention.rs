//! Drops the events of runs that ended long ago. Their record stays: messages, state, tokens and cost.
//!
//! How long ago is the install's setting, and a shorter one where the platform or a tenant has set it.

use contracts::{RunId, TenantId};
use platform::{database::Error, durable::unix_ms};

use super::store;
use crate::{App, tenants};

/// Runs looked at in one sweep, of all tenants and of each that keeps them for a shorter time.
const RUNS_AT_ONCE: i64 = 50;
/// Events dropped in one commit: others wait for it.
const EVENTS_AT_ONCE: i64 = 500;
/// Commits in one sweep.
const COMMITS_MAX: usize = 100;

/// Drops what is past its time, a bounded part of it.
pub(super) async fn sweep(app: &App) -> Result<(), Error> {
    let now = unix_ms();
    let of_all = tenants::run_events_kept_ms(app).await?;
    let mut commits = 0;
    drop_aged(app, None, now.saturating_sub(of_all), &mut commits).await?;
    for (tenant, kept_ms) in tenants::shorter_run_events(app).await? {
        drop_aged(app, Some(tenant), now.saturating_sub(kept_ms), &mut commits).await?;
    }
    Ok(())
}

async fn drop_aged(
    app: &App,
    tenant: Option<TenantId>,
    before: i64,
    commits: &mut usize,
) -> Result<(), Error> {
    let aged: Vec<RunId> = match tenant {
        None => store::events::aged(app.database.read(), before, RUNS_AT_ONCE).await?,
        Some(tenant) => store::events::aged_of(app.database.read(), tenant, before, RUNS_AT_ONCE).await?,
    };
    for run in aged {
        loop {
            *commits += 1;
            if *commits > COMMITS_MAX {
                return Ok(());
            }
            let drop_some =
                app.database.write(move |tx| Box::pin(store::events::drop_some(tx, run, EVENTS_AT_ONCE)));
            if drop_some.await? {
                break;
            }
        }
    }
    Ok(())
}
