//! The gateway's side: starts runs, signals and cancels them.

use std::fmt;

use contracts::{
    RunId,
    engine::{EngineError, Start, WorkflowEngine},
};
use temporalio_client::{
    Client, UntypedSignal, UntypedWorkflow, WorkflowCancelOptions, WorkflowDescribeOptions,
    WorkflowExecutionStatus, WorkflowHandle, WorkflowIdReusePolicy, WorkflowSignalOptions,
    WorkflowStartOptions,
    errors::{WorkflowInteractionError, WorkflowStartError},
};
use temporalio_common::data_converters::RawValue;
use tokio::sync::Mutex;

use crate::{
    attributes,
    connection::{CALL_TIMEOUT, Config, call_options, describe_namespace},
};

/// Runs as workflows of one name on one queue. Connects when it is first needed; a server that goes away and comes
/// back is found again.
pub struct TemporalEngine {
    pub(crate) config: Config,
    pub(crate) workflow: String,
    client: Mutex<Option<Client>>,
}

impl fmt::Debug for TemporalEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemporalEngine")
            .field("config", &self.config)
            .field("workflow", &self.workflow)
            .finish()
    }
}

/// What became of a run, as far as the server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Never started, or forgotten: closed longer ago than the namespace keeps histories.
    Unknown,
    Running,
    /// Over. [`platform::durable::Worker::ended`] was called, unless an operator terminated the workflow or its code
    /// no longer fits its history: a run that still counts as running is then to be ended by whoever asks.
    Closed,
}

impl TemporalEngine {
    #[must_use]
    pub fn new(config: Config, workflow: &str) -> Self {
        Self { config, workflow: workflow.to_owned(), client: Mutex::new(None) }
    }

    /// What became of a run: for sweeping up runs whose workflow ended without a word.
    pub async fn fate(&self, run: RunId) -> Result<Fate, EngineError> {
        let handle = self.handle(run).await?;
        match bounded(handle.describe(WorkflowDescribeOptions::builder().rpc_options(call_options()).build()))
            .await?
        {
            Ok(description) if description.status() == WorkflowExecutionStatus::Running => Ok(Fate::Running),
            Ok(_) => Ok(Fate::Closed),
            Err(WorkflowInteractionError::NotFound(_)) => Ok(Fate::Unknown),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Bytes and events of a run's history.
    pub async fn history_size(&self, run: RunId) -> Result<(i64, i64), EngineError> {
        let handle = self.handle(run).await?;
        let options = WorkflowDescribeOptions::builder().rpc_options(call_options()).build();
        let description = bounded(handle.describe(options)).await?.map_err(unavailable)?.into_raw();
        let info = description.workflow_execution_info.unwrap_or_default();
        Ok((info.history_size_bytes, info.history_length))
    }

    pub(crate) async fn client(&self) -> Result<Client, EngineError> {
        // The bound is around the lock too: who waits behind others must not wait for each of them.
        bounded(async {
            let mut client = self.client.lock().await;
            if let Some(client) = &*client {
                return Ok(client.clone());
            }
            // Once made, a connection mends itself.
            let made = self.config.connect().await.map_err(unavailable)?;
            Ok(client.insert(made).clone())
        })
        .await?
    }

    pub(crate) async fn handle(
        &self,
        run: RunId,
    ) -> Result<WorkflowHandle<Client, UntypedWorkflow>, EngineError> {
        Ok(self.client().await?.get_workflow_handle(run.to_string()))
    }
}

#[async_trait::async_trait]
impl WorkflowEngine for TemporalEngine {
    async fn start_turn(&self, start: &Start) -> Result<(), EngineError> {
        let client = self.client().await?;
        let options = WorkflowStartOptions::new(self.config.task_queue.clone(), start.run.to_string())
            .id_reuse_policy(WorkflowIdReusePolicy::RejectDuplicate)
            .search_attributes(attributes::of(start))
            .rpc_options(call_options())
            .build();
        let workflow = UntypedWorkflow::new(self.workflow.as_str());
        let nothing = RawValue { payloads: Vec::new() };
        match bounded(client.start_workflow(workflow, nothing, options)).await? {
            Ok(_) | Err(WorkflowStartError::AlreadyStarted { .. }) => Ok(()),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn cancel_turn(&self, run: RunId) -> Result<(), EngineError> {
        let handle = self.handle(run).await?;
        match bounded(handle.cancel(WorkflowCancelOptions::builder().rpc_options(call_options()).build()))
            .await?
        {
            Ok(()) | Err(WorkflowInteractionError::NotFound(_)) => Ok(()),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn signal_turn(&self, run: RunId, name: &str) -> Result<(), EngineError> {
        let handle = self.handle(run).await?;
        let options = WorkflowSignalOptions::builder().rpc_options(call_options()).build();
        let nothing = RawValue { payloads: Vec::new() };
        match bounded(handle.signal(UntypedSignal::new(name), nothing, options)).await? {
            Ok(()) | Err(WorkflowInteractionError::NotFound(_)) => Ok(()),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn is_over(&self, run: RunId) -> Result<bool, EngineError> {
        Ok(self.fate(run).await? == Fate::Closed)
    }

    async fn ready(&self) -> Result<(), EngineError> {
        let mut client = self.client().await?;
        bounded(describe_namespace(&mut client)).await?.map_err(unavailable)
    }
}

pub(crate) async fn bounded<T>(call: impl Future<Output = T>) -> Result<T, EngineError> {
    let answer = tokio::time::timeout(CALL_TIMEOUT, call).await;
    answer.map_err(|_| EngineError::Unavailable(format!("no answer within {CALL_TIMEOUT:?}")))
}

pub(crate) fn unavailable(error: impl fmt::Display) -> EngineError {
    EngineError::Unavailable(error.to_string())
}
