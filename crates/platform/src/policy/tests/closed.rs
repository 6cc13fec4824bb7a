//! Whatever breaks denies: a policy's answer of another shape, an error, a text or data that can't be meant.

use contracts::policy::Effect;
use serde_json::{Value, json};

use super::{check, decided, over, read};
use crate::policy::{DATA, DECISION_MODULE, LoadError, Policy, TABLES_MODULE, document};

/// The shipped data under another decision.
fn deciding(decision: &str) -> Result<Policy, LoadError> {
    let text = format!("package soma.policy\nimport rego.v1\nright := decision\n{decision}\n");
    Policy::from_texts(&text, TABLES_MODULE.1, document::parse(DATA).unwrap())
}

#[test]
fn a_decision_of_another_shape_is_a_denial() {
    for decision in [
        "decision := true",
        r#"decision := "allow""#,
        r#"decision := ["allow"]"#,
        r#"decision := {"reason": "r", "obligations": {}}"#,
        r#"decision := {"effect": "maybe", "reason": "r", "obligations": {}}"#,
        r#"decision := {"effect": "ALLOW", "reason": "r", "obligations": {}}"#,
        r#"decision := {"effect": true, "reason": "r", "obligations": {}}"#,
        r#"decision := {"effect": "allow", "obligations": {}}"#,
        r#"decision := {"effect": "allow", "reason": "", "obligations": {}}"#,
        r#"decision := {"effect": "allow", "reason": 1, "obligations": {}}"#,
        r#"decision := {"effect": "allow", "reason": "r"}"#,
        r#"decision := {"effect": "allow", "reason": "r", "obligations": []}"#,
        r#"decision := {"effect": "allow", "reason": "r", "obligations": {}, "unless": "x"}"#,
        r#"decision := {"effect": "allow", "reason": "r", "obligations": {}} if input.nothing"#,
    ] {
        let policy = deciding(decision).unwrap();
        check(&policy, &read(), Effect::Deny, "malformed_decision");
    }
}

#[test]
fn an_error_while_deciding_is_a_denial() {
    for decision in [
        "decision := undefined_name",
        r#"decision := {"effect": "allow", "reason": "r", "obligations": {"n": 1 / 0}}"#,
        r#"decision := {"effect": "allow", "reason": "r", "obligations": {}}
           decision := {"effect": "deny", "reason": "s", "obligations": {}}"#,
    ] {
        let decision = decided(&deciding(decision).unwrap(), &read());
        assert_eq!(decision.effect, Effect::Deny);
        assert!(decision.reason.starts_with("policy_error: "), "{decision:?}");
        assert!(!decision.reason.contains('\n'), "{decision:?}");
    }
}

#[test]
fn obligations_arrive_whole() {
    let policy =
        deciding(r#"decision := {"effect": "allow", "reason": "r", "obligations": {"redact": ["a", 1]}}"#);
    let decision = decided(&policy.unwrap(), &read());
    assert_eq!(decision.obligations, json!({"redact": ["a", 1]}));
}

#[test]
fn a_policy_that_does_not_compile_is_not_loaded() {
    for decision in ["decision := {", "decision := true if {", "other := true", ""] {
        assert!(matches!(deciding(decision), Err(LoadError::Rego(_))), "{decision}");
    }
    let data = || document::parse(DATA).unwrap();
    for tables in ["package soma.tables", "package elsewhere\nx := 1", "nonsense"] {
        let policy = Policy::from_texts(DECISION_MODULE.1, tables, data());
        assert!(matches!(policy, Err(LoadError::Rego(_))), "{tables}: {policy:?}");
    }
}

#[test]
fn data_with_a_misspelt_name_is_not_loaded() {
    let check = |place: &str, value: Value| {
        let policy = over(|data| *data.pointer_mut(place).unwrap() = value);
        assert!(matches!(policy, Err(LoadError::Catalogue(_))), "{place}: {policy:?}");
    };
    check("/roles/viewer/permissions", json!(["agent:raed"]));
    check("/roles/viewer/permissions", json!(["agnet:*"]));
    check("/roles/viewer/permissions", json!(["agent:re*"]));
    check("/roles/viewer/permissions", json!(["voice_*"]));
    check("/tenant_roles", json!({"owner": ["tenant_amdin"]}));
    check("/tenant_roles", json!({"owner": ["saas_super_admin"]}));
    check("/tenant_roles", json!({"viewer": ["tenant_admin"]}));
    check("/tenant_roles", json!({"keeper": ["agent_owner"]}));
    check("/actions", json!({"agent.read": {"scope": "tenant"}}));
    check("/deny_list", json!([{}]));
    check("/deny_list", json!([{"tool": "tiemstamp"}]));
    check("/deny_list", json!([{"action": "tool:exceute"}]));
    check("/tenant_tool_flags", json!({"t": {"tiemstamp": {"enabled": false}}}));
}

#[test]
fn data_of_another_shape_is_not_loaded() {
    let check = |place: &str, value: Value| {
        let policy = over(|data| *data.pointer_mut(place).unwrap() = value);
        assert!(matches!(policy, Err(LoadError::Data(_))), "{place}: {policy:?}");
    };
    check("/deny_list", json!([{"usr": "x"}]));
    check("/tool_catalog/timestamp", json!({"enabled": "no"}));
    check("/tool_catalog/timestamp", json!({"enabled": true, "approval": "requird"}));
    check("/roles/viewer/scope", json!("galaxy"));
    check("/actions", json!(null));
    let extra = over(|data| data["soma"] = json!({"tables": {}}));
    assert!(matches!(extra, Err(LoadError::Data(_))), "{extra:?}");
}
