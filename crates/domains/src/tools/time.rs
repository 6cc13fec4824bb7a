//! `timestamp`: the time now.

use contracts::model::ToolSpec;
use futures::future::BoxFuture;
use platform::{
    durable::{Effect, unix_ms},
    http,
};
use serde_json::json;

use super::{Call, Outcome, Tool};

#[derive(Debug)]
pub(super) struct Timestamp;

impl Tool for Timestamp {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "timestamp".into(),
            description: "The date and time now, in UTC (RFC 3339).".into(),
            parameters: json!({ "type": "object", "properties": {}, "additionalProperties": false }),
        }
    }

    fn effect(&self) -> Effect {
        Effect::Repeatable
    }

    fn call(&self, _call: Call) -> BoxFuture<'static, Outcome> {
        Box::pin(async {
            match serde_json::to_value(http::Timestamp(unix_ms())) {
                Ok(serde_json::Value::String(text)) => Outcome::success(text),
                _ => Outcome::error("The clock can't be read."),
            }
        })
    }
}
