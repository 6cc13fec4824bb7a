//! Test tools, one for each effect class. They exist only in a test build (feature `faults`).
//!
//! Each tells an outside ledger of its effect (`SOMA_EFFECTS_URL`), the transactional one its own table, so that a
//! test can count what really happened.

use std::sync::{Arc, LazyLock};

use contracts::model::ToolSpec;
use futures::future::BoxFuture;
use platform::{
    database::{Migration, Sql},
    durable::Effect,
    params,
};
use serde_json::{Value, json};

use super::{Call, Outcome, Tool};

pub(super) const MIGRATION: Migration = Migration {
    name: "tools_test_0001_effects",
    // No unique key: a repeated effect must show, not fail.
    postgres: None,
    statements: &["CREATE TABLE test_effects (idempotency_key TEXT NOT NULL, note TEXT NOT NULL)"],
};

const NAMES: [(&str, Effect); 4] = [
    ("fx_repeatable", Effect::Repeatable),
    ("fx_transactional", Effect::Transactional),
    ("fx_idempotent", Effect::Idempotent),
    ("fx_at_most_once", Effect::AtMostOnce),
];

/// The policy's catalogue of these tools.
pub(super) fn catalogue() -> Value {
    let tools: serde_json::Map<String, Value> =
        NAMES.iter().map(|(name, _)| ((*name).to_owned(), json!({ "enabled": true }))).collect();
    json!({ "tool_catalog": tools })
}

#[expect(clippy::disallowed_methods, reason = "a test switch is no setting: it exists in no released binary")]
static LEDGER_URL: LazyLock<String> = LazyLock::new(|| std::env::var("SOMA_EFFECTS_URL").unwrap_or_default());

#[expect(
    clippy::disallowed_methods,
    reason = "the outside ledger of a test is no address that a tool may name"
)]
static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(reqwest::Client::new);

#[derive(Debug)]
pub(super) struct Effects(pub(super) Effect);

impl Effects {
    fn name(&self) -> &'static str {
        NAMES.iter().find(|(_, effect)| *effect == self.0).map_or("fx", |(name, _)| name)
    }
}

impl Tool for Effects {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: self.name().into(),
            description: "Records an effect.".into(),
            parameters: json!({
                "type": "object",
                "properties": { "note": { "type": "string" } },
                "required": ["note"],
                "additionalProperties": false,
            }),
        }
    }

    fn effect(&self) -> Effect {
        self.0
    }

    fn call(&self, call: Call) -> BoxFuture<'static, Outcome> {
        let effect = self.0;
        Box::pin(async move {
            let note = call.arguments.get("note").and_then(Value::as_str).unwrap_or_default().to_owned();
            let key = call.idempotency_key;
            let mut outcome = Outcome::success(format!("done: {note}"));
            if effect == Effect::Transactional {
                outcome.change = Some(Arc::new(move |tx| {
                    let (key, note) = (key.clone(), note.clone());
                    Box::pin(async move {
                        let sql = "INSERT INTO test_effects (idempotency_key, note) VALUES ($1, $2)";
                        tx.run(sql, params![key, note]).await?;
                        Ok(())
                    })
                }));
                return outcome;
            }
            let url = format!("{}/effects/{}", *LEDGER_URL, effect.as_str());
            let mut request = CLIENT.post(url).json(&json!({ "run": call.run, "call": key, "note": note }));
            if effect == Effect::Idempotent {
                request = request.header("Idempotency-Key", &key);
            }
            match request.send().await.and_then(reqwest::Response::error_for_status) {
                Ok(_) => outcome,
                Err(error) => Outcome::error(format!("the outside ledger: {error}")),
            }
        })
    }
}
