//! The promises, one function each.

use std::time::{Duration, Instant};

use contracts::RunId;
use platform::durable::{CANCEL_GRACE, StepError};

use super::{Harness, Scenario, steps::ATTEMPTS};

/// Starts a run and waits for its end.
async fn outcome_of<H: Harness>(harness: &mut H, scenario: Scenario) -> (RunId, Result<(), StepError>) {
    let run = harness.world().run(scenario).await;
    harness.start(run).await;
    let outcome = harness.outcome(run).await;
    (run, outcome)
}

/// Starts a run and waits until it did `name`.
async fn reaches<H: Harness>(harness: &mut H, scenario: Scenario, name: &str) -> RunId {
    let run = harness.world().run(scenario).await;
    harness.start(run).await;
    harness.world().seen(run, name, 1).await;
    run
}

async fn count<H: Harness>(harness: &H, run: RunId, name: &str) -> usize {
    harness.world().effects(run, name).await.len()
}

async fn details<H: Harness>(harness: &H, run: RunId, name: &str) -> Vec<String> {
    harness.world().effects(run, name).await.into_iter().map(|effect| effect.detail).collect()
}

pub async fn steps_run_in_order<H: Harness>(harness: &mut H) {
    let (run, outcome) = outcome_of(harness, Scenario::Chain).await;
    assert_eq!(outcome, Ok(()));
    let effects = harness.world().all_effects(run).await;
    let seen: Vec<_> =
        effects.iter().map(|effect| (effect.name.as_str(), effect.detail.as_str(), effect.ordinal)).collect();
    assert_eq!(seen, [("one", "", 1), ("two", "", 2), ("three", "12", 3)]);
    assert_eq!(harness.world().ends(run).await, [Ok(())]);
}

pub async fn many_steps_run_at_once<H: Harness>(harness: &mut H) {
    let (run, outcome) = outcome_of(harness, Scenario::Wide(40)).await;
    assert_eq!(outcome, Ok(()));
    assert_eq!(details(harness, run, "sum").await, ["1560"]);
    assert_eq!(count(harness, run, "wide").await, 40);
}

pub async fn a_completed_step_is_not_run_again<H: Harness>(harness: &mut H) {
    let run = reaches(harness, Scenario::Gated, "gate begun").await;
    harness.kill().await;
    harness.world().open_gate(run, "gate").await;
    harness.resume(0).await;
    let resumed = Instant::now();
    assert_eq!(harness.outcome(run).await, Ok(()));
    assert!(resumed.elapsed() < H::LATE * 2, "the loss was noticed only after {:?}", resumed.elapsed());
    assert_eq!(count(harness, run, "before").await, 1);
    assert_eq!(count(harness, run, "gate begun").await, 2);
    assert_eq!(count(harness, run, "after").await, 1);
}

pub async fn joined_steps_keep_their_ordinals<H: Harness>(harness: &mut H) {
    let mut seen = Vec::new();
    for (first, second) in [("left", "right"), ("right", "left")] {
        let run = reaches(harness, Scenario::Joined, "left begun").await;
        harness.world().seen(run, "right begun", 1).await;
        harness.world().open_gate(run, first).await;
        let ordinal = if first == "left" { 1 } else { 2 };
        super::until("the first of two joined steps", || async {
            (harness.world().state(run, ordinal).await.as_deref() == Some("completed")).then_some(())
        })
        .await;
        harness.kill().await;
        harness.world().open_gate(run, second).await;
        harness.resume(0).await;
        assert_eq!(harness.outcome(run).await, Ok(()));
        let first_begun = format!("{first} begun");
        assert_eq!(count(harness, run, &first_begun).await, 1, "{first} was done before the kill");
        let mut effects = harness.world().all_effects(run).await;
        effects.sort_by_key(|effect| effect.ordinal);
        effects.dedup();
        seen.push(effects.into_iter().map(|effect| (effect.name, effect.ordinal)).collect::<Vec<_>>());
    }
    let expected = [("left begun", 1), ("right begun", 2), ("after", 3)]
        .map(|(name, ordinal)| (name.to_owned(), ordinal));
    assert_eq!(seen, [expected.to_vec(), expected.to_vec()]);
}

pub async fn a_failure_that_may_pass_is_tried_again<H: Harness>(harness: &mut H) {
    let (run, outcome) = outcome_of(harness, Scenario::Flaky(2)).await;
    assert_eq!(outcome, Ok(()));
    assert_eq!(count(harness, run, "flaky").await, 3);
}

