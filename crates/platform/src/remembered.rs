//! What was looked up a moment ago, so that many requests cost one lookup.
//!
//! What changes in this process is forgotten at once, what changes in another counts when its time is over.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long something is remembered, from the beginning of its lookup: a revoked key, a changed role or a suspension
/// counts at most this much later in another process.
const REMEMBERED: Duration = Duration::from_millis(500);
/// Things remembered at once.
const REMEMBERED_MAX: usize = 10_000;

#[derive(Debug)]
pub struct Remembered<K, V>(Mutex<Seen<K, V>>);

#[derive(Debug)]
struct Seen<K, V> {
    values: HashMap<K, (Instant, V)>,
    /// Counts how often all was forgotten.
    generation: u64,
}

/// A lookup that is to be made, and when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lookup {
    generation: u64,
    begun: Instant,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self(Mutex::new(Seen { values: HashMap::new(), generation: 0 }))
    }
}

impl<K: Eq + Hash, V: Clone> Remembered<K, V> {
    /// The value; else the lookup that begins now.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Result<V, Lookup>
    where
        K: Borrow<Q>,
    {
        let seen = self.lock();
        let value = seen.values.get(key).filter(|(begun, _)| begun.elapsed() < REMEMBERED);
        value
            .map(|(_, value)| value.clone())
            .ok_or_else(|| Lookup { generation: seen.generation, begun: Instant::now() })
    }

    /// Remembers what a lookup found, unless all was forgotten since it began: it may have found what is no longer so.
    pub fn put(&self, lookup: Lookup, key: K, value: V) {
        let mut seen = self.lock();
        if seen.generation != lookup.generation {
            return;
        }
        if seen.values.len() >= REMEMBERED_MAX {
            seen.values.retain(|_, (begun, _)| begun.elapsed() < REMEMBERED);
        }
        if seen.values.len() < REMEMBERED_MAX {
            seen.values.insert(key, (lookup.begun, value));
        }
    }

    /// After a change in this process: the next request looks again.
    pub fn forget_all(&self) {
        let mut seen = self.lock();
        seen.values.clear();
        seen.generation += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Seen<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_lookup_found_before_all_was_forgotten_is_not_remembered() {
        let known = Remembered::<String, u32>::default();
        let before = known.get("key").unwrap_err();
        known.forget_all();
        known.put(before, "key".into(), 1);
        let after = known.get("key").unwrap_err();
        known.put(after, "key".into(), 2);
        assert_eq!(known.get("key"), Ok(2));
        known.forget_all();
        assert!(known.get("key").is_err());
    }
}
