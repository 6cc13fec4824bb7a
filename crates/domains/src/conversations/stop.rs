//! Stops whatever is at work in a tenant, as part of the change that closes it.

use contracts::{RunId, TenantId};
use platform::database::{Error, Tx};

use super::{
    dispatch,
    journal::{self, RunState},
    store,
};
use crate::App;

/// Runs that were stopped by a change; once it is committed, [`Self::tell`] tells their workflows and readers.
#[must_use]
#[derive(Debug)]
pub(crate) struct Stopped(Vec<(RunId, RunState)>);

/// Cancels every unfinished run of a tenant: one that waits is over at once, one at work is asked to stop.
pub(crate) async fn stop_all(tx: &Tx, tenant: TenantId) -> Result<Stopped, Error> {
    let open = store::runs::open_in_tenant(tx, tenant).await?;
    for (run, state) in &open {
        if *state == RunState::Queued {
            journal::finish(tx, *run, RunState::Cancelled, None).await?;
        } else {
            store::runs::set_cancelling(tx, *run).await?;
        }
    }
    Ok(Stopped(open))
}

impl Stopped {
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) async fn tell(self, app: &App) {
        for (run, state) in self.0 {
            app.hub.wake(run);
            // An engine that can't be told now is told by the sweep.
            if state != RunState::Queued {
                dispatch::cancel(app, run).await;
            }
        }
    }
}
