//! Calls of a model by its name: money is held before the call and settled after it, and the commits for that are
//! shared by all calls that are under way.
//!
//! One task takes what waits: calls to be opened, calls that have ended. Nobody's call goes out before its row, its
//! reservation and its audit entry are on disk. An ending waits a moment for a commit that is made anyway, for nobody
//! waits for it. A call that is dropped settles by itself; one whose process died is found by [`sweep`] and
//! settles at all that was held for it: its provider may have charged it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use contracts::{ModelCallId, TenantId, UserId, model::Usage};
use platform::{
    config::WorkflowChoice,
    database::{Database, Error as StoreError, Tx},
    durable::unix_ms,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    budget::{self, OverBudget},
    store::{
        self,
        calls::{self as rows, End},
    },
};
use crate::{App, audit};

/// Openings and endings that may wait. A request past this waits in turn.
const QUEUE_MAX: usize = 4096;
/// Openings in one commit, and endings.
const BATCH_MAX: usize = 256;
/// How long an ending waits for an opening to share a commit with.
const ENDING_WAIT: Duration = Duration::from_millis(25);
/// Endings that are kept while the database takes none. Those past it are left to the sweep of the next process.
const ENDINGS_MAX: usize = 100_000;
/// How long the desk waits after a commit that failed, doubled up to the second.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// How often a process with open calls says that it is alive.
const BEAT_EVERY: Duration = Duration::from_secs(5);
/// How often open calls of dead processes are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// A process that was not seen for this long is taken for dead.
const SILENT_MS: i64 = 60_000;

/// A call to be opened.
#[derive(Debug, Clone)]
pub(crate) struct NewCall {
    pub id: ModelCallId,
    pub tenant: TenantId,
    pub user: UserId,
    pub model: String,
    /// What it may cost at most, in millionths of a US dollar.
    pub amount: u64,
}

#[derive(Debug, Clone, Copy)]
struct Ending {
    id: ModelCallId,
    tenant: TenantId,
    user: UserId,
    reserved: u64,
    cost: u64,
    usage: Usage,
}

type Opened = Result<Result<OpenCall, OverBudget>, StoreError>;

struct Opening {
    call: NewCall,
    entry: audit::Entry,
}

enum Order {
    Open(Box<Opening>, oneshot::Sender<Opened>),
    End(Ending),
    Flush(oneshot::Sender<()>),
}

/// Opens calls. Clones share the one task.
#[derive(Debug, Clone)]
pub struct Calls {
    queue: mpsc::Sender<Order>,
    process: Arc<str>,
}

/// A call whose money is held. Dropped, it settles: at nothing before it was [`sent`](Self::sent), after that at all
/// that was held.
#[derive(Debug)]
pub(crate) struct OpenCall {
    ending: Option<Ending>,
    sent: bool,
    queue: mpsc::Sender<Order>,
}

impl OpenCall {
    /// From here on the model may have been asked.
    pub(crate) fn sent(&mut self) {
        self.sent = true;
    }

    /// What was held for it.
    pub(crate) fn reserved(&self) -> u64 {
        self.ending.map_or(0, |ending| ending.reserved)
    }

    pub(crate) fn settle(mut self, cost: u64, usage: Usage) {
        if let Some(ending) = self.ending.take() {
            self.end(Ending { cost, usage, ..ending });
        }
    }

    fn end(&self, ending: Ending) {
        metrics::counter!("chat_tokens_total")
            .increment(ending.usage.input_tokens.saturating_add(ending.usage.output_tokens));
        if let Err(mpsc::error::TrySendError::Full(order)) = self.queue.try_send(Order::End(ending)) {
            let queue = self.queue.clone();
            tokio::spawn(async move { drop(queue.send(order).await) });
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        if let Some(ending) = self.ending.take() {
            let cost = if self.sent { ending.reserved } else { 0 };
            self.end(Ending { cost, ..ending });
        }
    }
}

impl Calls {
    pub(crate) fn start(database: Database) -> Self {
        let (queue, orders) = mpsc::channel(QUEUE_MAX);
        let process: Arc<str> = uuid::Uuid::now_v7().to_string().into();
        tokio::spawn(Desk::new(database, Arc::clone(&process), queue.downgrade()).work(orders));
        Self { queue, process }
    }

