//! The simulator: runs a workflow on a real ledger and crashes it where a plan says, as often as the plan says.
//!
//! A crash drops the workflow's future at the named moment, as a killed process would, and starts it anew from the
//! ledger. Time is virtual: a sleep is over at once, and moves the clock by its length and a jitter from the seed.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use contracts::RunId;
use tokio_util::sync::CancellationToken;

use super::{Context, Ledger, StepError, embedded::Waits, unix_ms};

/// Moments within a step at which a process can die.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Crash {
    /// Before anything.
    Before,
    /// The start is committed, nothing is done.
    Begun,
    /// Done, not recorded.
    Done,
    /// Recorded; nobody was told.
    Recorded,
}

impl Crash {
    pub const ALL: [Self; 4] = [Self::Before, Self::Begun, Self::Done, Self::Recorded];
}

/// Where to crash: each place once.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub crashes: Vec<(u32, Crash)>,
    pub seed: u64,
}

/// What a simulation saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub outcome: Result<(), StepError>,
    pub crashes: usize,
}

#[derive(Debug)]
pub(super) struct Crashes {
    left: Mutex<HashSet<(u32, Crash)>>,
    now: AtomicI64,
    seed: AtomicU64,
    /// Replaced at each start of the workflow; fires when it must be dropped.
    dead: Mutex<CancellationToken>,
}

impl Crashes {
    pub(super) async fn pass(&self, ordinal: u32, crash: Crash) {
        let hit = self.left.lock().unwrap_or_else(PoisonError::into_inner).remove(&(ordinal, crash));
        if hit {
            self.dead.lock().unwrap_or_else(PoisonError::into_inner).cancel();
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn now(&self) -> i64 {
        self.now.load(Ordering::SeqCst)
    }

    pub(super) fn advance_to(&self, due: i64) {
        // A small generator is enough to be late by a different time at each sleep.
        let jitter = self.seed.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::SeqCst) % 1000;
        self.now.fetch_max(due + i64::try_from(jitter).unwrap_or(0), Ordering::SeqCst);
    }
}

/// Runs `workflow` to its end under `plan`. `cancel` may fire at any time.
pub async fn simulate<W, F, Fut>(
    worker: &Arc<W>,
    ledger: &Ledger,
    run: RunId,
    plan: Plan,
    cancel: CancellationToken,
    workflow: F,
) -> Result<Report, StepError>
where
    W: Send + Sync + 'static,
    F: Fn(Context<W>) -> Fut,
    Fut: Future<Output = Result<(), StepError>>,
{
    let crashes = Arc::new(Crashes {
        left: Mutex::new(plan.crashes.into_iter().collect()),
        now: AtomicI64::new(unix_ms()),
        seed: AtomicU64::new(plan.seed),
        dead: Mutex::default(),
    });
    let mut crashed = 0;
    loop {
        let dead = CancellationToken::new();
        *crashes.dead.lock().unwrap_or_else(PoisonError::into_inner) = dead.clone();
        let recorded = ledger.load(run).await?;
        let never = CancellationToken::new();
        let context = Context::new(
            worker,
            ledger,
            run,
            recorded,
            cancel.clone(),
            &never,
            &never,
            Waits::default(),
            Some(Arc::clone(&crashes)),
        );
        tokio::select! {
            biased;
            () = dead.cancelled() => crashed += 1,
            outcome = workflow(context) => return Ok(Report { outcome, crashes: crashed }),
        }
    }
}
