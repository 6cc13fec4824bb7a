//! The simulator's part: a workflow that is crashed at each of its edges does what it does without a crash.

use std::{collections::HashSet, sync::Arc};

use contracts::RunId;
use platform::durable::{Crash, Ledger, Plan, simulate};
use tokio_util::sync::CancellationToken;

use super::{Scenario, World, workflow};

/// Edges to crash at that a run without crashes passes: every ordinal of [`Scenario::Everything`] with every moment.
const ORDINALS: u32 = 11;

/// What a run with crashes did, besides ending well.
struct Ran {
    run: RunId,
    crashes: usize,
}

async fn run_with(world: &Arc<World>, ledger: &Ledger, plan: Plan) -> Ran {
    let run = world.run(Scenario::Everything).await;
    for gate in ["once", "pay", "keyed"] {
        world.open_gate(run, gate).await;
    }
    world.signal(run, "end").await;
    let cancel = CancellationToken::new();
    let report =
        simulate(world, ledger, run, plan.clone(), cancel, async |context| workflow(&context).await).await;
    let report = report.expect("the ledger answers");
    assert_eq!(report.outcome, Ok(()), "{plan:?}");
    Ran { run, crashes: report.crashes }
}

/// Effects that hold whatever crashed.
async fn check(world: &World, ran: &Ran, plan: &Plan) {
    let run = ran.run;
    let count = async |name: &str| world.effects(run, name).await.len();
    assert!(count("once").await <= 1, "done twice: {plan:?}");
    assert_eq!(world.changes(run, "pay").await, 1, "{plan:?}");
    let keys: HashSet<_> =
        world.effects(run, "keyed").await.into_iter().map(|effect| effect.detail).collect();
    assert_eq!(keys.len(), 1, "{plan:?}");
    // One more attempt for each crash, at most: what is recorded is not done again.
    assert!(count("one").await <= 1 + ran.crashes, "{plan:?}");
    let told: HashSet<_> = world.effects(run, "told").await.into_iter().map(|effect| effect.detail).collect();
    assert_eq!(told.len(), 1, "a replay saw something else: {plan:?}");
    let told = told.into_iter().next().unwrap_or_default();
    let words: Vec<_> = told.split(' ').collect();
    assert_eq!((words[0], words[2]), ("6", "true"), "{plan:?}");
    // Done and told so, or begun and unknown; never done without a word.
    let lost = count("lost").await > 0;
    assert_eq!(words[1], if lost { "unknown" } else { "done" }, "{plan:?}");
    if !lost {
        assert_eq!(count("once").await, 1, "{plan:?}");
    }
}

fn places() -> impl Iterator<Item = (u32, Crash)> {
    (0..ORDINALS).flat_map(|ordinal| Crash::ALL.map(|crash| (ordinal, crash)))
}

/// Crashes at every place, one at a time.
pub async fn every_single_crash_is_survived(world: &Arc<World>) {
    let ledger = world.ledger();
    let mut hit = HashSet::new();
    for place in places() {
        let plan = Plan { crashes: vec![place], seed: 1 };
        let ran = run_with(world, &ledger, plan.clone()).await;
        check(world, &ran, &plan).await;
        if ran.crashes == 1 {
            hit.insert(place);
        }
    }
    // Each step passes all of its moments but a start that is not recorded, and a sleep passes one.
    let steps: HashSet<_> =
        hit.iter().filter(|(_, crash)| *crash == Crash::Recorded).map(|(ordinal, _)| *ordinal).collect();
    assert_eq!(steps, HashSet::from([0, 2, 4, 6, 7, 9, 10]), "{hit:?}");
    let begun: HashSet<_> =
        hit.iter().filter(|(_, crash)| *crash == Crash::Begun).map(|(ordinal, _)| *ordinal).collect();
    assert_eq!(begun, HashSet::from([4, 5, 6, 7]), "{hit:?}");
}

/// Crashes at two to four places that a seed picks.
pub async fn crashes_in_a_row_are_survived(world: &Arc<World>, seeds: u64) {
    let ledger = world.ledger();
    let all: Vec<_> = places().collect();
    let mut crashes = 0;
    for seed in 0..seeds {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
        let mut pick = |bound: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % bound).expect("small")
        };
        let many = 2 + pick(3);
        let crash_at = (0..many).map(|_| all[pick(u64::from(ORDINALS) * 4)]).collect();
        let plan = Plan { crashes: crash_at, seed };
        let ran = run_with(world, &ledger, plan.clone()).await;
        check(world, &ran, &plan).await;
        crashes += ran.crashes;
    }
    assert!(u64::try_from(crashes).expect("small") > seeds, "the plans crashed too rarely: {crashes}");
}
