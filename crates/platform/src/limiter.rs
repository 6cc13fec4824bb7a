//! Rate limits for many keys, in this process: so many a minute for each, all at once or spread.
//!
//! The generic cell rate algorithm: a key has one number, the time at which it has its whole minute's worth again.
//! What is forgotten is only who has that already. Where there is no room for one more key, it is refused: a limit
//! that can't be counted is not waived.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Requests are counted over this time.
pub const WINDOW: Duration = Duration::from_secs(60);
const SHARDS: usize = 16;
/// Keys of one shard at once; each takes about 50 bytes.
const SHARD_KEYS_MAX: usize = 4096;
/// A full shard is looked through for keys to forget at most this often.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    pub allowed: bool,
    /// How many more there could be right now.
    pub remaining: u32,
    /// Until the whole quota is there again.
    pub reset: Duration,
    /// Until the next one is allowed; zero when this one was.
    pub retry_after: Duration,
}

#[derive(Debug)]
struct Shard<K> {
    /// When each key has its whole quota again, since the limiter's beginning.
    full_at: HashMap<K, Duration>,
    swept_at: Duration,
}

#[derive(Debug)]
pub struct Limiter<K> {
    began: Instant,
    /// When a key that is not known has its whole quota.
    unknown_full_at: Duration,
    hasher: RandomState,
    shards: Vec<Mutex<Shard<K>>>,
}

impl<K: Hash + Eq> Default for Limiter<K> {
    fn default() -> Self {
        let shard = || Mutex::new(Shard { full_at: HashMap::new(), swept_at: Duration::ZERO });
        Self {
            began: Instant::now(),
            unknown_full_at: Duration::ZERO,
            hasher: RandomState::new(),
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
        }
    }
}

impl<K: Hash + Eq> Limiter<K> {
    /// One in which nobody has anything left at the beginning: what they took before is not known.
    #[must_use]
    pub fn empty() -> Self {
        Self { unknown_full_at: WINDOW, ..Self::default() }
    }

    /// Takes one of the key's `per_minute`, if there is one.
    pub fn take(&self, key: K, per_minute: u32) -> Taken {
        self.take_at(key, per_minute, self.began.elapsed())
    }

    /// Gives one back that was taken and not used.
    pub fn give_back(&self, key: &K, per_minute: u32) {
        let Some(shard) = self.shard(key) else { return };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(full_at) = shard.full_at.get_mut(key) {
            *full_at = full_at.saturating_sub(interval(per_minute));
        }
    }

    fn shard(&self, key: &K) -> Option<&Mutex<Shard<K>>> {
        let hash = self.hasher.hash_one(key);
        // The high bits: the table inside takes the low ones.
        self.shards.get(usize::try_from(hash >> 32).unwrap_or(0) % SHARDS)
    }

    fn take_at(&self, key: K, per_minute: u32, now: Duration) -> Taken {
        let Some(shard) = self.shard(&key) else { return Taken::refused(Duration::ZERO, WINDOW) };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = shard.full_at.get(&key).copied().unwrap_or(self.unknown_full_at).max(now);
        let taken = Taken::of(full_at - now, per_minute);
        if !taken.allowed {
            return taken;
        }
        if !shard.full_at.contains_key(&key) && !shard.has_room(now) {
            return Taken::refused(Duration::ZERO, SWEEP_EVERY);
        }
        shard.full_at.insert(key, now + taken.reset);
        taken
    }
}

impl Taken {
    /// What one more comes to for a key that has its whole quota again in `full_in`.
    pub(crate) fn of(full_in: Duration, per_minute: u32) -> Self {
        let interval = interval(per_minute);
        let after = full_in + interval;
        if let Some(early) = after.checked_sub(WINDOW).filter(|early| !early.is_zero()) {
            return Self::refused(full_in, early);
        }
        let left = (WINDOW - after).as_nanos() / interval.as_nanos().max(1);
        Self {
            allowed: true,
            remaining: u32::try_from(left).unwrap_or(u32::MAX),
            reset: after,
            retry_after: Duration::ZERO,
        }
    }

    fn refused(reset: Duration, retry_after: Duration) -> Self {
        Self { allowed: false, remaining: 0, reset, retry_after }
    }
}

impl<K: Hash + Eq> Shard<K> {
    fn has_room(&mut self, now: Duration) -> bool {
        if self.full_at.len() >= SHARD_KEYS_MAX && now >= self.swept_at + SWEEP_EVERY {
            self.swept_at = now;
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        self.full_at.len() < SHARD_KEYS_MAX
    }
}

/// What one request costs of the window. None at all would be without a limit, so nobody has a quota of 0.
pub(crate) fn interval(per_minute: u32) -> Duration {
    WINDOW / per_minute.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(limiter: &Limiter<u32>, key: u32, per_minute: u32, seconds: u64) -> Taken {
        limiter.take_at(key, per_minute, Duration::from_secs(seconds))
    }

    #[test]
    fn a_minutes_worth_may_come_at_once_and_the_next_waits() {
        let limiter = Limiter::default();
        for left in (0..6).rev() {
            let taken = at(&limiter, 1, 6, 100);
            assert!(taken.allowed);
            assert_eq!(
                (taken.remaining, taken.reset),
                (left, Duration::from_secs(10 * (6 - u64::from(left))))
            );
        }
        let refused = at(&limiter, 1, 6, 100);
        assert_eq!((refused.allowed, refused.retry_after), (false, Duration::from_secs(10)));
        assert_eq!(at(&limiter, 1, 6, 105).retry_after, Duration::from_secs(5), "refusals cost nothing");
        assert!(at(&limiter, 1, 6, 110).allowed);
        assert!(!at(&limiter, 1, 6, 110).allowed);
        assert!(at(&limiter, 2, 6, 110).allowed, "another key has its own quota");
        let later = at(&limiter, 1, 6, 1_000);
        assert_eq!((later.allowed, later.remaining), (true, 5));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let limiter = Limiter::default();
        assert!(at(&limiter, 1, 1, 100).allowed);
        limiter.give_back(&1, 1);
        assert!(at(&limiter, 1, 1, 100).allowed);
        assert!(!at(&limiter, 1, 1, 100).allowed);
        limiter.give_back(&2, 1);
    }

    #[test]
    fn who_begins_with_nothing_gets_what_a_minute_gives() {
        let limiter = Limiter::empty();
        let first = at(&limiter, 1, 6, 0);
        assert_eq!((first.allowed, first.retry_after), (false, Duration::from_secs(10)));
        assert!(at(&limiter, 1, 6, 10).allowed && !at(&limiter, 1, 6, 10).allowed);
        assert_eq!(
            (0..9).filter(|_| at(&limiter, 2, 6, 60).allowed).count(),
            6,
            "after a minute it is as any other"
        );
    }

    #[test]
    fn memory_is_bounded_and_a_key_without_room_is_refused_until_others_are_done() {
        let limiter = Limiter::default();
        let most = u32::try_from(SHARDS * SHARD_KEYS_MAX).unwrap();
        let allowed = (0..2 * most).filter(|key| at(&limiter, *key, 1, 100).allowed).count();
        let held: usize = limiter.shards.iter().map(|shard| shard.lock().unwrap().full_at.len()).sum();
        assert_eq!(allowed, held);
        assert!(held <= usize::try_from(most).unwrap(), "{held}");
        assert!(!at(&limiter, 3 * most, 1, 120).allowed, "it is not waived");
        assert!(at(&limiter, 3 * most, 1, 161).allowed, "who has the whole quota again is forgotten");
    }
}
