//! `soma serve`: the gateway, and the embedded engine when workflows are embedded.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use axum::{Json, Router, extract::Request, http::HeaderName, middleware, routing::get, serve::ListenerExt};
use domains::{App, DOMAINS, approvals, conversations, identity};
use platform::{
    config::WorkflowChoice,
    durable::Lease,
    http::Problem,
    telemetry::{self, Metrics},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::{
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    trace::TraceLayer,
};

use super::{Failure, config, stop_on_signal};
use crate::{build, turns::Turns};

/// How long open requests and steps under way may take to end after SIGTERM.
const DRAIN: Duration = Duration::from_secs(20);
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where to listen, as ADDRESS:PORT; SA01_LISTEN when absent. Port 0 takes a free one.
    #[arg(long)]
    listen: Option<SocketAddr>,
}

pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let config = config()?;
    telemetry::start_logs(&config.log);
    let listen = arguments.listen.unwrap_or(config.listen);
    // Held until the process ends, however it ends.
    let lease = match config.workflows.choice {
        WorkflowChoice::Embedded => {
            domains::prepare_database(&config).map_err(Failure::failed)?;
            Some(Lease::acquire(&config.database).await.map_err(Failure::failed)?)
        }
        WorkflowChoice::Temporal(_) => None,
    };
    let metrics = Metrics::start().map_err(Failure::failed)?;
    let app = build::app(config, Some(metrics)).await?;
    let router = router(Arc::clone(&app))?;
    let stop = CancellationToken::new();
    let turns = Turns::attach(&app);
    conversations::resume(&app).await.map_err(Failure::failed)?;
    let sweep = tokio::spawn(conversations::sweep(Arc::clone(&app), stop.clone()));
    let approvals = tokio::spawn(approvals::sweep(Arc::clone(&app), stop.clone()));

    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| Failure::Failed(format!("{listen} can't be listened on: {error}")))?;
    let address = listener.local_addr().map_err(Failure::failed)?;
    // Before anyone can know that this process is up.
    stop_on_signal(&stop)?;
    println!("listening on http://{address}");
    tracing::info!(%address, "ready");
    serve_until_signalled(listener, router, &stop).await?;

    drop(sweep.await);
    drop(approvals.await);
    turns.drain(DRAIN).await;
    app.model.shut_down();
    drop(lease);
    Ok(ExitCode::SUCCESS)
}

/// Every route, each behind the credential check but for the public few.
pub fn router(app: Arc<App>) -> Result<Router, Failure> {
    let assembled = domains::assemble(DOMAINS).map_err(Failure::failed)?;
    let document = Arc::new(assembled.openapi);
    let openapi = get(move || {
        let document = Arc::clone(&document);
        async move { Json(document) }
    });
    Ok(assembled
        .router
        .route("/api/openapi.json", openapi)
        .fallback(|| async { Problem::not_found() })
        .method_not_allowed_fallback(|| async {
            let detail = "This path does not take this method; /api/openapi.json lists what it takes.";
            Problem::new(axum::http::StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&app), identity::require_caller))
        .layer(CatchPanicLayer::custom(|_| {
            axum::response::IntoResponse::into_response(Problem::internal(&"a handler panicked"))
        }))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID.clone()))
        .layer(TraceLayer::new_for_http().make_span_with(|request: &Request| {
            let header = |name: &HeaderName| {
                request
                    .headers()
                    .get(name)
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or_default()
                    .to_owned()
            };
            let traceparent = header(&HeaderName::from_static("traceparent"));
            tracing::info_span!("request", method = %request.method(), path = request.uri().path(),
                request_id = header(&REQUEST_ID), traceparent)
        }))
        .layer(SetRequestIdLayer::new(REQUEST_ID.clone(), MakeRequestUuid))
        .with_state(app))
}

async fn serve_until_signalled(
    listener: TcpListener,
    router: Router,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let stopped = stop.clone();
    // A stream's small pieces must not wait for the client's acknowledgement of the piece before: that costs 40 ms.
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "a connection without TCP_NODELAY");
        }
    });
    let graceful = axum::serve(listener, router)
        .with_graceful_shutdown(async move { stopped.cancelled().await })
        .into_future();
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    // A stream that a client holds open does not keep the process: it can be resumed elsewhere.
    tokio::select! {
        served = graceful => served.map_err(Failure::failed),
        () = overdue => Ok(()),
    }
}