pub async fn attempts_have_a_bound<H: Harness>(harness: &mut H) {
    let (run, outcome) = outcome_of(harness, Scenario::Flaky(usize::MAX)).await;
    assert_eq!(outcome, Err(StepError::failed("busy", "come back later")));
    assert_eq!(u32::try_from(count(harness, run, "flaky").await), Ok(ATTEMPTS));
    assert_eq!(harness.world().state(run, 1).await.as_deref(), Some("failed"));
}

pub async fn the_database_being_away_is_waited_for<H: Harness>(harness: &mut H) {
    let away = usize::try_from(ATTEMPTS).expect("small") + 2;
    let (run, outcome) = outcome_of(harness, Scenario::StoreAway(away)).await;
    assert_eq!(outcome, Ok(()));
    assert_eq!(count(harness, run, "flaky").await, away + 1);
}

pub async fn a_step_that_takes_too_long_is_tried_again<H: Harness>(harness: &mut H) {
    let (run, outcome) = outcome_of(harness, Scenario::Slow).await;
    assert_eq!(outcome, Err(StepError::failed("timeout", "slow took too long")));
    assert_eq!(count(harness, run, "slow").await, 2);
}

pub async fn a_final_failure_is_not_tried_again<H: Harness>(harness: &mut H) {
    let (run, outcome) = outcome_of(harness, Scenario::Final).await;
    assert_eq!(outcome, Err(StepError::failed("no_such_thing", "there is none")));
    assert_eq!(count(harness, run, "final").await, 1);
    assert_eq!(harness.world().state(run, 1).await.as_deref(), Some("failed"));
}

pub async fn a_refused_change_is_not_tried_again<H: Harness>(harness: &mut H) {
    let (run, outcome) = outcome_of(harness, Scenario::Clash).await;
    assert_eq!(outcome.as_ref().map_err(StepError::code), Err("database_constraint"), "{outcome:?}");
    assert_eq!(count(harness, run, "clash").await, 1);
    assert_eq!(harness.world().state(run, 1).await.as_deref(), Some("failed"));
}

pub async fn a_sleep_goes_on_while_nobody_works<H: Harness>(harness: &mut H) {
    // Twice the lateness, and some: a sleep that starts anew at the restart ends after the bound.
    let away = H::LATE + Duration::from_millis(500);
    let sleep = away + Duration::from_millis(500);
    let started = Instant::now();
    let run = reaches(harness, Scenario::Sleep(sleep.as_millis().try_into().expect("short")), "asleep").await;
    super::until("the sleep's start", || asleep(harness, run, started)).await;
    harness.kill().await;
    tokio::time::sleep(away).await;
    harness.resume(0).await;
    let resumed = Instant::now();
    assert_eq!(harness.outcome(run).await, Ok(()));
    assert!(started.elapsed() >= sleep, "woke after {:?}, too early", started.elapsed());
    assert!(
        resumed.elapsed() < sleep,
        "slept {:?} after the restart: the time before did not count",
        resumed.elapsed()
    );
    assert_eq!(count(harness, run, "awake").await, 1);
}

/// An engine that keeps its sleeps elsewhere has no row: some time must do.
async fn asleep<H: Harness>(harness: &H, run: RunId, started: Instant) -> Option<()> {
    let row = harness.world().state(run, 2).await.is_some();
    (row || started.elapsed() > Duration::from_secs(2)).then_some(())
}

pub async fn time_and_chance_are_the_same_at_a_replay<H: Harness>(harness: &mut H) {
    let run = reaches(harness, Scenario::Noted, "gate begun").await;
    harness.kill().await;
    harness.world().open_gate(run, "gate").await;
    harness.resume(0).await;
    assert_eq!(harness.outcome(run).await, Ok(()));
    let noted = details(harness, run, "noted").await;
    assert_eq!(noted.len(), 2);
    assert_eq!(noted[0], noted[1]);
}

/// What a cancelled run saw: how its step ended, and that nothing ran after it.
fn seen(how: Result<&str, StepError>) -> Vec<String> {
    vec![serde_json::to_string(&(how, false, false)).expect("JSON")]
}

