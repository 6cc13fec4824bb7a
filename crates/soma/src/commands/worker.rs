//! `soma worker`: runs the turns that a Temporal server hands out, and carries events.

use std::{net::SocketAddr, num::NonZeroUsize, process::ExitCode, sync::Arc, time::Duration};

use clap::ValueEnum;
use domains::{App, WATCHED, conversations};
use platform::{
    telemetry::{self, Metrics},
    vault::Standing,
};
use temporal::Part;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Failure, settings, stop_on_signal, watch};
use crate::{
    build,
    events::{Carriers, kafka_config},
    gateway::{self, Gateway},
    turns::{Turn, Turns, temporal_config},
};

/// How long open requests for health and metrics may take after SIGTERM.
const DRAIN: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to work on.
    kind: Kind,
    /// Steps at once, of model calls and of tool calls each, in place of SA01_TURNS_AT_ONCE.
    #[arg(long)]
    concurrency: Option<NonZeroUsize>,
    /// Where it answers /health/live, /health/ready and /metrics, as in 127.0.0.1:9464; nowhere unless told.
    #[arg(long)]
    listen: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Turns, tool calls and events.
    All,
    /// Turns and their model calls. Tool calls wait for a worker with `tools`, or `all`.
    Conversation,
    /// Tool calls.
    Tools,
    /// Events: carries them to Kafka, and takes messages from there.
    Events,
}

impl Kind {
    fn part(self) -> Option<Part> {
        match self {
            Self::All => Some(Part::All),
            Self::Conversation => Some(Part::Workflows),
            Self::Tools => Some(Part::Apart),
            Self::Events => None,
        }
    }

    fn calls_tools(self) -> bool {
        matches!(self, Self::All | Self::Tools)
    }

    fn carries(self) -> bool {
        matches!(self, Self::All | Self::Events)
    }
}

pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let kind = arguments.kind;
    let (config, session) = settings().await?;
    telemetry::start_logs(&config.log);
    let Some(temporal) = temporal_config(&config) else {
        let problem = "SA01_TEMPORAL_HOST: workflows are embedded, and `soma serve` runs them itself; \
                       a worker needs the host:port of a Temporal server";
        return Err(Failure::Configuration(problem.into()));
    };
    if kind == Kind::Events && kafka_config(&config).is_none() {
        let problem = "SA01_KAFKA_BOOTSTRAP_SERVERS: events are embedded, so there are none to work on";
        return Err(Failure::Configuration(problem.into()));
    }
    let concurrency = arguments.concurrency.map_or(config.workflows.concurrency, NonZeroUsize::get);
    let traces = build::traces(&config)?;
    let metrics = arguments.listen.map(|_| Metrics::start().map_err(Failure::failed)).transpose()?;
    let standing = session.as_ref().map(|_| Standing::default());
    let app = build::app(config, kind.calls_tools(), metrics, standing.clone()).await?;
    if kind.calls_tools() {
        build::shares_workspaces(&app).await?;
    }
    Turns::attach(&app);
    // What the app does by itself ends with it, too.
    let stop = app.stopping.clone();
    let watched = arguments.listen.map(|listen| watched(&app, listen, &stop)).transpose()?;
    stop_on_signal(&stop)?;
    let secrets = watch(session, standing, &stop);
    let sweep = tokio::spawn(conversations::sweep(Arc::clone(&app), stop.clone()));
    let carriers = kind.carries().then(|| Carriers::start(&app, &stop)).transpose()?;
    let (queue, tools_queue) = (temporal.task_queue.clone(), temporal.apart_queue.clone());
    let what = match kind {
        Kind::All => format!("queue {queue} and queue {tools_queue}"),
        Kind::Conversation => format!("queue {queue}"),
        Kind::Tools => format!("queue {tools_queue}"),
        Kind::Events => "events".to_owned(),
    };
    tracing::info!(address = temporal.server.address, queue, tools_queue, concurrency, ?kind, "working");
    println!("working on {what}");
    let worked = if let Some(part) = kind.part() {
        let (app, ledger) = (Arc::clone(&app), app.ledger.clone());
        temporal::run_worker::<Turn>(temporal, app, ledger, stop, concurrency, part).await
    } else {
        stop.cancelled().await;
        Ok(())
    };
    if let Some(carriers) = carriers {
        carriers.end().await;
    }
    drop(sweep.await);
    app.model.shut_down();
    if let Some(traces) = traces {
        traces.finish().await;
    }
    if let Some(watched) = watched {
        drop(watched.await);
    }
    worked.map_err(Failure::failed)?;
    secrets.end().await?;
    Ok(ExitCode::SUCCESS)
}

/// Answers whoever watches over this process.
fn watched(app: &Arc<App>, listen: SocketAddr, stop: &CancellationToken) -> Result<JoinHandle<()>, Failure> {
    let router = gateway::router(Arc::clone(app), WATCHED)?;
    let gateway = Gateway::new(router, app.config.gateway.clone(), None, stop.clone());
    let listener = gateway::listen(listen)
        .map_err(|error| Failure::Failed(format!("{listen} can't be listened on: {error}")))?;
    println!("listening on http://{}", listener.local_addr().map_err(Failure::failed)?);
    Ok(tokio::spawn(async move { gateway.serve(listener, DRAIN).await }))
}
