//! Carries events from the outbox to the bus: one process at a time, in the order of the commits.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use contracts::events::{BusError, EventBus, Letter};
use tokio_util::sync::CancellationToken;

use super::store::{self, Kept};
use crate::{
    database::{Database, Error},
    durable::unix_ms,
    lease::{Duty, Lease},
};

/// Events that are sent together.
const BATCH: i64 = 500;
/// How often the table is looked at for events that other processes committed.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often a process that does not carry looks whether it is to.
const STAND_BY: Duration = Duration::from_secs(1);
/// Times that the bus is offered an event that it refuses. The n-th comes 2^n seconds after the one before.
const ATTEMPTS_MAX: i64 = 5;
/// Wait after the bus, or the database, was away, doubled up to the second.
const AWAY_WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How often it is said that something is away.
const SAID_EVERY: Duration = Duration::from_secs(60);
/// Longer than anything within takes that is to come to an end.
const CARRY_MAX: Duration = Duration::from_secs(120);
/// More that wait are not counted.
const COUNTED_MAX: i64 = 100_000;

/// Says what is wrong with an event that does not fit its schema.
pub type Check = fn(&Letter) -> Result<(), String>;

/// Events that the bus has not got yet; at most 100,000, for more are not counted.
pub async fn waiting(database: &Database) -> Result<i64, Error> {
    store::count_pending(database.read(), COUNTED_MAX).await
}

/// Until `stop`: carries events whenever no other process of this database does.
pub async fn relay(database: Database, bus: Arc<dyn EventBus>, check: Check, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match Lease::try_acquire(database.location(), Duty::Relay).await {
            Ok(Some(lease)) => {
                tracing::debug!("this process carries events to the bus");
                let lost = stop.child_token();
                let held = lease.hold(database.location().clone(), lost.clone());
                let carried = carry(&database, &*bus, check, &lost);
                // Whichever way the lease ends, its token has ended with it.
                let (held, ()) = tokio::join!(held, carried);
                drop(held);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "events are not carried to the bus"),
        }
        stop.run_until_cancelled(tokio::time::sleep(STAND_BY)).await;
    }
}

async fn carry(database: &Database, bus: &dyn EventBus, check: Check, stop: &CancellationToken) {
    let mut away = Away::default();
    while !stop.is_cancelled() {
        let wait = match tokio::time::timeout(CARRY_MAX, carry_some(database, bus, check)).await {
            Ok(Ok(Carried::All)) => {
                away.is_over();
                continue;
            }
            Ok(Ok(Carried::Nothing)) => {
                away.is_over();
                None
            }
            Ok(Ok(Carried::Away(error))) => Some(away.goes_on(&error)),
            Ok(Err(error)) => Some(away.goes_on(&error)),
            Err(_) => Some(away.goes_on(&format_args!("no end of it within {CARRY_MAX:?}"))),
        };
        let rest = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => drop(tokio::time::timeout(LOOK_EVERY, database.outbox().told()).await),
            }
        };
        stop.run_until_cancelled(rest).await;
    }
}

/// Says that something is away, now and again, and for how long it is to be left alone.
#[derive(Default)]
struct Away(Option<Absence>);

struct Absence {
    began: Instant,
    said: Instant,
    wait: Duration,
}

impl Away {
    fn goes_on(&mut self, error: &dyn std::fmt::Display) -> Duration {
        let (first, last) = AWAY_WAIT;
        let now = Instant::now();
        let Some(absence) = &mut self.0 else {
            tracing::warn!(%error, "events wait in the outbox");
            self.0 = Some(Absence { began: now, said: now, wait: first });
            return first;
        };
        if now.duration_since(absence.said) >= SAID_EVERY {
            absence.said = now;
            let seconds = now.duration_since(absence.began).as_secs();
            tracing::warn!(%error, seconds, "events still wait in the outbox");
        }
        absence.wait = (absence.wait * 2).min(last);
        absence.wait
    }

    fn is_over(&mut self) {
        if self.0.take().is_some() {
            tracing::info!("events go to the bus again");
        }
    }
}

enum Carried {
    /// There may be more.
    All,
    /// There is none, or none whose time has come.
    Nothing,
    Away(BusError),
}

async fn carry_some(database: &Database, bus: &dyn EventBus, check: Check) -> Result<Carried, Error> {
    let now = unix_ms();
    // What stands behind an event of its key that is to be tried later waits with it.
    let mut held = HashSet::new();
    let mut verdicts = Vec::new();
    let mut sent: Vec<Kept> = Vec::new();
    for kept in store::pending(database.read(), BATCH).await? {
        if held.contains(&kept.letter.key) {
            continue;
        }
        if kept.due_at > now {
            held.insert(kept.letter.key);
            continue;
        }
        match check(&kept.letter) {
            Ok(()) => sent.push(kept),
            Err(problem) => verdicts.push(Verdict::new(&kept, &BusError::Impossible(problem), now)),
        }
    }
    if sent.is_empty() && verdicts.is_empty() {
        return Ok(Carried::Nothing);
    }
    let results = if sent.is_empty() {
        Vec::new()
    } else {
        bus.publish(sent.iter().map(|kept| kept.letter.clone()).collect()).await
    };
    let mut failed = HashSet::new();
    let mut there = Vec::new();
    let mut away = None;
    for (kept, result) in sent.iter().zip(results) {
        // After a failure of its key it is sent again, so that the order comes out right.
        if failed.contains(&kept.letter.key) {
            continue;
        }
        match result {
            Ok(()) => there.push(kept.id),
            // A broken promise for tests: what the bus has not got is lost.
            Err(BusError::Away(_)) if crate::faults::broken("outbox_early") => there.push(kept.id),
            Err(error @ BusError::Impossible(_)) => verdicts.push(Verdict::new(kept, &error, now)),
            Err(error) => {
                failed.insert(&kept.letter.key);
                match error {
                    BusError::Away(_) => away = away.or(Some(error)),
                    _ => verdicts.push(Verdict::new(kept, &error, now)),
                }
            }
        }
    }
    metrics::counter!("outbox_published_total").increment(u64::try_from(there.len()).unwrap_or(0));
    if !there.is_empty() || !verdicts.is_empty() {
        database
            .write(move |tx| {
                Box::pin(async move {
                    if !there.is_empty() {
                        store::remove(tx, &there).await?;
                    }
                    for verdict in &verdicts {
                        store::refused(tx, verdict.id, verdict.attempts, verdict.due_at, &verdict.error)
                            .await?;
                    }
                    Ok::<_, Error>(())
                })
            })
            .await?;
    }
    Ok(away.map_or(Carried::All, Carried::Away))
}

/// What becomes of an event that was refused.
struct Verdict {
    id: i64,
    attempts: i64,
    /// Absent when it is dead.
    due_at: Option<i64>,
    error: String,
}

impl Verdict {
    fn new(kept: &Kept, error: &BusError, now: i64) -> Self {
        let attempts = kept.attempts + 1;
        let last = matches!(error, BusError::Impossible(_)) || attempts >= ATTEMPTS_MAX;
        let due_at = (!last).then(|| now.saturating_add(1000 << attempts));
        let (id, topic) = (&kept.event_id, kept.letter.topic);
        if last {
            metrics::counter!("outbox_dead_total").increment(1);
            tracing::error!(event = %id, %topic, %error, "an event is dead: `soma dlq` shows it and sends it again");
        } else {
            tracing::warn!(event = %id, %topic, %error, attempts, "the bus refused an event");
        }
        Self { id: kept.id, attempts, due_at, error: error.to_string() }
    }
}