pub async fn a_cancelled_step_may_end_by_itself<H: Harness>(harness: &mut H) {
    let run = reaches(harness, Scenario::Cancelled, "gate begun").await;
    harness.cancel(run).await;
    assert_eq!(harness.outcome(run).await, Err(StepError::Cancelled));
    assert_eq!(details(harness, run, "clean").await, seen(Ok("cut")));
    assert_eq!(count(harness, run, "never").await, 0);
    assert_eq!(count(harness, run, "gate begun").await, 1);
}

pub async fn a_step_that_does_not_listen_is_closed<H: Harness>(harness: &mut H) {
    let run = reaches(harness, Scenario::CancelledDeaf, "gate begun").await;
    let asked = Instant::now();
    harness.cancel(run).await;
    assert_eq!(harness.outcome(run).await, Err(StepError::Cancelled));
    assert!(
        asked.elapsed() >= CANCEL_GRACE,
        "closed after {:?}: it has time to end by itself",
        asked.elapsed()
    );
    assert_eq!(details(harness, run, "clean").await, seen(Err(StepError::Cancelled)));
    assert_eq!(harness.world().state(run, 1).await.as_deref(), Some("cancelled"));
    assert_eq!(count(harness, run, "never").await, 0);
    assert_eq!(count(harness, run, "gate").await, 0);
}

pub async fn a_step_of_a_lost_worker_is_closed_when_cancelled<H: Harness>(harness: &mut H) {
    let run = reaches(harness, Scenario::CancelledDeaf, "gate begun").await;
    harness.kill().await;
    harness.cancel(run).await;
    harness.resume(0).await;
    assert_eq!(harness.outcome(run).await, Err(StepError::Cancelled));
    assert_eq!(details(harness, run, "clean").await, seen(Err(StepError::Cancelled)));
    assert_eq!(harness.world().state(run, 1).await.as_deref(), Some("cancelled"));
    assert_eq!(count(harness, run, "never").await, 0);
}

pub async fn a_cancelled_sleep_ends<H: Harness>(harness: &mut H) {
    let run = reaches(harness, Scenario::CancelledSleep, "asleep").await;
    harness.cancel(run).await;
    assert_eq!(harness.outcome(run).await, Err(StepError::Cancelled));
    assert_eq!(details(harness, run, "clean").await, seen(Err(StepError::Cancelled)));
    assert_eq!(count(harness, run, "never").await, 0);
}

pub async fn a_run_that_is_cancelled_before_it_began_ends<H: Harness>(harness: &mut H) {
    harness.kill().await;
    let run = harness.world().run(Scenario::Chain).await;
    harness.start(run).await;
    harness.cancel(run).await;
    harness.resume(0).await;
    assert_eq!(harness.outcome(run).await, Err(StepError::Cancelled));
    assert_eq!(harness.world().all_effects(run).await, []);
}

pub async fn a_signal_wakes_the_run_that_waits_for_it<H: Harness>(harness: &mut H) {
    let run = reaches(harness, Scenario::Signalled, "before one").await;
    harness.signal(run, "one").await;
    harness.world().seen(run, "before two", 1).await;
    assert_eq!(count(harness, run, "after two").await, 0);
    harness.signal(run, "two").await;
    assert_eq!(harness.outcome(run).await, Ok(()));
    for name in ["before one", "after one", "before two", "after two"] {
        assert_eq!(count(harness, run, name).await, 1, "{name}");
    }
}

pub async fn a_signal_that_came_before_counts<H: Harness>(harness: &mut H) {
    let run = reaches(harness, Scenario::Signalled, "before one").await;
    // The second comes before the run waits for it, and twice.
    harness.signal(run, "two").await;
    harness.signal(run, "two").await;
    harness.signal(run, "one").await;
    assert_eq!(harness.outcome(run).await, Ok(()));
    assert_eq!(count(harness, run, "after two").await, 1);
}

pub async fn a_signal_while_nobody_works_is_not_lost<H: Harness>(harness: &mut H) {
    let run = reaches(harness, Scenario::Signalled, "before one").await;
    harness.kill().await;
    harness.signal(run, "one").await;
    harness.resume(0).await;
    harness.world().seen(run, "before two", 1).await;
    harness.kill().await;
    harness.resume(0).await;
    harness.signal(run, "two").await;
    assert_eq!(harness.outcome(run).await, Ok(()));
    // The kills may fall between an effect of `before` and its record: it is repeatable, and then done again.
    for name in ["after one", "after two"] {
        assert_eq!(count(harness, run, name).await, 1, "{name}");
    }
}

