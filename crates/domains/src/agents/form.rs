//! The form that an answer must have where somebody asked for one: any JSON, or JSON that fits a schema.

use jsonschema::Validator;
use serde_json::Value;

/// Faults of one answer that are told.
const FAULTS_MAX: usize = 3;

pub(super) enum Form {
    Any,
    Json,
    Schema(Box<Validator>),
}

impl Form {
    /// Of OpenAI's `response_format`, whose schema was checked when it was asked for.
    pub(super) fn new(format: Option<&Value>) -> Self {
        let schema = format.and_then(|format| format.pointer("/json_schema/schema"));
        match (format, schema.and_then(|schema| jsonschema::validator_for(schema).ok())) {
            (None, _) => Self::Any,
            (Some(_), Some(validator)) => Self::Schema(Box::new(validator)),
            (Some(_), None) => Self::Json,
        }
    }

    /// What is wrong with an answer.
    pub(super) fn fault(&self, text: &str) -> Option<String> {
        if matches!(self, Self::Any) {
            return None;
        }
        let value: Value = match serde_json::from_str(text.trim()) {
            Ok(value) => value,
            Err(error) => return Some(format!("The model's answer is no JSON: {error}.")),
        };
        let Self::Schema(validator) = self else { return None };
        let faults: Vec<String> =
            validator.iter_errors(&value).take(FAULTS_MAX).map(|error| error.to_string()).collect();
        (!faults.is_empty())
            .then(|| format!("The model's answer does not fit the schema: {}.", faults.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fault(format: &Value, text: &str) -> Option<String> {
        Form::new(Some(format)).fault(text)
    }

    #[test]
    fn an_answer_has_the_form_that_was_asked_for_or_a_fault() {
        let object = json!({ "type": "json_object" });
        assert_eq!(fault(&object, " {\"a\": 1}\n"), None);
        assert!(fault(&object, "Sure! {}").is_some());
        let schema =
            json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
        let format = json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": schema } });
        assert_eq!(fault(&format, r#"{"n":7}"#), None);
        assert!(fault(&format, r#"{"n":"7"}"#).is_some());
        assert!(Form::new(None).fault("text").is_none());
    }
}