    /// Holds a call's money and writes its audit entry, or says that a budget has no room for it.
    pub(crate) async fn open(&self, call: NewCall, entry: audit::Entry) -> Opened {
        let stopped = || StoreError::Stopped("no model call can be opened any more".into());
        let (reply, answer) = oneshot::channel();
        self.queue
            .send(Order::Open(Box::new(Opening { call, entry }), reply))
            .await
            .map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Returns when every call that has ended is settled: before the process ends.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.queue.send(Order::Flush(done)).await.is_ok() {
            drop(flushed.await);
        }
    }

    /// Settles what dead processes left open, at all that was held. `alone` says that no other process can be alive.
    async fn sweep(&self, database: &Database, alone: bool) -> Result<(), StoreError> {
        if !rows::others_are_open(database.read(), &self.process).await? {
            return Ok(());
        }
        let (own, now) = (Arc::clone(&self.process), unix_ms());
        let seen_since = if alone { i64::MAX } else { now - SILENT_MS };
        let settled = database
            .write(move |tx| {
                Box::pin(async move {
                    let lost = rows::close_lost(tx, &own, seen_since, now).await?;
                    for call in &lost {
                        budget::release(tx, call.tenant, call.user, call.reserved, call.reserved).await?;
                    }
                    Ok::<_, StoreError>(lost.len())
                })
            })
            .await?;
        if settled > 0 {
            tracing::warn!(settled, "model calls of a process that is gone were settled in full");
        }
        Ok(())
    }
}

/// Looks for what dead processes left open until `stop`: at once, then from time to time.
pub async fn sweep(app: Arc<App>, stop: CancellationToken) {
    let alone = matches!(app.config.workflows.choice, WorkflowChoice::Embedded);
    loop {
        if let Err(error) = app.calls.sweep(&app.database, alone).await {
            tracing::error!(%error, "left model calls can't be looked for");
        }
        if stop.run_until_cancelled(tokio::time::sleep(SWEEP_EVERY)).await.is_none() {
            return;
        }
    }
}

/// The task's own state.
struct Desk {
    database: Database,
    process: Arc<str>,
    /// For the calls that it opens; it must not keep its own queue open.
    back: mpsc::WeakSender<Order>,
    openings: Vec<(Box<Opening>, oneshot::Sender<Opened>)>,
    endings: Vec<Ending>,
    flushes: Vec<oneshot::Sender<()>>,
    /// When endings are committed, if nothing comes before.
    commit_at: Option<Instant>,
    /// After a failure: nothing is tried before that for what nobody waits for, and how long that was from it.
    retry: Option<(Instant, Duration)>,
    beaten_at: Option<Instant>,
    open: usize,
}

impl Desk {
    fn new(database: Database, process: Arc<str>, back: mpsc::WeakSender<Order>) -> Self {
        Self {
            database,
            process,
            back,
            openings: Vec::new(),
            endings: Vec::new(),
            flushes: Vec::new(),
            commit_at: None,
            retry: None,
            beaten_at: None,
            open: 0,
        }
    }

    async fn work(mut self, mut queue: mpsc::Receiver<Order>) {
        let mut orders = Vec::with_capacity(BATCH_MAX);
        loop {
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                taken = queue.recv_many(&mut orders, BATCH_MAX) => {
                    if taken == 0 {
                        break;
                    }
                    orders.drain(..).for_each(|order| self.take(order));
                    let due = wake_at.is_some_and(|at| at <= Instant::now());
                    if self.openings.is_empty() && self.flushes.is_empty() && !due {
                        continue;
                    }
                }
                () = wait_until(wake_at), if wake_at.is_some() => {}
            }
            self.commit().await;
        }
        self.commit().await;
    }

