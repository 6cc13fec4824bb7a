//! What a connection is doing: waiting for a request, reading one, or answering. From it follows when it is cut off.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::body::{Body, Bytes, HttpBody};
use platform::config::ConnectionLimits;
use tokio_util::sync::CancellationToken;

/// Stands for no time.
const NEVER: u64 = u64::MAX;
/// Fewer answers than this are not worth a look at which have ended.
const SIFTED_MIN: usize = 64;

/// Why a connection is ended by this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The head of a request did not come in time.
    SlowHead,
    /// No request for a long time.
    Idle,
    /// The client takes nothing of an answer.
    Stalled,
}

impl Cut {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SlowHead => "slow_head",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
        }
    }
}

#[derive(Debug, Default)]
struct Answers {
    times: Vec<Weak<AtomicU64>>,
    /// At this many, those that have ended are dropped: a fast connection has thousands between two looks at it.
    sift_at: usize,
}

impl Answers {
    fn push(&mut self, time: Weak<AtomicU64>) {
        if self.times.len() >= self.sift_at {
            self.sift();
        }
        self.times.push(time);
    }

    fn sift(&mut self) {
        self.times.retain(|time| time.strong_count() > 0);
        self.sift_at = (2 * self.times.len()).max(SIFTED_MIN);
    }
}

/// Times are milliseconds since the connection began.
#[derive(Debug)]
pub struct Activity {
    began: Instant,
    requests: AtomicUsize,
    /// When the last request ended.
    idle_since: AtomicU64,
    /// When the head that is being read began.
    head_since: AtomicU64,
    http2: AtomicBool,
    upgraded: AtomicBool,
    /// Answers over HTTP/2, whose streams stall one by one.
    answers: Mutex<Answers>,
    /// Ends the connection, to make room for another.
    pub evicted: CancellationToken,
}

impl Activity {
    /// A connection that has just begun, and owes its first request.
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            requests: AtomicUsize::new(0),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            http2: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
            answers: Mutex::default(),
            evicted: CancellationToken::new(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(NEVER - 1)
    }

    fn passed(&self, since: u64, bound: Duration) -> bool {
        since != NEVER && u128::from(self.now().saturating_sub(since)) > bound.as_millis()
    }

