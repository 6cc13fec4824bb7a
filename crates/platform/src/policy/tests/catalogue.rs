//! The catalogue is what was taken over, and a role grants exactly what it says.

use std::collections::BTreeSet;

use contracts::policy::Resource;
use serde_json::json;

use super::{POLICY, decided, facts, grants::grant, request};
use crate::policy::Scope;

/// Independent of `tables.rego`: what a role's patterns come to.
fn expand(patterns: &[&str]) -> BTreeSet<String> {
    let covers = |pattern: &str, action: &str| match pattern.strip_suffix('*') {
        Some(prefix) => action.starts_with(prefix),
        None => pattern == action,
    };
    let actions = facts::ACTIONS.iter().chain(facts::ADDED_ACTIONS);
    actions
        .filter(|action| patterns.iter().any(|pattern| covers(pattern, action)))
        .map(|&action| action.to_owned())
        .collect()
}

fn granted(role: &str) -> BTreeSet<String> {
    let actions = POLICY.catalogue().actions.keys();
    let of_agent = POLICY.catalogue().roles.get(role).is_some_and(|role| role.scope == Scope::Agent);
    let allowed = |action: &&String| {
        let resource = Resource::any(action.split(':').next().unwrap());
        let mut request = request(&[role], action, resource);
        if of_agent {
            request.subject.grants.push(grant(role));
            request.resource.attributes = json!({"agent": request.subject.grants[0].agent});
            request.subject.roles.clear();
        }
        let decision = decided(&POLICY, &request);
        // The right to make calls is there if only the tool is missing.
        decision.allowed() || decision.reason == "unknown_tool"
    };
    actions.filter(allowed).cloned().collect()
}

#[test]
fn the_catalogue_is_the_facts_and_the_named_additions() {
    let actions: BTreeSet<&str> = POLICY.catalogue().actions.keys().map(String::as_str).collect();
    let expected = facts::ACTIONS.iter().chain(facts::ADDED_ACTIONS).copied().collect();
    assert_eq!(actions, expected);
    assert_eq!(facts::ACTIONS.len(), 94);
    let platform = |name: &str| name.starts_with("platform:") || name.starts_with("tenant:");
    for (name, action) in &POLICY.catalogue().actions {
        let expected = platform(name) || name.starts_with("infra:");
        assert_eq!(action.scope == Scope::Platform, expected, "{name}");
        assert!(POLICY.is_action(name));
    }
}

#[test]
fn every_role_grants_what_the_facts_say_and_no_more() {
    let catalogue = POLICY.catalogue();
    assert_eq!(catalogue.roles.len(), facts::ROLES.len());
    for (name, scope, patterns) in facts::ROLES {
        assert_eq!(catalogue.roles[*name].scope, *scope, "{name}");
        assert_eq!(granted(name), expand(patterns), "{name}");
        assert!(POLICY.is_role(name));
    }
}

#[test]
fn a_tenants_names_grant_what_their_roles_grant() {
    for (name, roles) in facts::TENANT_ROLES {
        assert_eq!(POLICY.catalogue().tenant_roles[*name], *roles);
        let union = roles.iter().flat_map(|role| granted(role)).collect::<BTreeSet<_>>();
        assert_eq!(granted(name), union, "{name}");
        assert!(POLICY.is_role(name));
    }
    assert_eq!(POLICY.catalogue().tenant_roles.len(), facts::TENANT_ROLES.len());
    assert!(!POLICY.is_role("root"));
}
