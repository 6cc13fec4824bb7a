//! The stream hub: wakes whoever reads a run's events when there are more.
//!
//! It carries no events. The table of run events is every stream's truth; a reader that is never woken still finds
//! its events at the next look, only later. Where processes share a Redis server it hands wakes on, and hears those of
//! the others.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use contracts::RunId;
use tokio::sync::{Notify, watch};

#[derive(Debug, Clone)]
pub struct Hub {
    runs: Arc<Mutex<HashMap<RunId, watch::Sender<()>>>>,
    /// As it was made with, and as it is now in milliseconds.
    told: Duration,
    look_again: Arc<AtomicU64>,
    /// Where wakes are handed on.
    outgoing: Arc<OnceLock<Arc<Outgoing>>>,
}

/// Runs that wait to be told of at once.
const OUTGOING_MAX: usize = 10_000;

/// Runs with news that other processes are to be told of. A run is in it once, however often it is woken meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    runs: Mutex<HashSet<RunId>>,
    more: Notify,
}

impl Outgoing {
    fn add(&self, run: RunId) {
        self.put_back([run]);
    }

    /// Runs that could not be told of.
    pub(crate) fn put_back(&self, runs: impl IntoIterator<Item = RunId>) {
        let mut waiting = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        for run in runs {
            // While the server is away for long they are found at readers' next look anyway.
            if waiting.len() >= OUTGOING_MAX {
                break;
            }
            waiting.insert(run);
        }
        drop(waiting);
        self.more.notify_one();
    }

    /// Waits for some, and takes them all.
    pub(crate) async fn take(&self) -> HashSet<RunId> {
        loop {
            let runs = mem::take(&mut *self.runs.lock().unwrap_or_else(PoisonError::into_inner));
            if !runs.is_empty() {
                return runs;
            }
            self.more.notified().await;
        }
    }
}

/// A reader's place in the hub.
#[derive(Debug)]
pub struct Listener {
    /// There until the end.
    wakes: Option<watch::Receiver<()>>,
    run: RunId,
    hub: Hub,
}

impl Hub {
    /// `look_again` is how long a reader waits without being woken: long where all writers are in this process,
    /// short where another process writes too.
    #[must_use]
    pub fn new(look_again: Duration) -> Self {
        let now = Arc::new(AtomicU64::new(millis(look_again)));
        Self { runs: Arc::default(), told: look_again, look_again: now, outgoing: Arc::default() }
    }

    /// In this process, and in others if they hear of it.
    pub fn wake(&self, run: RunId) {
        self.wake_here(run);
        if let Some(outgoing) = self.outgoing.get() {
            outgoing.add(run);
        }
    }

    /// What is to be handed on from now on.
    pub(crate) fn outgoing(&self) -> Arc<Outgoing> {
        Arc::clone(self.outgoing.get_or_init(Arc::default))
    }

    /// How long a reader waits without being woken, for the time being.
    pub(crate) fn look_again_in(&self, time: Duration) {
        self.look_again.store(millis(time), Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn looks_again_in(&self) -> Duration {
        Duration::from_millis(self.look_again.load(Ordering::Relaxed))
    }

    /// As it was when it was made.
    pub(crate) fn look_as_told(&self) {
        self.look_again_in(self.told);
    }

    pub(crate) fn wake_here(&self, run: RunId) {
        if let Some(sender) = self.lock().get(&run) {
            sender.send_replace(());
        }
    }

    #[must_use]
    pub fn listen(&self, run: RunId) -> Listener {
        let wakes = self.lock().entry(run).or_insert_with(|| watch::channel(()).0).subscribe();
        Listener { wakes: Some(wakes), run, hub: self.clone() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, watch::Sender<()>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    /// Returns when there may be something new. Call it after a look at the table that found nothing: a wake between
    /// the look and this call is not lost.
    pub async fn wait(&mut self) {
        let Some(wakes) = &mut self.wakes else { return };
        let look_again = Duration::from_millis(self.hub.look_again.load(Ordering::Relaxed));
        let _ = tokio::time::timeout(look_again, wakes.changed()).await;
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut runs = self.hub.lock();
        // Within the lock, so that of two readers that end at once the later one finds nobody left.
        self.wakes = None;
        if runs.get(&self.run).is_some_and(|sender| sender.receiver_count() == 0) {
            runs.remove(&self.run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readers that end at once, on as many threads.
    const READERS: usize = 8;

    #[test]
    fn nothing_is_kept_of_a_run_whose_readers_have_all_ended() {
        let hub = Hub::new(Duration::from_secs(1));
        for _ in 0..2_000 {
            let run = RunId::new();
            let at_once = std::sync::Barrier::new(READERS);
            std::thread::scope(|scope| {
                for _ in 0..READERS {
                    let listener = hub.listen(run);
                    let at_once = &at_once;
                    scope.spawn(move || {
                        at_once.wait();
                        drop(listener);
                    });
                }
            });
        }
        assert!(hub.lock().is_empty(), "{} runs are left", hub.lock().len());
    }
}