pub async fn a_cancelled_wait_for_a_signal_ends<H: Harness>(harness: &mut H) {
    let run = reaches(harness, Scenario::CancelledWait, "waits").await;
    harness.cancel(run).await;
    assert_eq!(harness.outcome(run).await, Err(StepError::Cancelled));
    assert_eq!(details(harness, run, "clean").await, seen(Err(StepError::Cancelled)));
    assert_eq!(count(harness, run, "never").await, 0);
}

pub async fn steps_under_way_end_before_a_stop<H: Harness>(harness: &mut H) {
    let run = reaches(harness, Scenario::Joined, "left begun").await;
    harness.world().seen(run, "right begun", 1).await;
    harness.stop().await;
    for (gate, ordinal) in [("left", 1), ("right", 2)] {
        harness.world().open_gate(run, gate).await;
        super::until("a step's end", || async {
            (harness.world().state(run, ordinal).await.as_deref() == Some("completed")).then_some(())
        })
        .await;
    }
    harness.resume(0).await;
    assert_eq!(harness.outcome(run).await, Ok(()));
    for name in ["left begun", "right begun", "after"] {
        assert_eq!(count(harness, run, name).await, 1, "{name}");
    }
}

pub async fn what_is_done_at_most_once_is_never_repeated<H: Harness>(harness: &mut H) {
    let run = reaches(harness, Scenario::Once, "once").await;
    harness.kill().await;
    harness.world().open_gate(run, "once").await;
    harness.resume(0).await;
    assert_eq!(harness.outcome(run).await, Ok(()));
    assert_eq!(count(harness, run, "once").await, 1);
    assert_eq!(count(harness, run, "lost").await, 1);
    assert_eq!(details(harness, run, "told").await, ["unknown"]);
}

pub async fn a_key_is_the_same_at_every_attempt<H: Harness>(harness: &mut H) {
    let run = harness.world().run(Scenario::Keyed).await;
    harness.start(run).await;
    harness.world().seen(run, "keyed", 2).await;
    harness.kill().await;
    harness.world().open_gate(run, "keyed").await;
    harness.resume(0).await;
    assert_eq!(harness.outcome(run).await, Ok(()));
    assert_eq!(details(harness, run, "keyed").await, vec![format!("{run}-1"); 3]);
}

pub async fn a_change_is_there_exactly_once<H: Harness>(harness: &mut H) {
    let run = reaches(harness, Scenario::Pay, "pay begun").await;
    harness.kill().await;
    assert_eq!(harness.world().changes(run, "pay").await, 0);
    harness.resume(0).await;
    harness.world().seen(run, "pay begun", 2).await;
    harness.kill().await;
    harness.world().open_gate(run, "pay").await;
    harness.resume(0).await;
    assert_eq!(harness.outcome(run).await, Ok(()));
    assert_eq!(harness.world().changes(run, "pay").await, 1);
}

pub async fn starting_twice_is_one_run<H: Harness>(harness: &mut H) {
    let run = reaches(harness, Scenario::Gated, "gate begun").await;
    harness.start(run).await;
    harness.world().open_gate(run, "gate").await;
    assert_eq!(harness.outcome(run).await, Ok(()));
    harness.start(run).await;
    assert_eq!(harness.outcome(run).await, Ok(()));
    for name in ["before", "gate begun", "after"] {
        assert_eq!(count(harness, run, name).await, 1, "{name}");
    }
}

pub async fn changed_code_is_noticed<H: Harness>(harness: &mut H) {
    // Another input, then another step.
    for code in [1, 2] {
        let run = reaches(harness, Scenario::Changed, "gate begun").await;
        harness.kill().await;
        harness.world().open_gate(run, "gate").await;
        harness.resume(code).await;
        let outcome = harness.outcome(run).await;
        assert_eq!(outcome.as_ref().map_err(StepError::code), Err("diverged"), "{outcome:?}");
        assert_eq!(count(harness, run, "after").await, 0);
        harness.kill().await;
        harness.resume(0).await;
    }
}

pub async fn a_panic_ends_the_run<H: Harness>(harness: &mut H) {
    let (run, outcome) = outcome_of(harness, Scenario::Panics).await;
    assert_eq!(outcome.as_ref().map_err(StepError::code), Err("panicked"), "{outcome:?}");
    assert_eq!(count(harness, run, "before").await, 1);
}
