//! `soma serve`: the gateway, and the embedded engine when workflows are embedded.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use domains::{DOMAINS, approvals, conversations, models};
use platform::{
    config::WorkflowChoice,
    lease::{Duty, Lease},
    telemetry::{self, Metrics},
    vault::Standing,
};
use tokio_util::sync::CancellationToken;

use super::{Failure, settings, stop_on_signal, watch};
use crate::{
    build,
    events::Carriers,
    gateway::{self, Gateway, Tls},
    turns::Turns,
};

/// How long open requests and steps under way may take to end after SIGTERM.
const DRAIN: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where to listen, as ADDRESS:PORT; SA01_LISTEN when absent. Port 0 takes a free one.
    #[arg(long)]
    listen: Option<SocketAddr>,
}

pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let (config, session) = settings().await?;
    telemetry::start_logs(&config.log);
    let listen = arguments.listen.unwrap_or(config.listen);
    let tls = config.gateway.tls.clone().map(Tls::open).transpose();
    let tls = tls.map_err(|error| Failure::Configuration(error.to_string()))?.map(Arc::new);
    // Held until the last turn here has ended, however the process ends.
    let lease = match config.workflows.choice {
        WorkflowChoice::Embedded => {
            domains::prepare_database(&config).map_err(Failure::failed)?;
            let lease = Lease::acquire(&config.database, Duty::Workflows).await.map_err(Failure::failed)?;
            Some(lease.keep(config.database.clone()))
        }
        WorkflowChoice::Temporal(_) => None,
    };
    let traces = build::traces(&config)?;
    let metrics = Metrics::start().map_err(Failure::failed)?;
    let standing = session.as_ref().map(|_| Standing::default());
    let calls_tools = lease.is_some();
    let app = build::app(config, calls_tools, Some(metrics), standing.clone()).await?;
    if lease.is_none() {
        build::shares_workspaces(&app).await?;
    }
    let stop = app.stopping.clone();
    let secrets = watch(session, standing, &stop);
    let lost = lease.as_ref().map_or_else(CancellationToken::new, |lease| lease.lost().clone());
    let (stopping, losing) = (stop.clone(), lost.clone());
    tokio::spawn(async move {
        losing.cancelled().await;
        stopping.cancel();
    });
    let router = gateway::router(Arc::clone(&app), DOMAINS)?;
    let gateway = Gateway::new(router, app.config.gateway.clone(), tls.clone(), stop.clone());
    let turns = Turns::attach(&app);
    // With a Temporal server workers do this.
    let carriers = match turns {
        Turns::Embedded(_) => Carriers::start(&app, &stop)?,
        Turns::Temporal => Carriers::default(),
    };
    conversations::resume(&app).await.map_err(Failure::failed)?;
    conversations::abandon_left_asks(&app).await;
    let sweep = tokio::spawn(conversations::sweep(Arc::clone(&app), stop.clone()));
    let calls_sweep = tokio::spawn(models::sweep(Arc::clone(&app), stop.clone()));
    let asks_sweep = tokio::spawn(conversations::sweep_asks(Arc::clone(&app), stop.clone()));
    let approvals = tokio::spawn(approvals::sweep(Arc::clone(&app), stop.clone()));

    let listener = gateway::listen(listen)
        .map_err(|error| Failure::Failed(format!("{listen} can't be listened on: {error}")))?;
    let address = listener.local_addr().map_err(Failure::failed)?;
    // Before anyone can know that this process is up.
    stop_on_signal(&stop)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    if let Some(tls) = tls {
        tokio::spawn(tls.watch(stop.clone()));
    }
    println!("listening on {scheme}://{address}");
    tracing::info!(%address, "ready");
    gateway.serve(listener, DRAIN).await;

    drop(sweep.await);
    drop(calls_sweep.await);
    drop(asks_sweep.await);
    drop(approvals.await);
    carriers.end().await;
    let secrets = secrets.end().await;
    // Where another process works on the database by now, the turns go on there; and without a right to its secrets this
    // one does nothing more.
    if secrets.is_ok() {
        lost.run_until_cancelled(turns.drain(DRAIN)).await;
    }
    app.calls.flush().await;
    app.model.shut_down();
    if let Some(traces) = traces {
        traces.finish().await;
    }
    let lease = match lease {
        Some(lease) => lease.end().await,
        None => Ok(()),
    };
    // Whoever runs this has to hear that it did not end because it was asked to.
    lease.map_err(Failure::failed)?;
    secrets?;
    Ok(ExitCode::SUCCESS)
}
