//! Traces for an OpenTelemetry collector: spans of requests, runs, model calls and tool calls. No span carries what
//! anybody said.
//!
//! A run's trace has the run's own id, so that whoever works on it, after whatever crash, adds to the same one.
//! Where nobody listens nothing is made. Where the collector is slow or away spans are dropped and counted; nothing
//! waits for it.

use std::{
    sync::OnceLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use contracts::RunId;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::otlp::Exporter;
use crate::egress::{self, ClientOptions, Egress};

/// Spans that wait to be sent. More are dropped.
const QUEUE_MAX: usize = 2048;
/// Spans of one message, and how long the first of them waits for others.
const BATCH_MAX: usize = 512;
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// What the last message may take when the process ends.
const LAST_WAIT: Duration = Duration::from_secs(2);

static QUEUE: OnceLock<mpsc::Sender<Finished>> = OnceLock::new();

/// Whether anybody listens, for what costs a query.
#[must_use]
pub fn enabled() -> bool {
    QUEUE.get().is_some()
}

/// On whose side of a call a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(String),
    Number(i64),
    Texts(Vec<String>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// A span that has ended. Times are nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finished {
    pub trace: u128,
    pub id: u64,
    pub parent: Option<u64>,
    pub name: String,
    pub kind: Kind,
    pub began: u128,
    pub ended: u128,
    pub attributes: Vec<(&'static str, Value)>,
    /// Why what it stands for failed.
    pub error: Option<String>,
}

/// A span under way: it ends when it is dropped. Without anybody to listen it is nothing.
#[derive(Debug)]
#[must_use = "a span ends when it is dropped"]
pub struct Span(Option<Box<(Finished, Instant)>>);

impl Span {
    /// A request's span. It goes on with the trace that the client names (W3C Trace Context), and is left out where
    /// the client's trace is not recorded.
    pub fn of_request(traceparent: Option<&str>, name: impl FnOnce() -> String) -> Self {
        if !enabled() {
            return Self(None);
        }
        match traceparent.and_then(parse) {
            Some(Parent { recorded: false, .. }) => Self(None),
            Some(parent) => Self::new(parent.trace, Some(parent.span), name(), Kind::Server),
            None => Self::new(rand::random(), None, name(), Kind::Server),
        }
    }

    /// A part of a run.
    pub fn of_run(run: RunId, kind: Kind, name: impl FnOnce() -> String) -> Self {
        if !enabled() {
            return Self(None);
        }
        let trace = trace_of(run);
        Self::new(trace, Some(span_of(trace)), name(), kind)
    }

    /// A whole run, which began at that time: the parent of its parts.
    pub fn whole_run(run: RunId, name: String, began_ms: i64) -> Self {
        if !enabled() {
            return Self(None);
        }
        let trace = trace_of(run);
        let mut span = Self::new(trace, None, name, Kind::Internal);
        if let Some(open) = &mut span.0 {
            open.0.id = span_of(trace);
            open.0.began = u128::try_from(began_ms).unwrap_or_default() * 1_000_000;
        }
        span
    }

    fn new(trace: u128, parent: Option<u64>, name: String, kind: Kind) -> Self {
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let id = rand::random::<u64>().max(1);
        let attributes = Vec::with_capacity(8);
        let span = Finished { trace, id, parent, name, kind, began, ended: 0, attributes, error: None };
        Self(Some(Box::new((span, Instant::now()))))
    }

    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(open) = &mut self.0 {
            open.0.attributes.push((name, value.into()));
        }
    }

    /// What the span stands for has failed.
    pub fn fail(&mut self, why: &str) {
        if let Some(open) = &mut self.0 {
            open.0.error = Some(why.to_owned());
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let (Some(open), Some(queue)) = (self.0.take(), QUEUE.get()) else { return };
        let (mut span, started) = *open;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        // A clock that was set back meanwhile makes no span that ends before it begins.
        span.ended =
            now.max(span.began + if span.parent.is_some() { started.elapsed().as_nanos() } else { 0 });
        if queue.try_send(span).is_err() {
            dropped("queue_full", 1);
        }
    }
}

pub(super) fn dropped(reason: &'static str, spans: usize) {
    let spans = u64::try_from(spans).unwrap_or(u64::MAX);
    metrics::counter!("otel_spans_dropped_total", "reason" => reason).increment(spans);
}

/// The run's id is the trace's.
fn trace_of(run: RunId) -> u128 {
    u128::from_str_radix(&run.to_string().replace('-', ""), 16).unwrap_or_default()
}

/// How a run's trace is named to others (W3C Trace Context); nothing where no trace is made.
#[must_use]
pub fn traceparent(run: RunId) -> Option<String> {
    let trace = trace_of(run);
    enabled().then(|| format!("00-{trace:032x}-{:016x}-01", span_of(trace)))
}

/// The random half of the run's id.
fn span_of(trace: u128) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
    let low = trace as u64;
    low.max(1)
}

struct Parent {
    trace: u128,
    span: u64,
    recorded: bool,
}

/// `00-TRACE-SPAN-FLAGS`; of a later version what this one knows.
fn parse(text: &str) -> Option<Parent> {
    let mut parts = text.trim().split('-');
    let hex = |part: Option<&str>, digits: usize| {
        part.filter(|part| part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit()))
            .map(str::to_owned)
    };
    let version = hex(parts.next(), 2)?;
    let trace = u128::from_str_radix(&hex(parts.next(), 32)?, 16).ok()?;
    let span = u64::from_str_radix(&hex(parts.next(), 16)?, 16).ok()?;
    let flags = u8::from_str_radix(&hex(parts.next(), 2)?, 16).ok()?;
    let valid = version != "ff" && trace != 0 && span != 0 && (version != "00" || parts.next().is_none());
    valid.then_some(Parent { trace, span, recorded: flags & 1 == 1 })
}

