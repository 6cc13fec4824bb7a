//! Who runs the turns: this process, or workers behind a Temporal server. One workflow source for both.

use std::{sync::Arc, time::Duration};

use domains::{
    App,
    agents::{self, CallModel, EmbeddedTurns, Finish, RunTool},
};
use platform::config::{Config, WorkflowChoice};
use temporal::TemporalEngine;

temporal::host! {
    /// The turn of an agent, as a Temporal worker hosts it.
    pub Turn = "turn", version 1, worker App,
    run |context| agents::turn(&context),
    steps [CallModel, Finish],
    // Tools touch files and run code: whoever does that can be kept apart from who holds the model's key.
    apart [RunTool],
}

/// The engine that this process starts runs on.
#[derive(Debug)]
pub enum Turns {
    Embedded(Arc<EmbeddedTurns>),
    Temporal,
}

impl Turns {
    /// Gives the app its engine. Nothing runs before a run is started on it.
    pub fn attach(app: &Arc<App>) -> Self {
        match temporal_config(&app.config) {
            None => Self::Embedded(EmbeddedTurns::start(app)),
            Some(config) => {
                app.set_engine(Arc::new(TemporalEngine::new(config, <Turn as temporal::Host>::NAME)));
                Self::Temporal
            }
        }
    }

    /// Lets steps under way in this process end.
    pub async fn drain(&self, bound: Duration) {
        if let Self::Embedded(turns) = self {
            turns.drain(bound).await;
        }
    }
}

/// Where the Temporal server is; `None` when workflows are embedded.
pub fn temporal_config(config: &Config) -> Option<temporal::Config> {
    let WorkflowChoice::Temporal(server) = &config.workflows.choice else { return None };
    Some(temporal::Config {
        server: server.clone(),
        namespace: config.workflows.namespace.clone(),
        task_queue: config.workflows.queue.clone(),
        apart_queue: config.workflows.tools_queue.clone(),
        deployment: config.workflows.deployment.clone(),
    })
}
