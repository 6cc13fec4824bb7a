//! Decisions that were asked for before.
//!
//! A decision depends on nothing but the question and the policy: no clock, no chance, no database. So the answer to an
//! equal question, every field of it, is the same, for as long as this policy is loaded. A changed right, role or
//! revision is another question, or another policy with a memory of its own.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use contracts::policy::{Decision, Request};

/// Decisions kept at once. Beyond them all are forgotten: asking anew costs microseconds.
const KEPT_MAX: usize = 4096;
/// A resource's id is a path's part, as long as a client likes. One that is longer than any of ours isn't kept.
const ID_BYTES_MAX: usize = 128;

#[derive(Default)]
pub(super) struct Memory(RwLock<HashMap<Request, Decision>>);

impl Memory {
    /// The decision on an equal question, or else the one that is made now.
    pub(super) fn recall(&self, request: &Request, decide: impl FnOnce() -> Decision) -> Decision {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(request).cloned();
        known.unwrap_or_else(|| {
            let decision = decide();
            self.keep(request, &decision);
            decision
        })
    }

    fn keep(&self, request: &Request, decision: &Decision) {
        if request.resource.id.as_ref().is_some_and(|id| id.len() > ID_BYTES_MAX) {
            return;
        }
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(request.clone(), decision.clone());
    }
}

#[cfg(test)]
mod tests {
    use contracts::{
        TenantId, UserId,
        policy::{Request, Resource, Subject},
    };
    use serde_json::json;

    use super::{Decision, KEPT_MAX, Memory};

    fn request(id: &str) -> Request {
        let subject = Subject {
            user_id: UserId::new(),
            roles: vec!["user".to_owned()],
            scopes: vec!["*".to_owned()],
            grants: Vec::new(),
            impersonator: None,
        };
        let resource = Resource::new("agent", id);
        Request {
            tenant: TenantId::new(),
            subject,
            action: "agent:read".into(),
            resource,
            context: json!(null),
        }
    }

    #[test]
    fn only_an_equal_question_is_recalled() {
        let memory = Memory::default();
        let asked = request("a");
        let first = memory.recall(&asked, || Decision::deny("first", "1"));
        assert_eq!(memory.recall(&asked, || Decision::deny("second", "1")), first);
        let changes: [fn(&mut Request); 7] = [
            |request| request.tenant = TenantId::new(),
            |request| request.subject.user_id = UserId::new(),
            |request| request.subject.roles.push("viewer".into()),
            |request| request.subject.scopes.clear(),
            |request| request.action = "agent:update".into(),
            |request| request.resource.attributes = json!({ "agent": "b" }),
            |request| request.context = json!({ "agent_tools": [] }),
        ];
        for (index, change) in changes.iter().enumerate() {
            let mut other = asked.clone();
            change(&mut other);
            let decision = memory.recall(&other, || Decision::deny("anew", "1"));
            assert_eq!(decision.reason, "anew", "change {index}");
        }
    }

    #[test]
    fn it_holds_no_more_than_its_bound() {
        let memory = Memory::default();
        for index in 0..=KEPT_MAX {
            memory.recall(&request(&index.to_string()), || Decision::deny("no", "1"));
        }
        memory.recall(&request(&"x".repeat(1000)), || Decision::deny("no", "1"));
        assert_eq!(memory.0.read().unwrap().len(), 1);
    }
}
