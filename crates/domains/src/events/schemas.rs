//! The schemas of events, and the check of an event against its own, before it goes out and when it comes in.

use std::{collections::BTreeMap, sync::LazyLock};

use contracts::events::Letter;
use jsonschema::Validator;
use serde_json::Value;

use super::{
    ASSISTANT_FINAL, AUDIT_ENTRY, BUDGET_THRESHOLD, LLM_CALL, RUN_DONE, TOOL_RESULT, TOOL_START, USER_MESSAGE,
};

/// Every type of event, and its JSON Schema.
const SCHEMAS: &[(&str, &str)] = &[
    (ASSISTANT_FINAL, include_str!("../../../../schemas/assistant.final.json")),
    (RUN_DONE, include_str!("../../../../schemas/run.done.json")),
    (TOOL_START, include_str!("../../../../schemas/tool.start.json")),
    (TOOL_RESULT, include_str!("../../../../schemas/tool.result.json")),
    (LLM_CALL, include_str!("../../../../schemas/llm.call.json")),
    (BUDGET_THRESHOLD, include_str!("../../../../schemas/budget.threshold.json")),
    (AUDIT_ENTRY, include_str!("../../../../schemas/audit.entry.json")),
    (USER_MESSAGE, include_str!("../../../../schemas/user.message.json")),
];

/// A schema that can't be read leaves its type without one, and so without any event that fits.
static VALIDATORS: LazyLock<BTreeMap<&str, Validator>> = LazyLock::new(|| {
    let read = |(kind, text): &(&'static str, &str)| {
        let schema: Value = serde_json::from_str(text).ok()?;
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).ok()?;
        Some((*kind, validator))
    };
    SCHEMAS.iter().filter_map(read).collect()
});

/// What is wrong with an event of this type.
pub(super) fn fault(kind: &str, event: &Value) -> Option<String> {
    let Some(validator) = VALIDATORS.get(kind) else { return Some(format!("`{kind}` is no type of event")) };
    let fault = validator.iter_errors(event).next()?;
    let at = fault.instance_path().to_string();
    Some(if at.is_empty() { fault.to_string() } else { format!("{at}: {fault}") })
}

/// Whether an event fits its schema, before it goes out.
pub fn check(letter: &Letter) -> Result<(), String> {
    let event: Value = serde_json::from_str(&letter.payload).map_err(|error| error.to_string())?;
    let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
    fault(kind, &event).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_schema_that_knows_its_name_and_refuses_others() {
        for (kind, text) in SCHEMAS {
            assert!(VALIDATORS.contains_key(kind), "{kind}");
            assert!(text.contains(&format!("\"$id\": \"{}\"", contracts::events::schema_of(kind))), "{kind}");
            let event = serde_json::json!({ "event_id": "e", "type": kind, "version": "sa01-v1" });
            assert!(fault(kind, &event).is_some_and(|fault| fault.contains("required")), "{kind}");
        }
        assert!(fault("no.such", &serde_json::json!({})).is_some());
    }
}
