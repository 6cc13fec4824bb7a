//! A collector of traces that takes OTLP over HTTP in its JSON encoding, as strictly as its definition has it, and
//! keeps what it took.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{Json, Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::server::Server;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReceivedSpan {
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// 16 hexadecimal digits.
    pub span_id: String,
    #[serde(default)]
    pub parent_span_id: Option<String>,
    pub name: String,
    pub kind: u8,
    pub start_time_unix_nano: String,
    pub end_time_unix_nano: String,
    attributes: Vec<Attribute>,
    #[serde(default)]
    pub status: Option<Status>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    pub code: u8,
    #[serde(default)]
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attribute {
    key: String,
    value: AnyValue,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
enum AnyValue {
    #[serde(rename = "stringValue")]
    Text(String),
    /// 64 bits, so text.
    #[serde(rename = "intValue")]
    Number(String),
    #[serde(rename = "arrayValue")]
    List { values: Vec<AnyValue> },
}

impl AnyValue {
    fn json(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Number(number) => json!(number.parse::<i64>().ok()),
            Self::List { values } => values.iter().map(Self::json).collect(),
        }
    }
}

impl ReceivedSpan {
    /// An attribute's value; null when it is not there.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Value {
        let found = self.attributes.iter().find(|attribute| attribute.key == key);
        found.map_or(Value::Null, |attribute| attribute.value.json())
    }

    fn is_well_formed(&self) -> bool {
        let hex = |text: &str, digits: usize| {
            text.len() == digits
                && text.bytes().all(|byte| byte.is_ascii_hexdigit())
                && text.bytes().any(|b| b != b'0')
        };
        let time = |text: &str| text.parse::<u64>().ok().filter(|time| *time > 1_600_000_000_000_000_000);
        hex(&self.trace_id, 32)
            && hex(&self.span_id, 16)
            && self.parent_span_id.as_deref().is_none_or(|parent| hex(parent, 16))
            && time(&self.start_time_unix_nano).is_some()
            && time(&self.start_time_unix_nano) <= time(&self.end_time_unix_nano)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Export {
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans {
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Deserialize)]
struct ScopeSpans {
    spans: Vec<ReceivedSpan>,
}

#[derive(Debug, Default)]
struct Kept {
    spans: Mutex<(Vec<ReceivedSpan>, String)>,
    stuck: AtomicBool,
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, (Vec<ReceivedSpan>, String)> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub struct TraceReceiver {
    server: Server,
    kept: Arc<Kept>,
}

impl TraceReceiver {
    /// # Panics
    /// When loopback has no free port.
    #[must_use]
    pub fn start() -> Self {
        let kept = Arc::<Kept>::default();
        let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&kept));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::start("trace-receiver", address, router).expect("a free port");
        Self { server, kept }
    }

    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.address())
    }

    #[must_use]
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        self.kept.lock().0.clone()
    }

    /// All that was ever sent here.
    #[must_use]
    pub fn text(&self) -> String {
        self.kept.lock().1.clone()
    }

    /// From now on no request is answered.
    pub fn get_stuck(&self) {
        self.kept.stuck.store(true, Ordering::SeqCst);
    }
}

async fn take(State(kept): State<Arc<Kept>>, body: Bytes) -> Result<Json<Value>, StatusCode> {
    if kept.stuck.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    let export: Export = serde_json::from_slice(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
    let scopes = export.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    let spans: Vec<ReceivedSpan> = scopes.flat_map(|scope| scope.spans).collect();
    if !spans.iter().all(ReceivedSpan::is_well_formed) {
        return Err(StatusCode::BAD_REQUEST);
    }
    let mut all = kept.lock();
    all.0.extend(spans);
    all.1.push_str(&String::from_utf8_lossy(&body));
    Ok(Json(json!({})))
}
