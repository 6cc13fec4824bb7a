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

/// Decisions of a generation: an install of ten thousand people asks about that many things in a while.
const GENERATION: usize = 8192;
/// A resource's id is a path's part, as long as a client likes. One that is longer than any of ours isn't kept.
const ID_BYTES_MAX: usize = 128;

#[derive(Default)]
pub(super) struct Memory(RwLock<Generations>);

/// When the young are too many they are the old, and those that were old are forgotten: what is asked for again and
/// again stays, whatever else is asked in between.
#[derive(Default)]
struct Generations {
    young: HashMap<Request, Decision>,
    old: HashMap<Request, Decision>,
}

impl Memory {
    /// The decision on an equal question, or else the one that is made now.
    pub(super) fn recall(&self, request: &Request, decide: impl FnOnce() -> Decision) -> Decision {
        let known = {
            let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(decision) = kept.young.get(request) {
                return decision.clone();
            }
            kept.old.get(request).cloned()
        };
        let decision = known.unwrap_or_else(decide);
        self.keep(request, &decision);
        decision
    }

    fn keep(&self, request: &Request, decision: &Decision) {
        if request.resource.id.as_ref().is_some_and(|id| id.len() > ID_BYTES_MAX) {
            return;
        }
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kept.young.len() >= GENERATION {
            kept.old = std::mem::take(&mut kept.young);
        }
        kept.young.insert(request.clone(), decision.clone());
    }
}

#[cfg(test)]
mod tests {
    use contracts::{
        TenantId, UserId,
        policy::{Request, Resource, Subject},
    };
    use serde_json::json;

    use super::{Decision, GENERATION, ID_BYTES_MAX, Memory};

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
    fn it_holds_no_more_than_its_bound_and_forgets_what_is_not_asked_for_any_more() {
        let memory = Memory::default();
        let recalls = |request: &Request| {
            memory.recall(request, || Decision::deny("anew", "1"));
            memory.recall(request, || Decision::deny("again", "1")).reason == "anew"
        };
        let (often, once) = (request("often"), request("once"));
        assert!(recalls(&often) && recalls(&once));
        for index in 0..2 * GENERATION {
            memory.recall(&request(&index.to_string()), || Decision::deny("no", "1"));
            if index % 1000 == 0 {
                memory.recall(&often, || panic!("what is asked for often is remembered"));
            }
        }
        assert_eq!(memory.recall(&once, || Decision::deny("forgotten", "1")).reason, "forgotten");
        memory.recall(&request(&"x".repeat(1000)), || Decision::deny("no", "1"));
        let kept = memory.0.read().unwrap();
        assert!(kept.young.len() + kept.old.len() <= 2 * GENERATION);
        assert!(
            kept.young
                .keys()
                .chain(kept.old.keys())
                .all(|request| { request.resource.id.as_ref().is_none_or(|id| id.len() <= ID_BYTES_MAX) })
        );
    }
}
