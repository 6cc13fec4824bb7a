//! Drops the events of runs that ended long ago. Their record stays: messages, state, tokens and cost.

use platform::{database::Error, durable::unix_ms};

use super::store;
use crate::App;

/// Runs looked at in one sweep.
const RUNS_AT_ONCE: i64 = 50;
/// Events dropped in one commit: others wait for it.
const EVENTS_AT_ONCE: i64 = 500;
/// Commits in one sweep.
const COMMITS_MAX: usize = 100;

/// Drops what is past its time, a bounded part of it.
pub(super) async fn sweep(app: &App) -> Result<(), Error> {
    let before = unix_ms().saturating_sub(app.config.run_events_kept_ms);
    let mut commits = 0;
    for run in store::events::aged(app.database.read(), before, RUNS_AT_ONCE).await? {
        loop {
            commits += 1;
            if commits > COMMITS_MAX {
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
