//! Starts runs: at once after their message is stored, and again after a crash.
//!
//! Starting a run twice is one run, so whoever is in doubt starts it.

use std::{sync::Arc, time::Duration};

use contracts::{ConversationId, RunId, engine::Start};
use platform::{
    database::Error,
    durable::{self, unix_ms},
};
use tokio_util::sync::CancellationToken;

use super::{
    journal::{self, RunState},
    retention, store,
};
use crate::{App, agents};

/// How often runs are looked for that nobody started.
const SWEEP_EVERY: Duration = Duration::from_secs(2);
/// A run is started by whoever stored it; the sweep takes only those that were left for this long.
const LEFT_MS: i64 = 5_000;
/// How far past its deadline a run may be before it is taken for lost: its last step may still be ending, and then
/// needs the database once more.
const LOST_AFTER: Duration = agents::OVERTIME_MAX.saturating_add(Duration::from_secs(60));

/// Asks the engine to work on a run. Where it can't, the sweep asks again.
pub(super) async fn start(app: &App, start: &Start) {
    let Some(engine) = app.engine() else { return };
    if let Err(error) = engine.start_turn(start).await {
        tracing::warn!(run = %start.run, %error, "a run could not be started yet");
    }
}

pub(super) async fn cancel(app: &App, run: RunId) {
    let Some(engine) = app.engine() else { return };
    if let Err(error) = engine.cancel_turn(run).await {
        tracing::warn!(%run, %error, "a run could not be cancelled yet");
    }
}

/// Tells the engine that a run was signalled; the signal is recorded already.
pub(crate) async fn signal(app: &App, run: RunId, name: &str) {
    let Some(engine) = app.engine() else { return };
    if let Err(error) = engine.signal_turn(run, name).await {
        tracing::warn!(%run, %error, "a run could not be signalled yet");
    }
}

async fn is_over(app: &App, run: RunId) -> bool {
    let Some(engine) = app.engine() else { return false };
    engine.is_over(run).await.unwrap_or_else(|error| {
        tracing::warn!(%run, %error, "whether a run is over can't be learned yet");
        false
    })
}

/// Starts the oldest waiting run of a conversation, if none is at work there.
pub async fn start_next(app: &App, conversation: ConversationId) -> Result<(), Error> {
    // Nearly always nothing waits, and a look costs no commit. A message that is stored after the last run's end finds
    // nothing ahead of it and starts itself; one stored before is seen here.
    if !store::runs::waiting(app.database.read(), conversation).await? {
        return Ok(());
    }
    let claimed = app
        .database
        .write(move |tx| Box::pin(async move { store::runs::claim_next(tx, conversation, unix_ms()).await }))
        .await?;
    if let Some(claimed) = claimed {
        platform::faults::point("run_claimed");
        start(app, &claimed).await;
    }
    Ok(())
}

/// Takes up what the last process left: runs at work, runs being cancelled, runs that wait.
pub async fn resume(app: &App) -> Result<(), Error> {
    pick_up(app, i64::MAX).await
}

/// Looks for left runs until `stop`.
pub async fn sweep(app: Arc<App>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(SWEEP_EVERY)).await.is_some() {
        if let Err(error) = pick_up(&app, unix_ms() - LEFT_MS).await {
            tracing::error!(%error, "left runs can't be looked for");
        }
        if let Err(error) = retention::sweep(&app).await {
            tracing::error!(%error, "events past their time can't be dropped");
        }
    }
}

async fn pick_up(app: &App, started_before: i64) -> Result<(), Error> {
    let lost = unix_ms().saturating_sub_unsigned(u64::try_from(LOST_AFTER.as_millis()).unwrap_or(u64::MAX));
    for run in store::runs::at_work(app.database.read()).await? {
        // A run that waits for a person is at work for the engine, and its time stands still.
        let waits = run.state == RunState::Waiting;
        if !waits && run.deadline < lost {
            let why = "The run was still at work long after its time and was given up.";
            if fail_lost(app, run.id, "lost", why).await {
                // Wherever it still is, it ends.
                cancel(app, run.id).await;
            }
            continue;
        }
        if run.started_at.is_none_or(|at| at < started_before) {
            if is_over(app, run.id).await {
                let _ended =
                    fail_lost(app, run.id, "lost", "The run's workflow was ended from outside.").await;
                continue;
            }
            start(app, &Start { run: run.id, tenant: run.tenant, agent: run.agent }).await;
            if run.state == RunState::Cancelling {
                cancel(app, run.id).await;
            }
        }
    }
    for conversation in store::runs::idle_with_queue(app.database.read()).await? {
        start_next(app, conversation).await?;
    }
    Ok(())
}

/// Ends a run whose turn ended without doing so. Its open reservations settle in full, and a call that was cut off is
/// closed as one of a cancelled run; an attempt that is still under way somewhere changes nothing any more. A run that was
/// being cancelled ends as that. Answers whether it was ended here.
pub(crate) async fn fail_lost(app: &App, run: RunId, code: &str, message: &str) -> bool {
    let (code, message) = (code.to_owned(), message.to_owned());
    let toolbox = app.tools.get().await.ok();
    let ended = app
        .database
        .write(move |tx| {
            Box::pin(async move {
                let Some(found) = journal::find_run(tx, run).await? else { return Ok(None) };
                durable::close_open(tx, run, unix_ms()).await?;
                agents::settle(tx, toolbox.as_deref(), &found).await?;
                if found.state == RunState::Cancelling {
                    journal::finish(tx, run, RunState::Cancelled, None).await?;
                } else {
                    journal::finish(tx, run, RunState::Failed, Some((&code, &message))).await?;
                }
                Ok::<_, Error>(Some(found.conversation))
            })
        })
        .await;
    app.hub.wake(run);
    match ended {
        Ok(Some(conversation)) => {
            if let Err(error) = start_next(app, conversation).await {
                tracing::error!(%error, "the next run could not be claimed");
            }
            true
        }
        Ok(None) => false,
        Err(error) => {
            tracing::error!(%run, %error, "a lost run could not be ended");
            false
        }
    }
}
