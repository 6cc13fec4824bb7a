//! Questions by chance, the same for the same seed: such as the program asks, and such as nobody should.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::{Value, json};

use super::POLICY;

/// Of so many questions one has a part that is of no known shape.
const BROKEN: u32 = 8;

pub(super) struct Questions {
    random: StdRng,
    actions: Vec<String>,
    roles: Vec<String>,
    tools: Vec<String>,
}

const TENANTS: [&str; 3] = ["t1", "t2", "t3"];
const USERS: [&str; 3] = ["u1", "u2", "u3"];
const AGENTS: [&str; 3] = ["a1", "a2", "a3"];
const SCOPES: [&str; 3] = ["platform", "tenant", "agent"];

impl Questions {
    pub(super) fn new(seed: u64) -> Self {
        let catalogue = POLICY.catalogue();
        let named = |names: Vec<&String>, others: &[&str]| {
            names.into_iter().cloned().chain(others.iter().map(|&name| name.to_owned())).collect()
        };
        let roles = catalogue.roles.keys().chain(catalogue.tenant_roles.keys());
        let tools =
            ["code_execute", "file_read", "file_write", "file_list", "http_fetch", "timestamp", "nothing"];
        Self {
            random: StdRng::seed_from_u64(seed),
            actions: named(catalogue.actions.keys().collect(), &["conversation:*", "*", "", "no:such"]),
            roles: named(roles.collect(), &["root", "*", ""]),
            tools: tools.map(str::to_owned).into(),
        }
    }

    fn one_in(&mut self, many: u32) -> bool {
        self.random.random_ratio(1, many)
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices.choose(&mut self.random).expect("there are choices").clone()
    }

    fn some<T>(&mut self, most: usize, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.random.random_range(0..=most);
        (0..count).map(|_| one(self)).collect()
    }

    fn action(&mut self) -> String {
        // Half of the questions are about tools: that is where most rules are.
        if self.one_in(2) { "tool:execute".to_owned() } else { self.of(&self.actions.clone()) }
    }

    /// What covers an action, or looks like it.
    fn pattern(&mut self) -> String {
        let action = self.of(&self.actions.clone());
        let kind = action.split(':').next().unwrap_or_default().to_owned();
        let patterns =
            [action, format!("{kind}:*"), "*".to_owned(), "tool:*".to_owned(), "tool:execute".to_owned()];
        if self.one_in(20) { "**".to_owned() } else { self.of(&patterns) }
    }

    fn tool(&mut self) -> String {
        self.of(&self.tools.clone())
    }

    fn grant(&mut self) -> Value {
        let agent = if self.one_in(2) { json!(self.of(&AGENTS)) } else { Value::Null };
        let role = if self.one_in(2) { json!(self.of(&self.roles.clone())) } else { Value::Null };
        json!({
            "id": format!("g{}", self.random.random_range(0..1000)),
            "role": role,
            "permissions": self.some(3, Self::pattern),
            "effect": if self.one_in(5) { "deny" } else { "allow" },
            "scope": self.of(&SCOPES),
            "agent": agent,
        })
    }

    fn resource(&mut self, action: &str) -> Value {
        let kind = if self.one_in(10) { "agent" } else { action.split(':').next().unwrap_or_default() };
        let mut attributes = json!({});
        if self.one_in(3) {
            attributes["agent"] = json!(self.of(&AGENTS));
        }
        if self.one_in(3) {
            attributes["tenant"] = json!(self.of(&TENANTS));
        }
        let mut resource = json!({ "type": kind, "attributes": attributes });
        if self.one_in(4) {
            resource["attributes"] = Value::Null;
        }
        if kind == "tool" {
            resource["id"] = json!(self.tool());
        } else if !self.one_in(3) {
            resource["id"] = json!(self.of(&AGENTS));
        }
        resource
    }

    fn question(&mut self) -> Value {
        let action = self.action();
        let resource = self.resource(&action);
        let mut context = Value::Null;
        if !self.one_in(4) {
            let mut list = |most| {
                let mut tools = self.some(most, Self::tool);
                tools.extend(resource["id"].as_str().filter(|_| self.one_in(2)).map(str::to_owned));
                json!(tools)
            };
            context = json!({ "agent_tools": list(3), "agent_tools_ask": list(1) });
        }
        let scopes = if self.one_in(3) { self.some(3, Self::pattern) } else { vec!["*".to_owned()] };
        let roles = self.roles.clone();
        json!({
            "tenant": self.of(&TENANTS),
            "subject": {
                "user_id": self.of(&USERS),
                "roles": self.some(3, |this| this.of(&roles)),
                "scopes": scopes,
                "grants": self.some(3, Self::grant),
            },
            "resource": resource,
            "action": action,
            "context": context,
        })
    }

    /// Something of another type, at a place that is there; or the place is gone.
    fn break_a_part(&mut self, question: &mut Value) {
        let mut places = Vec::new();
        paths(question, "", &mut places);
        let place = self.of(&places);
        let odd = [
            json!(null),
            json!(0),
            json!(-1.5),
            json!(true),
            json!(false),
            json!(""),
            json!("*"),
            json!([]),
            json!({}),
        ];
        let odder = [
            json!([null]),
            json!(["*"]),
            json!({ "a": 1 }),
            json!([["tool:execute"]]),
            json!("tool:execute"),
        ];
        let (parent, name) = place.rsplit_once('/').unwrap_or_default();
        if self.one_in(3)
            && let Some(Value::Object(parent)) = question.pointer_mut(parent)
        {
            parent.remove(name);
            return;
        }
        let other = if self.one_in(2) { self.of(&odd) } else { self.of(&odder) };
        if let Some(part) = question.pointer_mut(&place) {
            *part = other;
        }
    }
}

fn paths(value: &Value, path: &str, into: &mut Vec<String>) {
    into.push(path.to_owned());
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, part)| paths(part, &format!("{path}/{name}"), into))
        }
        Value::Array(parts) => {
            parts.iter().enumerate().for_each(|(index, part)| paths(part, &format!("{path}/{index}"), into));
        }
        _ => {}
    }
}

impl Iterator for Questions {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        let mut question = self.question();
        if self.one_in(BROKEN) {
            self.break_a_part(&mut question);
        }
        Some(question)
    }
}
