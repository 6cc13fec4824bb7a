//! Steps of the contract's workflow.

use std::{sync::Arc, time::Duration};

use contracts::RunId;
use platform::durable::{self, Attempt, Begun, Completed, Options, Step, StepError};
use serde::{Deserialize, Serialize};

use super::{Scenario, World};

/// How often a step of this file is tried.
pub const ATTEMPTS: u32 = 3;

const OPTIONS: Options =
    Options { timeout: Duration::from_secs(30), attempts_max: ATTEMPTS, backoff: Duration::from_millis(20) };

/// What happens when a step's body starts: tests wait for it.
fn begun(name: &str) -> String {
    format!("{name} begun")
}

macro_rules! step {
    ($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty),* } -> $output:ty = $text:literal,
     |$self:ident, $world:ident, $attempt:pat_param| $body:expr) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Serialize, Deserialize)]
        pub struct $name { $(pub $field: $type),* }

        impl Step for $name {
            type Worker = World;
            type Output = $output;
            const NAME: &'static str = $text;
            const OPTIONS: Options = OPTIONS;

            async fn run($self, $world: Arc<World>, $attempt: Attempt) -> Result<Completed<$output>, StepError> {
                $body
            }
        }
    };
}

step!(
    /// Says what the run is to do.
    Choose {} -> Scenario = "choose", |self, world, attempt| {
        let scenario = world.scenario(attempt.run_id()).await;
        attempt.finish(scenario).await
    }
);

step!(
    /// Does something and doubles a number.
    Mark { name: String, detail: String, number: u64 } -> u64 = "mark", |self, world, attempt| {
        world.effect(attempt.run_id(), attempt.ordinal(), &self.name, &self.detail).await;
        attempt.finish(self.number * 2).await
    }
);

step!(
    /// Waits for a gate; ends early when the run is cancelled.
    Hold { name: String } -> String = "hold", |self, world, attempt| {
        world.effect(attempt.run_id(), attempt.ordinal(), &begun(&self.name), "").await;
        let cancelled = attempt.cancelled();
        let how = tokio::select! {
            () = world.gate(attempt.run_id(), &self.name) => "opened",
            () = cancelled.cancelled() => "cut",
        };
        attempt.finish(how.to_owned()).await
    }
);

step!(
    /// Waits for a gate, whatever becomes of the run.
    Deaf { name: String } -> () = "deaf", |self, world, attempt| {
        world.effect(attempt.run_id(), attempt.ordinal(), &begun(&self.name), "").await;
        world.gate(attempt.run_id(), &self.name).await;
        world.effect(attempt.run_id(), attempt.ordinal(), &self.name, "").await;
        attempt.finish(()).await
    }
);

step!(
    /// Fails in a way that may pass, so many times: the other side is busy, or the database is away.
    Flaky { name: String, fails: usize, database: bool } -> () = "flaky", |self, world, attempt| {
        let run = attempt.run_id();
        world.effect(run, attempt.ordinal(), &self.name, "").await;
        if world.effects(run, &self.name).await.len() <= self.fails {
            let away = StepError::Store { message: "the database is away".to_owned() };
            return Err(if self.database { away } else { StepError::retry("busy", "come back later") });
        }
        attempt.finish(()).await
    }
);

step!(
    /// Fails for good.
    Final { name: String } -> () = "final", |self, world, attempt| {
        world.effect(attempt.run_id(), attempt.ordinal(), &self.name, "").await;
        Err(StepError::failed("no_such_thing", "there is none"))
    }
);

step!(
    /// Does something that must not be done twice, then waits for a gate.
    Once { name: String } -> String = "once", |self, world, mut attempt| {
        let run = attempt.run_id();
        if attempt.begin(durable::Effect::AtMostOnce, |_, _| unchanged()).await? == Begun::Lost {
            world.effect(run, attempt.ordinal(), "lost", &self.name).await;
            return attempt.finish("unknown".to_owned()).await;
        }
        world.effect(run, attempt.ordinal(), &self.name, "").await;
        world.gate(run, &self.name).await;
        attempt.finish("done".to_owned()).await
    }
);

step!(
    /// Does something under a key; the first attempt can't tell whether it worked, the second waits for a gate.
    Keyed { name: String } -> () = "keyed", |self, world, mut attempt| {
        let run = attempt.run_id();
        attempt.begin(durable::Effect::Idempotent, |_, _| unchanged()).await?;
        world.effect(run, attempt.ordinal(), &self.name, &attempt.idempotency_key()).await;
        if world.effects(run, &self.name).await.len() == 1 {
            return Err(StepError::retry("no_answer", "the connection broke"));
        }
        world.gate(run, &self.name).await;
        attempt.finish(()).await
    }
);

step!(
    /// Changes the database with its row, after it waited for a gate.
    Pay { name: String } -> () = "pay", |self, world, mut attempt| {
        let run = attempt.run_id();
        attempt.begin(durable::Effect::Transactional, |_, _| unchanged()).await?;
        world.effect(run, attempt.ordinal(), &begun(&self.name), "").await;
        world.gate(run, &self.name).await;
        attempt.complete((), move |tx| Box::pin(async move { World::change(tx, run, &self.name).await })).await
    }
);

step!(
    /// Makes a change that the database refuses.
    Clash { name: String } -> () = "clash", |self, world, attempt| {
        let run = attempt.run_id();
        world.effect(run, attempt.ordinal(), &self.name, "").await;
        attempt.complete((), move |tx| Box::pin(async move { World::clash(tx, run).await })).await
    }
);

step!(
    /// The first attempt waits for one gate and fails for good, any other waits for another and completes.
    Doomed { name: String } -> String = "doomed", |self, world, mut attempt| {
        let run = attempt.run_id();
        let begun_as = attempt.begin(durable::Effect::Repeatable, |_, _| unchanged()).await?;
        world.effect(run, attempt.ordinal(), &begun(&self.name), "").await;
        if begun_as == Begun::Fresh {
            world.gate(run, "fail").await;
            return Err(StepError::failed("doomed", "the first attempt fails"));
        }
        world.gate(run, "complete").await;
        attempt.finish("completed".to_owned()).await
    }
);

/// Never ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Slow {
    pub name: String,
}

impl Step for Slow {
    type Worker = World;
    type Output = ();
    const NAME: &'static str = "slow";
    const OPTIONS: Options =
        Options { timeout: Duration::from_millis(200), attempts_max: 2, backoff: Duration::from_millis(20) };

    async fn run(self, world: Arc<World>, attempt: Attempt) -> Result<Completed<()>, StepError> {
        world.effect(attempt.run_id(), attempt.ordinal(), &self.name, "").await;
        std::future::pending().await
    }
}

step!(
    /// As large as a call of a model: ids in, ids out.
    Model { run: RunId, context: RunId } -> Vec<RunId> = "call_model", |self, _world, attempt| {
        attempt.finish(vec![RunId::new()]).await
    }
);

step!(
    /// As large as a call of a tool.
    Tool { run: RunId, call: RunId } -> RunId = "run_tool", |self, _world, attempt| attempt.finish(self.call).await
);

fn unchanged() -> futures::future::BoxFuture<'static, Result<(), StepError>> {
    Box::pin(async { Ok(()) })
}
