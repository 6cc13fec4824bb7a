//! OTLP over HTTP, in its JSON encoding: what an OpenTelemetry collector takes at `/v1/traces`.

use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value as Json, json};
use url::Url;

use super::traces::{Finished, Value, dropped};

/// One message, sent and answered.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// A collector that is away is told of this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// OTLP's status of a span that failed.
const STATUS_ERROR: u8 = 2;

#[derive(Debug)]
pub(super) struct Exporter {
    client: Client,
    url: String,
    complained: Option<Instant>,
}

impl Exporter {
    pub(super) fn new(endpoint: &Url, client: Client) -> Self {
        let url = format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/'));
        Self { client, url, complained: None }
    }

    /// Sends the spans once. What is not taken is dropped: a trace is no record.
    pub(super) async fn export(&mut self, spans: &[Finished]) {
        if spans.is_empty() {
            return;
        }
        let request = self.client.post(&self.url).timeout(SEND_TIMEOUT).json(&message(spans));
        let problem = match request.send().await {
            Ok(response) if response.status().is_success() => return,
            Ok(response) => format!("it answered {}", response.status()),
            Err(error) => error.without_url().to_string(),
        };
        dropped("not_taken", spans.len());
        if self.complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
            self.complained = Some(Instant::now());
            tracing::warn!(problem, "the trace collector does not take spans; they are dropped");
        }
    }
}

fn message(spans: &[Finished]) -> Json {
    let spans: Vec<Json> = spans.iter().map(span).collect();
    let resource =
        attributes(&[("service.name", "soma".into()), ("service.version", env!("CARGO_PKG_VERSION").into())]);
    json!({ "resourceSpans": [{
        "resource": { "attributes": resource },
        "scopeSpans": [{ "scope": { "name": "soma" }, "spans": spans }],
    }] })
}

/// Ids are hexadecimal here and times are text, as OTLP has them in JSON.
fn span(span: &Finished) -> Json {
    let mut fields = json!({
        "traceId": format!("{:032x}", span.trace),
        "spanId": format!("{:016x}", span.id),
        "name": span.name,
        "kind": span.kind as u8,
        "startTimeUnixNano": span.began.to_string(),
        "endTimeUnixNano": span.ended.to_string(),
        "attributes": attributes(&span.attributes),
    });
    if let Some(parent) = span.parent {
        fields["parentSpanId"] = format!("{parent:016x}").into();
    }
    if let Some(why) = &span.error {
        fields["status"] = json!({ "code": STATUS_ERROR, "message": why });
    }
    fields
}

fn attributes(attributes: &[(&'static str, Value)]) -> Vec<Json> {
    let text = |text: &String| json!({ "stringValue": text });
    let value = |value: &Value| match value {
        Value::Text(one) => text(one),
        Value::Number(number) => json!({ "intValue": number.to_string() }),
        Value::Texts(all) => json!({ "arrayValue": { "values": all.iter().map(text).collect::<Vec<_>>() } }),
    };
    attributes.iter().map(|(name, attribute)| json!({ "key": name, "value": value(attribute) })).collect()
}
