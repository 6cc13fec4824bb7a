//! The stream hub: wakes whoever reads a run's events when there are more.
//!
//! It carries no events. The table of run events is every stream's truth; a reader that is never woken still finds
//! its events at the next look, only later.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use contracts::RunId;
use tokio::sync::watch;

#[derive(Debug, Clone)]
pub struct Hub {
    runs: Arc<Mutex<HashMap<RunId, watch::Sender<()>>>>,
    look_again: Duration,
}

/// A reader's place in the hub.
#[derive(Debug)]
pub struct Listener {
    /// There until the end.
    wakes: Option<watch::Receiver<()>>,
    look_again: Duration,
    run: RunId,
    hub: Hub,
}

impl Hub {
    /// `look_again` is how long a reader waits without being woken: long where all writers are in this process,
    /// short where another process writes too.
    #[must_use]
    pub fn new(look_again: Duration) -> Self {
        Self { runs: Arc::default(), look_again }
    }

    pub fn wake(&self, run: RunId) {
        if let Some(sender) = self.lock().get(&run) {
            sender.send_replace(());
        }
    }

    #[must_use]
    pub fn listen(&self, run: RunId) -> Listener {
        let wakes = self.lock().entry(run).or_insert_with(|| watch::channel(()).0).subscribe();
        Listener { wakes: Some(wakes), look_again: self.look_again, run, hub: self.clone() }
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
        let _ = tokio::time::timeout(self.look_again, wakes.changed()).await;
    }
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
