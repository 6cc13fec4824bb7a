//! The contract's workflow: one function for all scenarios, so that an engine hosts just one.

use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use futures::future::join_all;
use platform::durable::{Durable, StepError};
use serde::{Deserialize, Serialize};

use super::{Choose, Clash, Deaf, Final, Flaky, Hold, Keyed, Mark, Model, Once, Pay, Slow, Tool, World};

/// What a run does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scenario {
    /// Three steps, each with the result of the one before.
    Chain,
    /// So many steps at once.
    Wide(u64),
    /// A step, a gate, a step.
    Gated,
    /// Two gates at once, then a step.
    Joined,
    /// A step that fails so many times.
    Flaky(usize),
    /// A step for which the database is away so many times.
    StoreAway(usize),
    /// A step that takes longer than it may.
    Slow,
    Final,
    /// A step whose change the database refuses.
    Clash,
    /// A wait of so many milliseconds.
    Sleep(u64),
    /// Notes the time and a random number before and after a gate.
    Noted,
    /// A gate, then steps that a cancelled run doesn't run, and one that it does.
    Cancelled,
    /// The same with a step that doesn't listen.
    CancelledDeaf,
    /// The same with a sleep.
    CancelledSleep,
    /// Steps that wait for signals `one` and `two`, with a step after each.
    Signalled,
    /// A wait for a signal that a cancelled run doesn't hear any more.
    CancelledWait,
    Once,
    Keyed,
    Pay,
    /// Its first step is another in changed code.
    Changed,
    Panics,
    /// So many calls of a model and a tool.
    Rounds(u32),
    /// One of each.
    Everything,
}

/// The version of the workflow's code in this process.
static CODE: AtomicU8 = AtomicU8::new(0);

/// Changes the workflow's code under runs that are at work.
pub fn change_code(version: u8) {
    CODE.store(version, Ordering::SeqCst);
}

fn mark(name: &str, number: u64) -> Mark {
    Mark { name: name.to_owned(), detail: String::new(), number }
}

fn noted(name: &str, detail: String) -> Mark {
    Mark { name: name.to_owned(), detail, number: 0 }
}

fn hold(name: &str) -> Hold {
    Hold { name: name.to_owned() }
}

