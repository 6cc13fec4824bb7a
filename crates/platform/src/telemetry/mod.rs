//! Logs to stderr, metrics for Prometheus, and traces for an OpenTelemetry collector.

mod otlp;
mod traces;

use std::io::IsTerminal;

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

pub use traces::{Kind, Span, Traces, Value, enabled as traces_enabled, traceparent};

/// Starts logging. `filter` is as in `info,platform=debug`. A second call changes nothing.
pub fn start_logs(filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    drop(tracing_subscriber::registry().with(filter).with(lines).try_init());
}

/// Buckets of every duration, in seconds.
const SECONDS: &[f64] =
    &[0.000_05, 0.000_5, 0.005, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Renders the metrics as text.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics(..)")
    }
}

impl Metrics {
    /// Starts counting in this process, once.
    pub fn start() -> Result<Self, BuildError> {
        Ok(Self(PrometheusBuilder::new().set_buckets(SECONDS)?.install_recorder()?))
    }

    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }
}
