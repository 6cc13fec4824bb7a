//! How long the real policy takes to decide, in this process, in an install with ten thousand assignments.
//!
//! What others hold is no part of a question: a decision is made from the subject's own roles and grants. So there are
//! as many subjects as assignments, each is asked about in turn, and two things are measured. `anew` evaluates the
//! rules for a question that was never asked. `again` goes round a second time, to what the policy remembers.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use contracts::{
    AgentId, ConversationId, GrantId, TenantId, UserId,
    policy::{Grant, GrantEffect, Request, Resource, Scope, Subject},
};
use futures::FutureExt as _;
use platform::policy::{LoadError, Policy};
use serde_json::{Value, json};

const ASSIGNMENTS: usize = 10_000;
const TENANTS: usize = 20;
const AGENTS: usize = 50;
/// Of each so many people one has grants beside the role: a role on an agent, a role of the tenant's own, a denial.
const WITH_GRANTS: usize = 10;

/// What ten thousand members ask: each sends a message to an agent, in a conversation of their own.
fn questions() -> Vec<Request> {
    let tenants: Vec<TenantId> = (0..TENANTS).map(|_| TenantId::new()).collect();
    let agents: Vec<AgentId> = (0..AGENTS).map(|_| AgentId::new()).collect();
    (0..ASSIGNMENTS)
        .map(|index| {
            let agent = agents[index % AGENTS];
            let grants = if index % WITH_GRANTS == 0 { grants(agent) } else { Vec::new() };
            let subject = Subject {
                user_id: UserId::new(),
                roles: vec![["user", "user", "user", "tenant_admin"][index % 4].to_owned()],
                scopes: vec!["*".to_owned()],
                grants,
                impersonator: None,
            };
            let resource = Resource::new("conversation", ConversationId::new()).of_agent(agent);
            let action = "conversation:send_message".to_owned();
            Request { tenant: tenants[index % TENANTS], subject, action, resource, context: Value::Null }
        })
        .collect()
}

fn grants(agent: AgentId) -> Vec<Grant> {
    let grant = |role: Option<&str>, permissions: &[&str], effect, scope| Grant {
        id: GrantId::new(),
        role: role.map(str::to_owned),
        permissions: permissions.iter().map(|&name| name.to_owned()).collect(),
        effect,
        scope,
        agent: (scope == Scope::Agent).then_some(agent),
    };
    vec![
        grant(Some("agent_operator"), &[], GrantEffect::Allow, Scope::Agent),
        grant(Some("reviewer"), &["audit:*", "user:read"], GrantEffect::Allow, Scope::Tenant),
        grant(None, &["agent:delete"], GrantEffect::Deny, Scope::Tenant),
    ]
}

fn timed(questions: &[Request], decide: impl Fn(&Request) -> bool) -> Value {
    let mut times: Vec<Duration> = questions
        .iter()
        .map(|question| {
            let start = Instant::now();
            assert!(decide(black_box(question)), "a member may send messages");
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    let us = |at: usize| times.get(at).map_or(0.0, |time| (time.as_secs_f64() * 1e8).round() / 100.0);
    json!({ "median": us(times.len() / 2), "p99": us(times.len() * 99 / 100) })
}

/// Median and 99th percentile in microseconds.
pub(super) fn decisions() -> Result<Value, LoadError> {
    let policy = Policy::load()?;
    let questions = questions();
    let anew = timed(&questions, |question| policy.decide_anew(question).allowed());
    let remembered =
        |question: &Request| policy.decide(question).now_or_never().is_some_and(|it| it.allowed());
    timed(&questions, remembered);
    let again = timed(&questions, remembered);
    Ok(json!({ "assignments": ASSIGNMENTS, "anew": anew, "again": again }))
}