/// Does what the run's scenario says.
pub async fn workflow<C: Durable<Worker = World>>(context: &C) -> Result<(), StepError> {
    let scenario = context.step(Choose {}).await?;
    match scenario {
        Scenario::Chain => {
            let one = context.step(mark("one", 3)).await?;
            let two = context.step(mark("two", one)).await?;
            context.step(noted("three", two.to_string())).await?;
        }
        Scenario::Wide(steps) => {
            let doubled = join_all((0..steps).map(|number| context.step(mark("wide", number)))).await;
            let sum = doubled.into_iter().sum::<Result<u64, _>>()?;
            context.step(noted("sum", sum.to_string())).await?;
        }
        Scenario::Gated => {
            context.step(mark("before", 1)).await?;
            context.step(hold("gate")).await?;
            context.step(mark("after", 1)).await?;
        }
        Scenario::Joined => {
            let (left, right) = futures::join!(context.step(hold("left")), context.step(hold("right")));
            left?;
            right?;
            context.step(mark("after", 1)).await?;
        }
        Scenario::Flaky(fails) => {
            context.step(Flaky { name: "flaky".to_owned(), fails, database: false }).await?;
        }
        Scenario::StoreAway(fails) => {
            context.step(Flaky { name: "flaky".to_owned(), fails, database: true }).await?;
        }
        Scenario::Slow => context.step(Slow { name: "slow".to_owned() }).await?,
        Scenario::Final => context.step(Final { name: "final".to_owned() }).await?,
        Scenario::Clash => context.step(Clash { name: "clash".to_owned() }).await?,
        Scenario::Sleep(wait_ms) => {
            context.step(mark("asleep", 1)).await?;
            context.sleep(Duration::from_millis(wait_ms)).await?;
            context.step(mark("awake", 1)).await?;
        }
        Scenario::Noted => {
            let seen = format!("{} {}", context.now().await?, context.random().await?);
            context.step(noted("noted", seen.clone())).await?;
            context.step(hold("gate")).await?;
            context.step(noted("noted", seen)).await?;
        }
        Scenario::Cancelled => {
            let how = context.step(hold("gate")).await;
            clean_up(context, how).await?;
        }
        Scenario::CancelledDeaf => {
            let how = context.step(Deaf { name: "gate".to_owned() }).await.map(|()| String::new());
            clean_up(context, how).await?;
        }
        Scenario::CancelledSleep => {
            context.step(mark("asleep", 1)).await?;
            let how = context.sleep(Duration::from_secs(3600)).await.map(|()| String::new());
            clean_up(context, how).await?;
        }
        Scenario::Signalled => {
            for name in ["one", "two"] {
                context.step(mark(&format!("before {name}"), 1)).await?;
                context.wait_signal(name).await?;
                context.step(mark(&format!("after {name}"), 1)).await?;
            }
        }
        Scenario::CancelledWait => {
            context.step(mark("waits", 1)).await?;
            let how = context.wait_signal("never").await.map(|()| String::new());
            clean_up(context, how).await?;
        }
        Scenario::Once => {
            let how = context.step(Once { name: "once".to_owned() }).await?;
            context.step(noted("told", how)).await?;
        }
        Scenario::Keyed => context.step(Keyed { name: "keyed".to_owned() }).await?,
        Scenario::Pay => context.step(Pay { name: "pay".to_owned() }).await?,
        Scenario::Changed => {
            match CODE.load(Ordering::SeqCst) {
                0 => drop(context.step(mark("before", 1)).await?),
                1 => drop(context.step(mark("before", 2)).await?),
                _ => drop(context.step(Model { run: context.run_id(), context: context.run_id() }).await?),
            }
            context.step(hold("gate")).await?;
            context.step(mark("after", 1)).await?;
        }
        Scenario::Panics => {
            context.step(mark("before", 1)).await?;
            panic!("the contract's workflow panics, as it was told");
        }
        Scenario::Rounds(rounds) => {
            for _ in 0..rounds {
                for call in context.step(Model { run: context.run_id(), context: context.run_id() }).await? {
                    context.step(Tool { run: context.run_id(), call }).await?;
                }
            }
        }
        Scenario::Everything => everything(context).await?,
    }
    Ok(())
}

/// What a cancelled run does: a step that doesn't run, and one that does and notes what came before.
async fn clean_up<C: Durable<Worker = World>>(
    context: &C,
    how: Result<String, StepError>,
) -> Result<(), StepError> {
    let next = context.step(mark("never", 1)).await;
    let slept = context.sleep(Duration::from_millis(1)).await;
    let seen = serde_json::to_string(&(how, next.is_ok(), slept.is_ok())).unwrap_or_default();
    context.shielded().step(noted("clean", seen)).await?;
    context.shielded().sleep(Duration::from_millis(1)).await?;
    next.map(drop)
}

async fn everything<C: Durable<Worker = World>>(context: &C) -> Result<(), StepError> {
    let started = context.now().await?;
    let (one, chance) = futures::join!(context.step(mark("one", 3)), context.random());
    let how = context.step(Once { name: "once".to_owned() }).await?;
    context.sleep(Duration::from_secs(60)).await?;
    let (paid, keyed) = futures::join!(
        context.step(Pay { name: "pay".to_owned() }),
        context.step(Keyed { name: "keyed".to_owned() })
    );
    paid?;
    keyed?;
    let slept_ms = context.now().await? - started;
    let seen = format!("{} {how} {} {}", one?, slept_ms >= 60_000, chance?);
    context.step(noted("told", seen)).await?;
    context.wait_signal("end").await
}
