//! `http_fetch`: reads a page of the web, through the egress guard and nothing else.

use std::time::Duration;

use contracts::model::ToolSpec;
use futures::future::BoxFuture;
use platform::{
    durable::Effect,
    egress::{Egress, GetLimits},
};
use serde_json::{Value, json};

use super::{Call, Outcome, Tool, toolbox::OUTPUT_BYTES_MAX};

const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct HttpFetch(Egress);

impl HttpFetch {
    pub(super) fn new(egress: Egress) -> Self {
        Self(egress)
    }
}

impl Tool for HttpFetch {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "http_fetch".into(),
            description: "Reads a public http or https address by GET; answers status, type and text.".into(),
            parameters: json!({
                "type": "object",
                "properties": { "url": { "type": "string" } },
                "required": ["url"],
                "additionalProperties": false,
            }),
        }
    }

    fn effect(&self) -> Effect {
        Effect::Repeatable
    }

    fn call(&self, call: Call) -> BoxFuture<'static, Outcome> {
        let egress = self.0.clone();
        Box::pin(async move {
            let url = call.arguments.get("url").and_then(Value::as_str).unwrap_or_default();
            let limits = GetLimits { body_bytes_max: OUTPUT_BYTES_MAX, total_timeout: TIMEOUT };
            match egress.get(url, limits).await {
                Ok(page) => {
                    let answer = json!({
                        "status": page.status,
                        "url": page.url,
                        "content_type": page.content_type,
                        "cut": page.truncated,
                        "body": String::from_utf8_lossy(&page.body),
                    });
                    Outcome::success(answer.to_string())
                }
                Err(error) => Outcome::error(format!("{error}.")),
            }
        })
    }
}