    /// When there is something to commit, if nothing comes before.
    fn wake_at(&self) -> Option<Instant> {
        let beat_at = self.beaten_at.filter(|_| self.open > 0).map(|at| at + BEAT_EVERY);
        let due = [self.commit_at, beat_at].into_iter().flatten().min()?;
        Some(self.retry.map_or(due, |(at, _)| due.max(at)))
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Open(call, reply) => self.openings.push((call, reply)),
            Order::Flush(done) => self.flushes.push(done),
            Order::End(_) if self.endings.len() >= ENDINGS_MAX => {
                tracing::error!("an ended model call was not noted: it settles in full after the next start");
            }
            Order::End(ending) => {
                self.endings.push(ending);
                self.commit_at.get_or_insert_with(|| Instant::now() + ENDING_WAIT);
            }
        }
    }

    async fn commit(&mut self) {
        loop {
            let most = self.endings.len().min(BATCH_MAX);
            let endings: Vec<Ending> = self.endings.drain(..most).collect();
            if !self.commit_some(endings).await || self.endings.is_empty() {
                break;
            }
        }
        self.commit_at = (!self.endings.is_empty()).then(|| Instant::now() + ENDING_WAIT);
        for done in self.flushes.drain(..) {
            done.send(()).ok();
        }
    }

    /// One commit for these endings and all openings. On a failure the endings are kept for the next.
    async fn commit_some(&mut self, endings: Vec<Ending>) -> bool {
        let (calls, replies): (Vec<_>, Vec<_>) = self.openings.drain(..).unzip();
        let beat = self.beaten_at.is_none_or(|at| at.elapsed() >= BEAT_EVERY);
        let (process, kept) = (Arc::clone(&self.process), endings.clone());
        let opened: Vec<Ending> = calls.iter().map(|opening| Ending::of(&opening.call)).collect();
        let written = self
            .database
            .write(move |tx| {
                Box::pin(async move {
                    let now = unix_ms();
                    if beat {
                        rows::beat(tx, &process, now).await?;
                    }
                    end(tx, &endings, now).await?;
                    open(tx, &calls, &process, now).await
                })
            })
            .await;
        match written {
            Ok(fits) => {
                self.retry = None;
                if beat {
                    self.beaten_at = Some(Instant::now());
                }
                self.open = self.open.saturating_sub(kept.len());
                for ((reply, ending), fits) in replies.into_iter().zip(opened).zip(fits) {
                    self.answer(reply, ending, fits);
                }
                true
            }
            Err(error) => {
                tracing::error!(%error, calls = kept.len(), "ended model calls could not be settled yet");
                let wait = self.retry.map_or(RETRY_AFTER.0, |(_, last)| (last * 2).min(RETRY_AFTER.1));
                self.retry = Some((Instant::now() + wait, wait));
                self.endings.extend(kept);
                for reply in replies {
                    drop(reply.send(Err(error.clone())));
                }
                false
            }
        }
    }

    fn answer(&mut self, reply: oneshot::Sender<Opened>, ending: Ending, fits: bool) {
        if !fits {
            drop(reply.send(Ok(Err(OverBudget::TenantOrUser))));
            return;
        }
        self.open += 1;
        let Some(queue) = self.back.upgrade() else { return };
        // Whoever asked may be gone: the call then comes back, and drops.
        drop(reply.send(Ok(Ok(OpenCall { ending: Some(ending), sent: false, queue }))));
    }
}

impl Ending {
    /// The end of a call of which nothing is known yet.
    fn of(call: &NewCall) -> Self {
        Self {
            id: call.id,
            tenant: call.tenant,
            user: call.user,
            reserved: call.amount,
            cost: 0,
            usage: Usage::default(),
        }
    }
}

