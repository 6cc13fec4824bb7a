//! How long the real policy takes to decide, in this process.
//!
//! What others hold is no part of a question, so it costs nothing here, however many they are: a subject's own roles
//! and grants are what a decision is made from. Two things are measured. `anew` is a question that was never asked: the
//! input document is made and the rules are evaluated. `again` is an equal question, which the policy remembers.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use contracts::{
    AgentId, ConversationId, GrantId, TenantId, UserId,
    policy::{Grant, GrantEffect, Request, Resource, Scope, Subject},
};
use platform::policy::{LoadError, Policy};
use serde_json::{Map, Value, json};

const QUESTIONS: usize = 20_000;

/// A member of a tenant who sends a message, with this many grants beside the role.
fn question(grants: usize) -> Request {
    let agent = AgentId::new();
    let subject = Subject {
        user_id: UserId::new(),
        roles: vec!["user".to_owned()],
        scopes: vec!["*".to_owned()],
        grants: (0..grants).map(|index| grant(index, agent)).collect(),
        impersonator: None,
    };
    let resource = Resource::new("conversation", ConversationId::new()).of_agent(agent);
    let action = "conversation:send_message".to_owned();
    Request { tenant: TenantId::new(), subject, action, resource, context: Value::Null }
}

/// In turn a role on the agent, a role of the tenant's own, and a denial of something else.
fn grant(index: usize, agent: AgentId) -> Grant {
    let (role, permissions, effect, scope) = match index % 3 {
        0 => (Some("agent_operator"), Vec::new(), GrantEffect::Allow, Scope::Agent),
        1 => (Some("reviewer"), vec!["audit:*", "user:read"], GrantEffect::Allow, Scope::Tenant),
        _ => (None, vec!["agent:delete"], GrantEffect::Deny, Scope::Tenant),
    };
    Grant {
        id: GrantId::new(),
        role: role.map(str::to_owned),
        permissions: permissions.into_iter().map(str::to_owned).collect(),
        effect,
        scope,
        agent: (scope == Scope::Agent).then_some(agent),
    }
}

fn timed(mut decide: impl FnMut() -> bool) -> Value {
    let mut times: Vec<Duration> = (0..QUESTIONS)
        .map(|_| {
            let start = Instant::now();
            assert!(black_box(decide()), "a member may send messages");
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    let us = |at: usize| times.get(at).map_or(0.0, |time| (time.as_secs_f64() * 1e8).round() / 100.0);
    json!({ "median": us(QUESTIONS / 2), "p99": us(QUESTIONS * 99 / 100) })
}

/// Median and 99th percentile in microseconds, for a member with 0, 1 and 5 grants.
///
/// # Errors
/// When the policy does not load.
pub fn policy_decision_us() -> Result<Value, LoadError> {
    let policy = Policy::load()?;
    let mut figures = Map::new();
    for grants in [0, 1, 5] {
        let request = question(grants);
        let anew = timed(|| policy.decide_anew(black_box(&request)).allowed());
        let again = timed(|| policy.decide(black_box(&request)).allowed());
        figures.insert(format!("grants_{grants}"), json!({ "anew": anew, "again": again }));
    }
    Ok(Value::Object(figures))
}
