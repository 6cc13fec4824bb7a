//! The last step of a turn that did not end with an answer: settles what is open, closes calls that were cut off,
//! and tells the stream.

use std::{sync::Arc, time::Duration};

use platform::{
    database::{Error, Tx},
    durable::{Attempt, Completed, Options, Step, StepError},
    faults,
};
use serde::{Deserialize, Serialize};

use super::{run_tool::Ended, store};
use crate::{
    App, approvals,
    conversations::{
        self,
        journal::{self, Run, RunState},
    },
    tools::Toolbox,
};

/// Ends the run as cancelled, or as failed with this code.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Finish {
    pub code: String,
    pub message: String,
}

impl Step for Finish {
    type Worker = App;
    type Output = ();
    const NAME: &'static str = "finish";
    const OPTIONS: Options =
        Options { timeout: Duration::from_secs(30), attempts_max: 10, backoff: Duration::from_millis(200) };

    async fn run(self, app: Arc<App>, attempt: Attempt) -> Result<Completed<()>, StepError> {
        let run_id = attempt.run_id();
        let run = journal::find_run(app.database.read(), run_id)
            .await?
            .ok_or_else(|| StepError::failed("no_run", "The run's row is gone."))?;
        let toolbox = app.tools.get().await.ok();
        let conversation = run.conversation;
        let completed = attempt
            .complete((), move |tx| {
                Box::pin(async move {
                    settle(tx, toolbox.as_deref(), &run).await?;
                    if self.code == StepError::Cancelled.code() {
                        journal::finish(tx, run_id, RunState::Cancelled, None).await?;
                    } else {
                        journal::finish(tx, run_id, RunState::Failed, Some((&self.code, &self.message)))
                            .await?;
                    }
                    faults::point("finish_before_commit");
                    Ok(())
                })
            })
            .await?;
        faults::point("finish_committed");
        app.hub.wake(run_id);
        conversations::start_next(&app, conversation).await?;
        Ok(completed)
    }
}

/// Closes what a run leaves open that ends without an answer: calls that were cut off, questions to people, money that
/// is held.
pub(crate) async fn settle(tx: &Tx, toolbox: Option<&Toolbox>, run: &Run) -> Result<(), Error> {
    for call in store::open_calls(tx, run.id).await? {
        Ended::cut_off(toolbox, call, run.conversation).write(tx).await?;
    }
    approvals::cancel_open(tx, run.id).await?;
    journal::settle_lost_calls(tx, run.tenant, run.user, run.id, None).await
}
