//! Between this program's types and the engine's values. Everything that doesn't fit is `None`, which is a denial.

use std::collections::BTreeMap;

use contracts::policy::{Decision, Effect, Grant, GrantEffect, Request, Scope};
use regorus::Value;

use super::LoadError;

/// The input document of a request: what serialising it gives, without the detour through text.
pub(super) fn from_request(request: &Request) -> Option<Value> {
    let subject = &request.subject;
    let resource = &request.resource;
    let mut resource_fields =
        vec![("type", resource.kind.as_str().into()), ("attributes", from_json_ref(&resource.attributes)?)];
    if let Some(id) = &resource.id {
        resource_fields.push(("id", id.as_str().into()));
    }
    Some(object([
        ("tenant", request.tenant.to_string().into()),
        (
            "subject",
            object([
                ("user_id", subject.user_id.to_string().into()),
                ("roles", strings(&subject.roles)),
                ("scopes", strings(&subject.scopes)),
                ("grants", Value::from(subject.grants.iter().map(grant).collect::<Vec<_>>())),
            ]),
        ),
        ("action", request.action.as_str().into()),
        ("resource", object(resource_fields)),
        ("context", from_json_ref(&request.context)?),
    ]))
}

fn grant(grant: &Grant) -> Value {
    let text = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
    object([
        ("id", grant.id.to_string().into()),
        ("role", text(&grant.role)),
        ("permissions", strings(&grant.permissions)),
        (
            "effect",
            match grant.effect {
                GrantEffect::Allow => "allow".into(),
                GrantEffect::Deny => "deny".into(),
            },
        ),
        (
            "scope",
            match grant.scope {
                Scope::Platform => "platform".into(),
                Scope::Tenant => "tenant".into(),
                Scope::Agent => "agent".into(),
            },
        ),
        ("agent", text(&grant.agent.map(|agent| agent.to_string()))),
    ])
}

/// regorus turns what it can't take into an undefined value, in which a rule would find nothing to object to.
pub(super) fn from_json(json: serde_json::Value) -> Option<Value> {
    Some(Value::from(json)).filter(|value| *value != Value::Undefined)
}

fn from_json_ref(json: &serde_json::Value) -> Option<Value> {
    if json.is_null() { Some(Value::Null) } else { from_json(json.clone()) }
}

pub(super) fn object(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let fields = fields.into_iter().map(|(name, value)| (Value::from(name), value));
    Value::from(fields.collect::<BTreeMap<_, _>>())
}

fn strings(texts: &[String]) -> Value {
    Value::from(texts.iter().map(|text| Value::from(text.as_str())).collect::<Vec<_>>())
}

/// The decision, if the answer is exactly `{effect, reason, obligations}` with a known effect and a reason.
pub(super) fn to_decision(answer: &Value, revision: &str) -> Option<Decision> {
    let answer = answer.as_object().ok()?;
    let field = |name: &str| answer.get(&Value::from(name));
    let effect = match field("effect")?.as_string().ok()?.as_ref() {
        "allow" => Effect::Allow,
        "deny" => Effect::Deny,
        "ask" => Effect::Ask,
        _ => return None,
    };
    let reason = field("reason")?.as_string().ok()?.to_string();
    let obligations = field("obligations")?;
    let obligations = match obligations.as_object().ok()?.is_empty() {
        true => serde_json::Value::Object(serde_json::Map::new()),
        false => serde_json::to_value(obligations).ok()?,
    };
    let decision = Decision { effect, reason, obligations, revision: revision.to_owned() };
    (answer.len() == 3 && !decision.reason.is_empty()).then_some(decision)
}

pub(super) fn parse(text: &str) -> Result<serde_json::Value, LoadError> {
    serde_json::from_str(text).map_err(LoadError::Data)
}

/// Adds one document to another, or says at which path they disagree.
#[cfg(any(test, feature = "faults"))]
pub(super) fn merge(into: &mut serde_json::Value, from: serde_json::Value, path: &str) -> Result<(), String> {
    use serde_json::Value::{Array, Object};
    match (into, from) {
        (Object(into), Object(from)) => {
            for (name, value) in from {
                match into.get_mut(&name) {
                    Some(present) => merge(present, value, &format!("{path}.{name}"))?,
                    None => drop(into.insert(name, value)),
                }
            }
            Ok(())
        }
        (Array(into), Array(mut from)) => {
            into.append(&mut from);
            Ok(())
        }
        (into, from) if *into == from => Ok(()),
        _ => Err(format!("{path} is there already with another value")),
    }
}
