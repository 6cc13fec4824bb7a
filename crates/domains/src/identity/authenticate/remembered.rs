//! Callers seen a moment ago, so that a client's many requests cost one lookup.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::authority::Proven;

/// How long a caller is remembered: a revoked key, session or role counts for at most this long.
const REMEMBERED: Duration = Duration::from_millis(500);
/// Callers remembered at once.
const REMEMBERED_MAX: usize = 10_000;

/// Callers by the hash of their credential.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    callers: HashMap<String, (Instant, Proven)>,
    /// Counts how often all was forgotten.
    generation: u64,
}

impl Sessions {
    /// The caller; else the generation in which to remember what a lookup that begins now will find.
    pub(super) fn get(&self, hash: &str) -> Result<Proven, u64> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let caller = seen.callers.get(hash).filter(|(at, _)| at.elapsed() < REMEMBERED);
        caller.map(|(_, caller)| caller.clone()).ok_or(seen.generation)
    }

    /// Remembers a caller, unless all was forgotten since the lookup began: it may have found what is no longer so.
    pub(super) fn put(&self, generation: u64, hash: String, caller: Proven) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.generation != generation {
            return;
        }
        if seen.callers.len() >= REMEMBERED_MAX {
            seen.callers.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
        }
        if seen.callers.len() < REMEMBERED_MAX {
            seen.callers.insert(hash, (Instant::now(), caller));
        }
    }

    /// After a change of rights in this process: the next request looks again.
    pub(crate) fn forget_all(&self) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.callers.clear();
        seen.generation += 1;
    }
}

#[cfg(test)]
mod tests {
    use contracts::{ApiKeyId, Caller, Credential, TenantId, UserId};

    use super::Sessions;
    use crate::authority::{Factor, Proven};

    #[test]
    fn what_a_lookup_found_before_all_was_forgotten_is_not_remembered() {
        let caller = Caller {
            tenant: TenantId::new(),
            user: UserId::new(),
            roles: Vec::new(),
            grants: Vec::new(),
            scopes: Vec::new(),
            expires_at: None,
            credential: Credential::ApiKey(ApiKeyId::new()),
            impersonator: None,
        };
        let caller = Proven { caller, factor: Factor::Shown };
        let sessions = Sessions::default();
        let before = sessions.get("hash").unwrap_err();
        sessions.forget_all();
        sessions.put(before, "hash".into(), caller.clone());
        let after = sessions.get("hash").unwrap_err();
        sessions.put(after, "hash".into(), caller.clone());
        assert_eq!(sessions.get("hash"), Ok(caller));
    }
}
