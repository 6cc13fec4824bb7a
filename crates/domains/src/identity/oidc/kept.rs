//! Something of the provider's that is kept for a while: its keys, its description.
//!
//! It is fetched by one task at a time, and no more often than a bound allows, whoever asks for it: a stranger's tokens
//! make this server call the provider once in a while, not once for each.

use std::{
    future::Future,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use platform::task;
use tokio::sync::Mutex;

/// How long it is taken as it was: what the provider withdrew counts for at most this long.
const KEPT_FOR: Duration = Duration::from_secs(15 * 60);
/// It is renewed before its time no sooner than this after the last attempt.
const RENEWED_EVERY: Duration = Duration::from_secs(30);
/// Where there is none at all, another attempt is made no sooner than this after one that failed.
const TRIED_EVERY: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Kept<T> {
    value: RwLock<Option<(Instant, Arc<T>)>>,
    /// Held while it is fetched; when that was last begun.
    attempt: Arc<Mutex<Option<Instant>>>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { value: RwLock::new(None), attempt: Arc::default() }
    }
}

/// It is not there, and it is too soon to try again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooSoon;

impl<T: Send + Sync + 'static> Kept<T> {
    /// What is kept, if it will do and is not too old; else it is fetched. Where that is not allowed yet, or fails,
    /// what is kept is answered all the same, if it is not too old.
    ///
    /// A fetch that was begun is made to its end, though whoever asked goes away: it counts as an attempt.
    pub(super) async fn get<E, F>(
        self: &Arc<Self>,
        now: Instant,
        will_do: impl Fn(&T) -> bool,
        fetch: impl FnOnce() -> F,
    ) -> Result<Arc<T>, E>
    where
        E: From<TooSoon> + std::fmt::Display + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        if let Some(value) = self.fresh(now).filter(|value| will_do(value)) {
            return Ok(value);
        }
        let mut attempt = Arc::clone(&self.attempt).lock_owned().await;
        // Somebody else may have fetched it meanwhile.
        let kept = self.fresh(now);
        if let Some(value) = kept.as_ref().filter(|value| will_do(value)) {
            return Ok(Arc::clone(value));
        }
        let wait = if kept.is_some() { RENEWED_EVERY } else { TRIED_EVERY };
        if attempt.is_some_and(|at| now.saturating_duration_since(at) < wait) {
            return kept.ok_or_else(|| TooSoon.into());
        }
        *attempt = Some(now);
        let (this, fetching) = (Arc::clone(self), fetch());
        let fetch = tokio::spawn(async move {
            let fetched = fetching.await.map(Arc::new);
            if let Ok(value) = &fetched {
                let mut slot = this.value.write().unwrap_or_else(PoisonError::into_inner);
                *slot = Some((now, Arc::clone(value)));
            }
            drop(attempt);
            fetched
        });
        match (task::outcome(fetch).await, kept) {
            (Ok(value), _) => Ok(value),
            (Err(error), Some(value)) => {
                tracing::warn!(%error, "what is known of the identity provider could not be renewed");
                Ok(value)
            }
            (Err(error), None) => Err(error),
        }
    }

    fn fresh(&self, now: Instant) -> Option<Arc<T>> {
        let value = self.value.read().unwrap_or_else(PoisonError::into_inner);
        let fresh = value.as_ref().filter(|(at, _)| now.saturating_duration_since(*at) < KEPT_FOR);
        fresh.map(|(_, value)| Arc::clone(value))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    impl From<TooSoon> for String {
        fn from(_: TooSoon) -> Self {
            "too soon".into()
        }
    }

    /// Asks for a value that will do; what it got, or the error, and how often it was fetched so far.
    struct Source {
        kept: Arc<Kept<u32>>,
        fetched: AtomicU32,
        start: Instant,
    }

    impl Source {
        fn new() -> Self {
            Self { kept: Arc::default(), fetched: AtomicU32::new(0), start: Instant::now() }
        }

        async fn at(
            &self,
            seconds: u64,
            will_do: fn(&u32) -> bool,
            answer: Result<u32, &str>,
        ) -> (Result<u32, String>, u32) {
            let now = self.start + Duration::from_secs(seconds);
            let answer = answer.map_err(str::to_owned);
            let got = self.kept.get(now, will_do, || {
                self.fetched.fetch_add(1, Ordering::SeqCst);
                std::future::ready(answer)
            });
            let got = got.await.map(|value| *value);
            (got, self.fetched.load(Ordering::SeqCst))
        }
    }

    #[tokio::test]
    async fn an_unknown_key_renews_once_and_then_no_more_often_than_the_bound() {
        let source = Source::new();
        let any: fn(&u32) -> bool = |_| true;
        let none: fn(&u32) -> bool = |_| false;
        assert_eq!(source.at(0, any, Ok(1)).await, (Ok(1), 1));
        assert_eq!(source.at(10, any, Ok(2)).await, (Ok(1), 1), "kept");
        assert_eq!(source.at(29, none, Ok(2)).await, (Ok(1), 1), "too soon after the first");
        assert_eq!(source.at(30, none, Ok(2)).await, (Ok(2), 2));
        for second in 31..60 {
            assert_eq!(source.at(second, none, Ok(3)).await, (Ok(2), 2), "{second}");
        }
        assert_eq!(source.at(60, none, Err("down")).await, (Ok(2), 3), "a failure leaves what is kept");
        assert_eq!(source.at(61, none, Ok(3)).await, (Ok(2), 3));
    }

    #[tokio::test]
    async fn who_goes_away_takes_nothing_from_those_who_ask_after_them() {
        let (kept, start) = (Arc::new(Kept::<u32>::default()), Instant::now());
        let (answer, answers) = tokio::sync::oneshot::channel();
        let (begun, begins) = tokio::sync::oneshot::channel();
        let first = kept.get(
            start,
            |_| true,
            || async move {
                begun.send(()).map_err(|()| String::new())?;
                answers.await.map_err(|error| error.to_string())
            },
        );
        tokio::select! {
            _ = first => unreachable!("there is no answer yet"),
            begun = begins => begun.unwrap(),
        }
        answer.send(7).expect("the fetch goes on");

        let next = kept.get(start, |_| true, || std::future::ready(Err("another fetch".to_owned())));

        assert_eq!(next.await, Ok(Arc::new(7)));
    }

    #[tokio::test]
    async fn what_is_too_old_is_not_used_and_what_can_not_be_had_is_asked_for_once_in_a_while() {
        let source = Source::new();
        let any: fn(&u32) -> bool = |_| true;
        assert_eq!(source.at(0, any, Err("down")).await, (Err("down".into()), 1));
        assert_eq!(source.at(2, any, Ok(1)).await, (Err("too soon".into()), 1));
        assert_eq!(source.at(3, any, Ok(1)).await, (Ok(1), 2));
        assert_eq!(source.at(902, any, Ok(2)).await, (Ok(1), 2));
        assert_eq!(source.at(903, any, Err("down")).await, (Err("down".into()), 3));
        assert_eq!(source.at(906, any, Ok(2)).await, (Ok(2), 4));
    }
}
