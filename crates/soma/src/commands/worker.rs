//! `soma worker`: runs the turns that a Temporal server hands out.

use std::{process::ExitCode, sync::Arc};

use clap::ValueEnum;
use domains::conversations;
use platform::{telemetry, vault::Standing};
use tokio_util::sync::CancellationToken;

use super::{Failure, settings, stop_on_signal, watch};
use crate::{
    build,
    turns::{Turn, Turns, temporal_config},
};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to work on.
    kind: Kind,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// Every queue.
    All,
}

pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Kind::All = arguments.kind;
    let (config, session) = settings().await?;
    telemetry::start_logs(&config.log);
    let Some(temporal) = temporal_config(&config) else {
        let problem = "SA01_TEMPORAL_HOST: workflows are embedded, and `soma serve` runs them itself; \
                       a worker needs the host:port of a Temporal server";
        return Err(Failure::Configuration(problem.into()));
    };
    let concurrency = config.workflows.concurrency;
    let traces = build::traces(&config)?;
    let standing = session.as_ref().map(|_| Standing::default());
    let app = build::app(config, None, standing.clone()).await?;
    Turns::attach(&app);
    let stop = CancellationToken::new();
    stop_on_signal(&stop)?;
    let secrets = watch(session, standing, &stop);
    let sweep = tokio::spawn(conversations::sweep(Arc::clone(&app), stop.clone()));
    tracing::info!(address = temporal.address, queue = temporal.task_queue, "working");
    println!("working on queue {}", temporal.task_queue);
    let worked =
        temporal::run_worker::<Turn>(temporal, Arc::clone(&app), app.ledger.clone(), stop, concurrency).await;
    drop(sweep.await);
    app.model.shut_down();
    if let Some(traces) = traces {
        traces.finish().await;
    }
    worked.map_err(Failure::failed)?;
    secrets.end().await?;
    Ok(ExitCode::SUCCESS)
}