/// What sends spans, until it is told to end.
#[derive(Debug)]
pub struct Traces {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Traces {
    /// Starts sending to a collector, once in a process. `endpoint` ends before `/v1/traces`.
    pub fn start(endpoint: &Url, egress: &Egress) -> Result<Self, egress::Error> {
        let options =
            ClientOptions { connect_timeout: Duration::from_secs(5), read_timeout: Duration::from_secs(10) };
        let exporter = Exporter::new(endpoint, egress.client_for(endpoint, options)?);
        let (queue, spans) = mpsc::channel(QUEUE_MAX);
        let stop = CancellationToken::new();
        let task = tokio::spawn(send(spans, exporter, stop.clone()));
        if QUEUE.set(queue).is_err() {
            tracing::warn!("traces are sent already");
        }
        Ok(Self { stop, task })
    }

    /// Sends what waits.
    pub async fn finish(self) {
        self.stop.cancel();
        if tokio::time::timeout(LAST_WAIT, self.task).await.is_err() {
            tracing::warn!("the last spans were not taken in time");
        }
    }
}

async fn send(mut spans: mpsc::Receiver<Finished>, mut exporter: Exporter, stop: CancellationToken) {
    loop {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let first = stop.run_until_cancelled(spans.recv()).await;
        if let Some(Some(span)) = first {
            batch.push(span);
            let more = async {
                while batch.len() < BATCH_MAX
                    && let Some(span) = spans.recv().await
                {
                    batch.push(span);
                }
            };
            // Whichever it is that ends the wait, what came is sent.
            let _ = stop.run_until_cancelled(tokio::time::timeout(BATCH_WAIT, more)).await;
        }
        if stop.is_cancelled() {
            while let Ok(span) = spans.try_recv() {
                batch.push(span);
            }
        }
        exporter.export(&batch).await;
        if stop.is_cancelled() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_trace_is_gone_on_with() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parent = parse(good).unwrap();
        assert_eq!(
            (parent.trace, parent.span),
            (0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, 0xb7ad_6b71_6920_3331)
        );
        assert!(parent.recorded && !parse(&good.replace("-01", "-00")).unwrap().recorded);
        assert!(parse("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-later").is_some());
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_runs_trace_is_its_id() {
        let run: RunId = "0199c0de-0000-7000-8000-0000000000ff".parse().unwrap();
        assert_eq!(trace_of(run), 0x0199_c0de_0000_7000_8000_0000_0000_00ff);
        assert_eq!(span_of(trace_of(run)), 0x8000_0000_0000_00ff);
    }
}
