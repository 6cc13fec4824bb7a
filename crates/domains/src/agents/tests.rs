//! The real turn in the simulator: crashed at every moment of every step, singly and in pairs, it still answers once.

use contracts::RunId;
use platform::durable::{Crash, Plan, simulate};
use tokio_util::sync::CancellationToken;

use crate::{
    agents,
    conversations::{
        self,
        journal::{self, RunState},
    },
    tests::World,
};

/// Two tools, then the answer: five steps.
const MESSAGE: &str = r#"[[tool file_write {"path":"a.txt","content":"seven"}]] [[tool file_read {"path":"a.txt"}]] [[say it says {result}]]"#;
const STEPS: u32 = 5;

impl World {
    async fn message(&self) -> RunId {
        conversations::send_for_test(&self.app, &self.caller, MESSAGE, self.unguarded()).await
    }

    async fn simulate(&self, run: RunId, plan: Plan, cancel: CancellationToken) -> usize {
        let ledger = &self.app.ledger;
        let report =
            simulate(
                &self.app,
                ledger,
                run,
                plan,
                cancel,
                |context| async move { agents::turn(&context).await },
            )
            .await
            .unwrap();
        assert_eq!(report.outcome, Ok(()));
        report.crashes
    }

    /// What a finished turn must have left, however often it crashed.
    async fn check_answered_once(&self, run: RunId) {
        let found = journal::find_run(self.app.database.read(), run).await.unwrap().unwrap();
        assert_eq!(found.state, RunState::Completed, "{:?}", found.error);
        let transcript = journal::transcript(self.app.database.read(), &found).await.unwrap();
        let said: Vec<&str> = transcript.iter().map(|message| message.message.content.as_str()).collect();
        assert_eq!(said, [MESSAGE, "", "Wrote 5 bytes.", "", "seven", "it says seven"]);
        let events = conversations::events_for_test(&self.app, run).await;
        let count = |kind: &str| events.iter().filter(|event| event.as_str() == kind).count();
        assert_eq!(
            (count("tool.start"), count("tool.result"), count("chat.done"), count("run.done")),
            (2, 2, 1, 1)
        );
        assert_eq!(events.last().map(String::as_str), Some("run.done"));
    }

    async fn check_nothing_reserved(&self) {
        for budget in crate::models::accounts_for_test(&self.app, self.caller.tenant).await {
            assert_eq!(budget.reserved_micros, 0, "{budget:?}");
        }
    }
}

#[tokio::test]
async fn a_turn_that_crashes_at_any_moment_of_any_step_answers_once() {
    let world = World::new().await;
    for ordinal in 0..STEPS {
        for crash in Crash::ALL {
            let run = world.message().await;
            let plan = Plan { crashes: vec![(ordinal, crash)], seed: 7 };
            assert_eq!(world.simulate(run, plan, CancellationToken::new()).await, 1, "{ordinal} {crash:?}");
            world.check_answered_once(run).await;
        }
    }
    world.check_nothing_reserved().await;
    assert!(world.model.counts().requests > 60, "three model calls a turn");
}

#[tokio::test]
async fn a_turn_that_crashes_at_every_moment_of_every_step_answers_once() {
    let world = World::new().await;
    let all = (0..STEPS).flat_map(|ordinal| Crash::ALL.map(|crash| (ordinal, crash))).collect();
    let run = world.message().await;
    let crashes = world.simulate(run, Plan { crashes: all, seed: 1 }, CancellationToken::new()).await;
    assert_eq!(crashes, usize::try_from(STEPS).unwrap() * Crash::ALL.len());
    world.check_answered_once(run).await;
    world.check_nothing_reserved().await;
}

#[tokio::test]
async fn a_cancelled_turn_settles_its_budget_wherever_it_crashed_before() {
    let world = World::new().await;
    for (ordinal, crash) in [(0, Crash::Begun), (0, Crash::Done), (1, Crash::Begun), (2, Crash::Begun)] {
        let run = world.message().await;
        let cancel = CancellationToken::new();
        let cancelled = cancel.clone();
        let ledger = &world.app.ledger;
        let starts = std::sync::atomic::AtomicUsize::new(0);
        let plan = Plan { crashes: vec![(ordinal, crash)], seed: 3 };
        let report = simulate(&world.app, ledger, run, plan, cancel, |context| {
            // The cancellation arrives while the process is down.
            if starts.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 1 {
                cancelled.cancel();
            }
            async move { agents::turn(&context).await }
        })
        .await
        .unwrap();
        assert_eq!((report.outcome, report.crashes), (Ok(()), 1));
        let found = journal::find_run(world.app.database.read(), run).await.unwrap().unwrap();
        assert_eq!(found.state, RunState::Cancelled, "{ordinal} {crash:?}");
    }
    world.check_nothing_reserved().await;
}