/// Settles each, and each account once.
async fn end(tx: &Tx, endings: &[Ending], now: i64) -> Result<(), StoreError> {
    if endings.is_empty() {
        return Ok(());
    }
    let ends = endings.iter().map(|ending| End { id: ending.id, cost: ending.cost, usage: ending.usage });
    let closed = rows::close(tx, ends, now).await?;
    let mut sums: BTreeMap<(TenantId, UserId), (u64, u64)> = BTreeMap::new();
    for ending in endings.iter().filter(|ending| closed.contains(&ending.id)) {
        let sum = sums.entry((ending.tenant, ending.user)).or_default();
        *sum = (sum.0.saturating_add(ending.reserved), sum.1.saturating_add(ending.cost));
    }
    for ((tenant, user), (reserved, cost)) in sums {
        budget::release(tx, tenant, user, reserved, cost).await?;
    }
    Ok(())
}

/// Opens each that fits; answers which do.
async fn open(tx: &Tx, openings: &[Box<Opening>], process: &str, now: i64) -> Result<Vec<bool>, StoreError> {
    let mut fits = vec![true; openings.len()];
    let mut payers: BTreeMap<(TenantId, UserId), Vec<usize>> = BTreeMap::new();
    for (index, opening) in openings.iter().enumerate() {
        payers.entry((opening.call.tenant, opening.call.user)).or_default().push(index);
    }
    for ((tenant, user), of_payer) in payers {
        let amount = |index: &usize| openings.get(*index).map_or(0, |opening| opening.call.amount);
        let sum = of_payer.iter().map(amount).fold(0, u64::saturating_add);
        if store::hold(tx, tenant, user, sum).await? {
            continue;
        }
        // Not all of them: those that came first, as far as the money goes.
        for index in &of_payer {
            if let Some(fits) = fits.get_mut(*index) {
                *fits = store::hold(tx, tenant, user, amount(index)).await?;
            }
        }
    }
    let opened: Vec<_> = openings.iter().zip(&fits).filter(|(_, fits)| **fits).map(|(one, _)| one).collect();
    if !opened.is_empty() {
        rows::insert(tx, opened.iter().map(|opening| &opening.call), process, now).await?;
        audit::add_all(tx, opened.iter().map(|opening| &opening.entry)).await?;
    }
    Ok(fits)
}

async fn wait_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::World;

    #[tokio::test]
    async fn while_the_database_takes_nothing_it_is_asked_once_in_a_while() {
        let world = World::new().await;
        let (queue, _orders) = mpsc::channel(1);
        let mut desk = Desk::new(world.app.database.clone(), "test".into(), queue.downgrade());
        let ending = Ending {
            id: ModelCallId::new(),
            tenant: world.caller.tenant,
            user: world.caller.user,
            reserved: 1,
            cost: 1,
            usage: Usage::default(),
        };
        let sql = |sql: &'static str| {
            let change = world.app.database.write(move |tx| {
                Box::pin(async move {
                    use platform::database::Sql;
                    tx.run(sql, platform::params![]).await
                })
            });
            async move {
                let changed: Result<u64, StoreError> = change.await;
                assert!(changed.is_ok(), "{sql}: {changed:?}");
            }
        };
        sql("ALTER TABLE model_calls RENAME TO away").await;
        desk.take(Order::End(ending));
        assert!(desk.wake_at().unwrap() <= Instant::now() + ENDING_WAIT);
        for wait in [1, 2, 4, 5, 5] {
            let before = Instant::now();
            desk.commit().await;
            assert!(desk.wake_at().unwrap() >= before + Duration::from_secs(wait), "{wait}");
            assert_eq!(desk.endings.len(), 1, "it is kept");
        }

        sql("ALTER TABLE away RENAME TO model_calls").await;
        desk.commit().await;

        assert!(desk.endings.is_empty());
        assert_eq!(desk.wake_at(), None);
        desk.take(Order::End(ending));
        assert!(desk.wake_at().unwrap() <= Instant::now() + ENDING_WAIT, "what was is forgotten");
    }
}
