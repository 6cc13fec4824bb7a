//! Whether this program's workflow fits histories of runs: the workflow is run over them, and no step is.

use temporalio_client::{
    WorkflowFetchHistoryOptions, WorkflowHistory, WorkflowListOptions, errors::ClientError,
};
use temporalio_sdk::workflow_replayer::{
    WorkflowReplayError, WorkflowReplayFailure, WorkflowReplayer, WorkflowReplayerOptions,
};

use contracts::{RunId, engine::EngineError};
use futures::{StreamExt, TryStreamExt};

use crate::{
    connection::call_options,
    engine::{TemporalEngine, bounded, unavailable},
    host::{Apart, Host, Hosted},
};

/// Whole histories are asked for at once: what they may be in all.
const HISTORIES_MAX: usize = 10_000;

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("this is no history: {0}")]
    NoHistory(String),
    /// A worker of this program would end the run as failed.
    #[error("{0}")]
    DoesNotFit(String),
    #[error("the history can't be replayed: {0}")]
    Failed(String),
}

/// Replays one history, as JSON in Temporal's own form.
pub async fn replay<H: Host>(history: &[u8]) -> Result<(), ReplayError> {
    let history = WorkflowHistory::from_json(history);
    let history = history.map_err(|error| ReplayError::NoHistory(error.to_string()))?;
    // Which queue a step is asked for on is no part of what is compared.
    let hosted = || Hosted::<H>::new(Apart::none());
    let options = WorkflowReplayerOptions::new().register_workflow_with_factory(hosted);
    let options = options.map_err(|error| ReplayError::Failed(error.to_string()))?.build();
    let replayer = WorkflowReplayer::new(options).map_err(|error| ReplayError::Failed(error.to_string()))?;
    replayer.replay_workflow(history).await.map_err(|error| match error {
        WorkflowReplayError::Replay(WorkflowReplayFailure::InvalidHistory { message }) => {
            ReplayError::NoHistory(message)
        }
        WorkflowReplayError::Replay(failure) => ReplayError::DoesNotFit(failure.to_string()),
        other => ReplayError::Failed(other.to_string()),
    })
}

impl TemporalEngine {
    /// The history of a run so far, as JSON; `None` for one that the server does not know.
    pub async fn history(&self, run: RunId) -> Result<Option<Vec<u8>>, EngineError> {
        let handle = self.handle(run).await?;
        let options = WorkflowFetchHistoryOptions::builder().rpc_options(call_options()).build();
        if self.fate(run).await? == crate::Fate::Unknown {
            return Ok(None);
        }
        let history = bounded(handle.fetch_history(options).to_json()).await?;
        history.map(Some).map_err(unavailable)
    }

    /// Runs under way on this engine's queue, as far as the server has listed them yet; at most 10,000.
    pub async fn under_way(&self) -> Result<Vec<RunId>, EngineError> {
        let client = self.client().await?;
        let query = format!(
            "WorkflowType = '{}' AND TaskQueue = '{}' AND ExecutionStatus = 'Running'",
            self.workflow, self.config.task_queue
        );
        let options = WorkflowListOptions::builder().limit(HISTORIES_MAX).rpc_options(call_options()).build();
        let listed = client.list_workflows(query, options);
        let ids = listed.map(|found: Result<_, ClientError>| found.map(|found| found.id().parse().ok()));
        let runs: Vec<Option<RunId>> = ids.try_collect().await.map_err(unavailable)?;
        Ok(runs.into_iter().flatten().collect())
    }

    /// How many runs a query of the server's matches.
    pub async fn matching(&self, query: &str) -> Result<usize, EngineError> {
        let client = self.client().await?;
        let options = temporalio_client::WorkflowCountOptions::builder().rpc_options(call_options()).build();
        let counted = bounded(client.count_workflows(query, options)).await?.map_err(unavailable)?;
        Ok(counted.count())
    }
}
