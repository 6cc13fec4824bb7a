//! The workflow engine as the gateway sees it: it starts a run, signals and cancels it, and knows nothing of how.

use crate::{AgentId, RunId, TenantId};

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine can't be reached. The run stays queued and is started later.
    #[error("the workflow engine is not available: {0}")]
    Unavailable(String),
}

/// A run to be worked on, and what an operator may find it by where the engine can be searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    pub run: RunId,
    pub tenant: TenantId,
    pub agent: AgentId,
}

#[async_trait::async_trait]
pub trait WorkflowEngine: Send + Sync + std::fmt::Debug {
    /// Starts workflow `turn` for a run. Starting a run twice is one run.
    async fn start_turn(&self, start: &Start) -> Result<(), EngineError>;

    /// Asks a run to stop. A run that has ended, or that the engine doesn't know, is left as it is.
    async fn cancel_turn(&self, run: RunId) -> Result<(), EngineError>;

    /// Wakes a run that waits for this signal, or will. Sending it twice is sending it once. The signal must be
    /// recorded before (`durable::signal`): whoever finds that the engine was not told tells it again.
    async fn signal_turn(&self, run: RunId, name: &str) -> Result<(), EngineError>;

    /// Whether the engine knows that a run's workflow has ended. A run that still counts as at work then ended without
    /// a word (an operator terminated it, or its code no longer fits its history) and is to be ended by who asks.
    async fn is_over(&self, run: RunId) -> Result<bool, EngineError>;

    /// Whether runs can be started now, for readiness.
    async fn ready(&self) -> Result<(), EngineError>;
}