    /// Bytes came in. Between two requests of HTTP/1 they begin the next one's head; HTTP/2 has other frames too.
    pub fn heard(&self) {
        if self.requests.load(Ordering::Relaxed) == 0 && !self.http2.load(Ordering::Relaxed) {
            let now = self.now();
            // Only the first bytes count.
            let _ = self.head_since.compare_exchange(NEVER, now, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// The socket speaks another protocol from here on, whose handler has bounds of its own.
    pub fn upgraded(&self) {
        self.upgraded.store(true, Ordering::Relaxed);
    }

    /// Since when nothing is asked of this side; `None` while something is.
    pub fn idle_since(&self) -> Option<Instant> {
        let idle = self.requests.load(Ordering::Relaxed) == 0 && !self.upgraded.load(Ordering::Relaxed);
        idle.then(|| self.began + Duration::from_millis(self.idle_since.load(Ordering::Relaxed)))
    }

    /// Whether the connection has outlived a bound.
    pub fn verdict(&self, limits: &ConnectionLimits) -> Option<Cut> {
        if self.upgraded.load(Ordering::Relaxed) {
            return None;
        }
        if self.requests.load(Ordering::Relaxed) > 0 {
            return self.has_stalled_answer(limits.stall_timeout).then_some(Cut::Stalled);
        }
        if self.passed(self.head_since.load(Ordering::Relaxed), limits.header_timeout) {
            return Some(Cut::SlowHead);
        }
        self.passed(self.idle_since.load(Ordering::Relaxed), limits.idle_timeout).then_some(Cut::Idle)
    }

    fn has_stalled_answer(&self, bound: Duration) -> bool {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.sift();
        let times = answers.times.iter().filter_map(Weak::upgrade);
        times.into_iter().any(|taken| self.passed(taken.load(Ordering::Relaxed), bound))
    }

    /// A request's head is here. What is answered is wrapped by [`Request::answer`].
    pub fn request(self: &Arc<Self>, http2: bool) -> Request {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(NEVER, Ordering::Relaxed);
        self.http2.store(http2, Ordering::Relaxed);
        Request { activity: Arc::clone(self), http2 }
    }
}

/// A request under way, from its head to the end of its answer.
#[derive(Debug)]
pub struct Request {
    activity: Arc<Activity>,
    http2: bool,
}

impl Request {
    /// The answer's body, which ends the request when it is dropped.
    pub fn answer(self, body: Body) -> Answer {
        let waiting_since = self.http2.then(|| {
            let waiting = Arc::new(AtomicU64::new(NEVER));
            let mut answers = self.activity.answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.push(Arc::downgrade(&waiting));
            waiting
        });
        Answer { body, waiting_since, request: self }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.activity.idle_since.store(self.activity.now(), Ordering::Relaxed);
        self.activity.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer's body. A body over HTTP/2 notes when a piece of it was handed over: as long as the client takes none,
/// no further piece is asked for.
#[derive(Debug)]
pub struct Answer {
    body: Body,
    waiting_since: Option<Arc<AtomicU64>>,
    request: Request,
}

impl Answer {
    fn note(&self, since: u64) {
        if let Some(waiting) = &self.waiting_since {
            waiting.store(since, Ordering::Relaxed);
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        self.note(NEVER);
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(Some(Ok(_)))) {
            self.note(self.request.activity.now());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(ms: u64) -> ConnectionLimits {
        let time = Duration::from_millis(ms);
        ConnectionLimits {
            all_max: 1,
            per_address_max: 1,
            header_timeout: time,
            idle_timeout: time * 2,
            stall_timeout: time,
            request_timeout: time,
        }
    }

    /// An activity that began so long ago.
    fn aged(ms: u64) -> Arc<Activity> {
        let began = Instant::now().checked_sub(Duration::from_millis(ms)).unwrap();
        Arc::new(Activity { began, ..Activity::new() })
    }

    #[test]
    fn a_connection_owes_its_first_request_and_then_may_idle() {
        let activity = aged(150);
        assert_eq!(activity.verdict(&limits(100)), Some(Cut::SlowHead));
        drop(activity.request(false));
        assert_eq!(activity.verdict(&limits(100)), None);
        activity.idle_since.store(0, Ordering::Relaxed);
        assert_eq!(activity.verdict(&limits(100)), None, "it idles for 150 of 200 ms");
        assert_eq!(activity.verdict(&limits(50)), Some(Cut::Idle));
    }

    #[test]
    fn the_first_bytes_of_a_next_request_start_its_clock() {
        let activity = aged(150);
        drop(activity.request(false));
        activity.heard();
        activity.heard();
        let began = activity.head_since.load(Ordering::Relaxed);
        assert!((150..NEVER).contains(&began), "{began}");
        activity.head_since.store(10, Ordering::Relaxed);
        assert_eq!(activity.verdict(&limits(100)), Some(Cut::SlowHead));
    }

    #[test]
    fn frames_between_requests_of_http_2_are_no_head() {
        let activity = aged(150);
        drop(activity.request(true));
        activity.heard();
        assert_eq!(activity.head_since.load(Ordering::Relaxed), NEVER);
    }

    #[tokio::test]
    async fn an_answer_that_nobody_takes_stalls_and_one_that_waits_for_us_does_not() {
        let activity = aged(150);
        let pieces = futures::stream::iter([Ok::<_, std::io::Error>("piece")]).chain_pending();
        let mut answer = activity.request(true).answer(Body::from_stream(pieces));
        assert_eq!(activity.verdict(&limits(100)), None);
        let mut next =
            async || std::future::poll_fn(|c| Poll::Ready(Pin::new(&mut answer).poll_frame(c))).await;
        assert!(next().await.is_ready());
        assert_eq!(activity.verdict(&limits(100)), None, "it was handed over just now");
        let waiting = activity.answers.lock().unwrap().times[0].upgrade().unwrap();
        waiting.store(0, Ordering::Relaxed);
        assert_eq!(activity.verdict(&limits(100)), Some(Cut::Stalled));
        assert!(next().await.is_pending(), "it was taken, and the next piece is not there yet");
        assert_eq!(activity.verdict(&limits(100)), None);
        drop(answer);
        assert!(activity.idle_since().is_some());
    }

    #[test]
    fn answers_that_have_ended_take_no_room() {
        let activity = aged(0);
        let open: Vec<_> = (0..100).map(|_| activity.request(true).answer(Body::empty())).collect();
        for _ in 0..10_000 {
            drop(activity.request(true).answer(Body::empty()));
        }
        let known = activity.answers.lock().unwrap().times.len();
        assert!((100..=200).contains(&known), "{known}");
        drop(open);
    }

    trait ChainPending: futures::Stream + Sized {
        /// The stream, and then silence.
        fn chain_pending(self) -> impl futures::Stream<Item = Self::Item> {
            futures::StreamExt::chain(self, futures::stream::pending())
        }
    }

    impl<S: futures::Stream> ChainPending for S {}
}
