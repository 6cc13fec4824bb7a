//! The embedded engine behind the gateway's view of an engine.

use std::{sync::Arc, time::Duration};

use contracts::{
    RunId,
    engine::{EngineError, Start, WorkflowEngine},
};
use platform::durable::Engine;

use super::turn;
use crate::App;

/// Runs turns in this process.
#[derive(Debug)]
pub struct EmbeddedTurns(Arc<Engine<App>>);

impl EmbeddedTurns {
    /// Builds the engine around `app` and gives it to it.
    #[must_use]
    pub fn start(app: &Arc<App>) -> Arc<Self> {
        let at_once = app.config.workflows.concurrency;
        let engine = Engine::new(Arc::clone(app), app.ledger.clone(), at_once, |context| async move {
            turn(&context).await
        });
        let turns = Arc::new(Self(engine));
        app.set_engine(Arc::<Self>::clone(&turns));
        turns
    }

    /// Lets steps under way end.
    pub async fn drain(&self, bound: Duration) {
        self.0.drain(bound).await;
    }
}

#[async_trait::async_trait]
impl WorkflowEngine for EmbeddedTurns {
    async fn start_turn(&self, start: &Start) -> Result<(), EngineError> {
        self.0.start(start.run);
        Ok(())
    }

    async fn cancel_turn(&self, run: RunId) -> Result<(), EngineError> {
        self.0.cancel(run);
        Ok(())
    }

    async fn signal_turn(&self, run: RunId, _name: &str) -> Result<(), EngineError> {
        self.0.signalled(run);
        Ok(())
    }

    /// A workflow in this process never ends without telling its worker.
    async fn is_over(&self, _run: RunId) -> Result<bool, EngineError> {
        Ok(false)
    }

    async fn ready(&self) -> Result<(), EngineError> {
        Ok(())
    }
}
