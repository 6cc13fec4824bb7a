//! Rate limits that all processes count together.
//!
//! One script takes from all of a request's quotas or from none. While the server is away each process counts for itself
//! with its part of every quota, and begins with nothing left: what was taken before is not known here, and a limit does
//! not widen because a server is lost.

use std::{
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use redis::Script;

use super::{Redis, told};
use crate::limiter::{Limiter, Taken, WINDOW, interval};

/// For each key its time of having the whole quota again, in microseconds, as in [`Limiter`].
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local window = tonumber(ARGV[1])
local full, allowed = {}, true
for i, key in ipairs(KEYS) do
  full[i] = math.max(tonumber(redis.call('GET', key) or now), now)
  if full[i] + ARGV[i + 1] - now > window then allowed = false end
end
local answer = {}
for i, key in ipairs(KEYS) do
  local after = full[i] + ARGV[i + 1]
  if allowed then
    redis.call('SET', key, string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000))
  end
  answer[i] = string.format('%.0f', full[i] - now)
end
return answer
",
    )
});
/// A moment.
const SOON: Duration = Duration::from_millis(250);
/// How long after a failure the server is not asked.
const AGAIN: Duration = Duration::from_millis(500);

/// One of a request's quotas: what is counted, and how many there are a minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub key: String,
    pub per_minute: u32,
}

/// Counts with the other processes. Clones share them.
#[derive(Debug, Clone)]
pub struct Counts {
    redis: Redis,
    lost: Arc<Mutex<Option<Lost>>>,
}

/// A server that was lost.
#[derive(Debug)]
struct Lost {
    /// Counted here meanwhile.
    limiter: Arc<Limiter<String>>,
    ask_at: Instant,
}

impl Counts {
    #[must_use]
    pub fn new(redis: Redis) -> Self {
        Self { redis, lost: Arc::default() }
    }

    /// Takes one from each, or from none if one has none left. In their order.
    pub async fn take(&self, wanted: &[Wanted]) -> Vec<Taken> {
        if wanted.is_empty() {
            return Vec::new();
        }
        if let Some(limiter) = self.alone() {
            return self.take_soon(&limiter, wanted).await;
        }
        match self.ask(wanted).await {
            Ok(taken) => {
                self.lock().take();
                taken
            }
            Err(error) => {
                let (limiter, first) = self.lose();
                if first {
                    tracing::warn!(error = told(&error), "requests are not counted with other processes");
                }
                self.take_soon(&limiter, wanted).await
            }
        }
    }

    async fn ask(&self, wanted: &[Wanted]) -> Result<Vec<Taken>, redis::RedisError> {
        let mut call = TAKE.prepare_invoke();
        call.arg(micros(WINDOW));
        for one in wanted {
            call.key(format!("soma:limit:{}", one.key)).arg(micros(interval(one.per_minute)));
        }
        let full: Vec<u64> = call.invoke_async(&mut self.redis.connection.clone()).await?;
        let of = |(one, full): (&Wanted, u64)| Taken::of(Duration::from_micros(full), one.per_minute);
        let taken: Vec<Taken> = wanted.iter().zip(full).map(of).collect();
        if taken.len() != wanted.len() {
            return Err((redis::ErrorKind::UnexpectedReturnType, "another number of answers").into());
        }
        Ok(taken)
    }

    /// What to count by without asking.
    fn alone(&self) -> Option<Arc<Limiter<String>>> {
        let lost = self.lock();
        lost.as_ref().filter(|lost| Instant::now() < lost.ask_at).map(|lost| Arc::clone(&lost.limiter))
    }

    /// What to count by, and whether it was not lost before.
    fn lose(&self) -> (Arc<Limiter<String>>, bool) {
        let mut lost = self.lock();
        let first = lost.is_none();
        let limiter = lost.take().map_or_else(|| Arc::new(Limiter::empty()), |lost| lost.limiter);
        *lost = Some(Lost { limiter: Arc::clone(&limiter), ask_at: Instant::now() + AGAIN });
        (limiter, first)
    }

    /// Since nobody has anything left at the beginning, whoever has to wait for a moment only is not refused.
    async fn take_soon(&self, limiter: &Limiter<String>, wanted: &[Wanted]) -> Vec<Taken> {
        let taken = self.take_alone(limiter, wanted);
        let wait = taken.iter().map(|one| one.retry_after).max().unwrap_or_default();
        if wait.is_zero() || wait > SOON {
            return taken;
        }
        tokio::time::sleep(wait).await;
        self.take_alone(limiter, wanted)
    }

    fn take_alone(&self, limiter: &Limiter<String>, wanted: &[Wanted]) -> Vec<Taken> {
        let part = |one: &Wanted| (one.per_minute / self.redis.processes()).max(1);
        let taken: Vec<Taken> = wanted.iter().map(|one| limiter.take(one.key.clone(), part(one))).collect();
        if taken.iter().any(|one| !one.allowed) {
            for (one, _) in wanted.iter().zip(&taken).filter(|(_, taken)| taken.allowed) {
                limiter.give_back(&one.key, part(one));
            }
        }
        taken
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Lost>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
