//! What the ledger answers to those that ask it again.

use std::{sync::Arc, time::Duration};

use contracts::RunId;
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use testing::TestDatabase;
use tokio_util::sync::CancellationToken;

use super::{
    Attempt, Begun, CANCEL_GRACE, Completed, Effect, Ledger, MIGRATIONS, Options, Step, StepError, execute,
    ledger::{Claim, Claimant},
    store::Key,
};
use crate::database::{self, Database};

/// Begins in a database that takes its time, and says whether it was cancelled before it could do anything.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Slow;

impl Step for Slow {
    type Worker = ();
    type Output = bool;
    const NAME: &'static str = "slow";
    const OPTIONS: Options =
        Options { timeout: Duration::from_secs(60), attempts_max: 1, backoff: Duration::ZERO };

    async fn run(self, _: Arc<()>, mut attempt: Attempt) -> Result<Completed<bool>, StepError> {
        let begun = attempt
            .begin(Effect::AtMostOnce, |_, _| {
                Box::pin(async {
                    tokio::time::sleep(CANCEL_GRACE + Duration::from_secs(1)).await;
                    Ok(())
                })
            })
            .await?;
        assert_eq!(begun, Begun::Fresh);
        let cancelled = attempt.cancelled().is_cancelled();
        attempt.finish(cancelled).await
    }
}

/// Begins in a database that goes away, while its run is cancelled, and is back then.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct AwayOnce;

impl Step for AwayOnce {
    type Worker = CancellationToken;
    type Output = bool;
    const NAME: &'static str = "away_once";
    const OPTIONS: Options = Slow::OPTIONS;

    async fn run(
        self,
        cancel: Arc<CancellationToken>,
        mut attempt: Attempt,
    ) -> Result<Completed<bool>, StepError> {
        let first = !cancel.is_cancelled();
        let begin = attempt.begin(Effect::AtMostOnce, move |_, _| {
            let answer = if first { Err(StepError::Store { message: "away".into() }) } else { Ok(()) };
            Box::pin(async { answer })
        });
        let begun = begin.await;
        cancel.cancel();
        assert_eq!(begun?, Begun::Fresh);
        let cancelled = attempt.cancelled().is_cancelled();
        attempt.finish(cancelled).await
    }
}

struct Steps;

impl MigratorTrait for Steps {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let all = database::MIGRATIONS.iter().chain(MIGRATIONS);
        all.map(|migration| Box::new(*migration) as Box<dyn MigrationTrait>).collect()
    }
}

async fn ledger() -> (TestDatabase, Ledger) {
    let kept = TestDatabase::empty();
    let database = Database::open(&kept.dsn().parse().unwrap()).await.unwrap();
    database::migrate::<Steps>(&database).await.unwrap();
    (kept, Ledger::new(database))
}

/// The effect's beginning and the attempt's number, or nothing where somebody else is at it.
async fn begin(ledger: &Ledger, key: &Key, effect: Effect, claimant: &Claimant) -> Option<(Begun, i64)> {
    let begun = ledger.begin(key.clone(), effect, claimant.clone(), |_, _| Box::pin(async { Ok(()) })).await;
    match begun.unwrap() {
        Claim::Begun(begun, number) => Some((begun, number)),
        Claim::Elsewhere => None,
    }
}

fn claimant(ledger: &Ledger, leased: bool) -> Claimant {
    Claimant { owner: ledger.claim(), leased }
}

#[tokio::test]
async fn a_begin_whose_answer_was_lost_is_known_again_and_another_attempt_is_not_taken_for_it() {
    let (_kept, ledger) = ledger().await;
    for (effect, later) in [(Effect::AtMostOnce, Begun::Lost), (Effect::Idempotent, Begun::Again)] {
        let key = Ledger::plain_key(RunId::new(), 0, "step", b"input");
        let (first, second) = (claimant(&ledger, false), claimant(&ledger, false));
        for _ in 0..2 {
            assert_eq!(begin(&ledger, &key, effect, &first).await, Some((Begun::Fresh, 1)));
        }
        for _ in 0..2 {
            assert_eq!(begin(&ledger, &key, effect, &second).await, Some((later, 2)));
        }
    }
}

#[tokio::test]
async fn a_step_that_may_be_done_once_is_not_taken_from_who_is_alive() {
    let (_kept, ledger) = ledger().await;
    let key = Ledger::plain_key(RunId::new(), 0, "step", b"input");
    let (first, second) = (claimant(&ledger, true), claimant(&ledger, true));
    assert_eq!(begin(&ledger, &key, Effect::AtMostOnce, &first).await, Some((Begun::Fresh, 1)));
    assert_eq!(begin(&ledger, &key, Effect::AtMostOnce, &second).await, None);
    assert!(ledger.is_at(key.run, 0).await.unwrap());
    let done = ledger.complete(key.clone(), 1, "null".into(), |_| Box::pin(async { Ok(()) })).await;
    assert_eq!(done, Ok(()));
    assert!(!ledger.is_at(key.run, 0).await.unwrap());
    let begun = ledger.begin(key, Effect::AtMostOnce, second, |_, _| Box::pin(async { Ok(()) })).await;
    assert!(matches!(begun, Err(StepError::Superseded)));
}

#[tokio::test]
async fn a_step_whose_begin_is_being_committed_when_its_run_is_cancelled_is_not_taken_for_one_under_way() {
    let (_kept, ledger) = ledger().await;
    let cancel = CancellationToken::new();
    let cancelling = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancelling.cancel();
    });
    let ended = execute(Slow, Arc::new(()), &ledger, RunId::new(), 0, cancel).await;
    assert_eq!(ended, Ok(true), "it says by itself that it has done nothing");
}

#[tokio::test]
async fn a_step_whose_begin_was_not_answered_before_its_run_was_cancelled_asks_again() {
    let (_kept, ledger) = ledger().await;
    let cancel = CancellationToken::new();
    let ended = execute(AwayOnce, Arc::new(cancel.clone()), &ledger, RunId::new(), 0, cancel).await;
    assert_eq!(ended, Ok(true), "it says by itself that it has done nothing");
}
