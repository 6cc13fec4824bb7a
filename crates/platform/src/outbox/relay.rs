//! Carries events from the outbox to the bus: one process at a time, in the order of the commits.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
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
/// A process that has not got further for this long can't: it gives the duty up, whatever it waits in.
const STUCK_AFTER: Duration = Duration::from_secs(180);
/// A process to which the bus is away for this long lets another try, and stands back for as long as that may take.
const STEP_ASIDE: (Duration, Duration) = (Duration::from_secs(120), Duration::from_secs(5));
/// How long, after the end was asked for, what is on its way is waited for: otherwise it is sent twice.
const LAST_WAIT: Duration = Duration::from_secs(5);
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
        let mut wait = STAND_BY;
        match Lease::try_acquire(database.location(), Duty::Relay).await {
            Ok(Some(lease)) => {
                tracing::debug!("this process carries events to the bus");
                let lost = stop.child_token();
                let held = tokio::spawn(lease.hold(database.location().clone(), lost.clone()));
                if while_held(&database, &bus, check, &lost).await == Ended::Aside {
                    wait = STEP_ASIDE.1;
                }
                lost.cancel();
                drop(held.await);
                say_oldest(0);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "events are not carried to the bus"),
        }
        stop.run_until_cancelled(tokio::time::sleep(wait)).await;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Stopped,
    /// Another process may have more luck.
    Aside,
}

/// Carries until `stop`, or until it is plain that this process can't. In a task of its own: one that panics or is stuck
/// must not keep the duty.
async fn while_held(
    database: &Database,
    bus: &Arc<dyn EventBus>,
    check: Check,
    stop: &CancellationToken,
) -> Ended {
    let alive = Arc::new(Mutex::new(Instant::now()));
    let carrying = {
        let (database, bus, stop, alive) =
            (database.clone(), Arc::clone(bus), stop.clone(), Arc::clone(&alive));
        tokio::spawn(async move { carry(&database, &*bus, check, &stop, &alive).await })
    };
    let abort = carrying.abort_handle();
    let stuck = async {
        loop {
            let idle = alive.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
            match STUCK_AFTER.checked_sub(idle) {
                Some(left) => tokio::time::sleep(left).await,
                None => return,
            }
        }
    };
    tokio::select! {
        ended = carrying => ended.unwrap_or_else(|error| {
            tracing::error!(%error, "carrying events to the bus broke off; it begins anew");
            Ended::Aside
        }),
        () = stuck => {
            abort.abort();
            tracing::error!("carrying events to the bus is stuck; it begins anew");
            Ended::Aside
        }
    }
}

async fn carry(
    database: &Database,
    bus: &dyn EventBus,
    check: Check,
    stop: &CancellationToken,
    alive: &Mutex<Instant>,
) -> Ended {
    let mut away = Away::default();
    while !stop.is_cancelled() {
        *alive.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        if away.lasts() > STEP_ASIDE.0 {
            return Ended::Aside;
        }
        let last_wait = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_WAIT).await;
        };
        let carried = tokio::select! {
            carried = tokio::time::timeout(CARRY_MAX, carry_some(database, bus, check)) => carried,
            () = last_wait => break,
        };
        let wait = match carried {
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
    Ended::Stopped
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

    fn lasts(&self) -> Duration {
        self.0.as_ref().map_or(Duration::ZERO, |absence| absence.began.elapsed())
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
    let mut verdicts = Vec::new();
    let mut sent: Vec<Kept> = Vec::new();
    let waiting = store::pending(database.read(), now, BATCH).await?;
    say_oldest(waiting.first().map_or(0, |kept| now.saturating_sub(kept.created_at)));
    for kept in waiting {
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
        // After a failure of its key in its topic it is sent again, so that the order comes out right.
        let line = (kept.letter.topic, &kept.letter.key);
        if failed.contains(&line) {
            continue;
        }
        match result {
            Ok(()) => there.push(kept.id),
            // A broken promise for tests: what the bus has not got is lost.
            Err(BusError::Away(_)) if crate::faults::broken("outbox_early") => there.push(kept.id),
            Err(error @ BusError::Impossible(_)) => verdicts.push(Verdict::new(kept, &error, now)),
            Err(error) => {
                failed.insert(line);
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

/// How long the oldest event that is to be carried has waited, for whoever watches over that.
#[expect(clippy::cast_precision_loss, reason = "a time to look at")]
fn say_oldest(ms: i64) {
    metrics::gauge!("outbox_oldest_seconds").set(ms as f64 / 1000.0);
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
