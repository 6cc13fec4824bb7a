//! What processes share, on a real Redis; and what they do without it.
//!
//! `scripts/engines` starts a server of each test's own. A test that can't have one fails.

use std::time::{Duration, Instant};

use contracts::RunId;
use testing::OwnEngine;
use tokio_util::sync::CancellationToken;

use super::{Address, Counts, Redis, Wanted};
use crate::{
    hub::Hub,
    limiter::{Limiter, Taken},
};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);
/// So long that a reader who waits it out was not woken.
const NEVER: Duration = Duration::from_secs(3600);

fn up(server: &OwnEngine) -> Redis {
    Redis::new(&Address::parse(server.up().setting("SA01_REDIS_URL")).unwrap()).unwrap()
}

fn wanted(key: &str, per_minute: u32) -> Wanted {
    Wanted { key: key.to_owned(), per_minute }
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What is promised of a limit, whoever counts, in less time than gives one back.
async fn promises(take: impl AsyncFn(&str, u32) -> Taken) {
    let whole = Duration::from_secs(60);
    for left in (0..6).rev() {
        let taken = take("a", 6).await;
        assert!(taken.allowed);
        assert_eq!(taken.remaining, left);
        assert!(taken.reset > whole / 6 * (5 - left) && taken.reset <= whole / 6 * (6 - left), "{taken:?}");
    }
    for _ in 0..3 {
        let refused = take("a", 6).await;
        assert!(!refused.allowed && refused.remaining == 0, "{refused:?}");
        let next = refused.retry_after;
        assert!(
            next > Duration::from_secs(8) && next <= Duration::from_secs(10),
            "refusals cost nothing: {next:?}"
        );
    }
    assert!(take("b", 6).await.allowed, "another key has its own quota");
}

#[tokio::test]
async fn a_limit_is_the_same_whoever_counts() {
    let here = Limiter::default();
    promises(async |key, per_minute| here.take(key.to_owned(), per_minute)).await;

    let server = OwnEngine::new("redis", "promises");
    let counts = Counts::new(up(&server));
    promises(async |key, per_minute| counts.take(&[wanted(key, per_minute)]).await[0]).await;
}

#[tokio::test]
async fn processes_take_of_one_quota_and_of_all_or_none() {
    let server = OwnEngine::new("redis", "shared");
    let processes = [Counts::new(up(&server)), Counts::new(up(&server))];
    let mut allowed = 0;
    for process in processes.iter().cycle().take(10) {
        let taken = process.take(&[wanted("key", 100), wanted("user", 6)]).await;
        assert_eq!(taken.len(), 2);
        allowed += usize::from(taken.iter().all(|one| one.allowed));
    }
    assert_eq!(allowed, 6);
    // Those that were refused took nothing of the other quota.
    assert_eq!(processes[0].take(&[wanted("key", 100)]).await[0].remaining, 93);
}

#[tokio::test]
async fn a_limit_does_not_widen_when_the_server_is_lost_and_counts_on_when_it_is_back() {
    const PER_MINUTE: u32 = 1200;
    let server = OwnEngine::new("redis", "lost");
    let redis = [up(&server), up(&server)];
    let stop = CancellationToken::new();
    for one in &redis {
        one.relay(&Hub::new(NEVER), &stop);
    }
    until("each knows of the other", async || redis.iter().all(|one| one.processes() == 2)).await;
    let processes = redis.map(Counts::new);
    let take = async |process: &Counts| process.take(&[wanted("key", PER_MINUTE)]).await[0].allowed;
    while take(&processes[0]).await {}

    for action in ["pause", "kill"] {
        server.tell(action);
        let (began, mut asked, mut allowed) = (Instant::now(), 0, 0);
        while began.elapsed() < Duration::from_secs(2) {
            for process in &processes {
                asked += 1;
                allowed += u32::from(take(process).await);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // What a minute gives in that time, and one more of each.
        let given = began.elapsed().as_secs_f64() * f64::from(PER_MINUTE) / 60.0;
        assert!(f64::from(allowed) <= given + 2.0, "{allowed} of {asked} where {given} are given: {action}");
        assert!(allowed > 0, "{asked} were refused: {action}");
        if action == "pause" {
            server.tell("continue");
        }
        // Counted by the server again: both see what the other takes.
        up(&server);
        until("they count together again", async || {
            let sees = async |one: &Counts, other: &Counts| {
                let fresh = [wanted(&RunId::new().to_string(), 1)];
                one.take(&fresh).await[0].allowed && !other.take(&fresh).await[0].allowed
            };
            sees(&processes[0], &processes[1]).await && sees(&processes[1], &processes[0]).await
        })
        .await;
    }
    stop.cancel();
}

#[tokio::test]
async fn a_wake_in_one_process_is_heard_in_another_and_without_the_server_readers_look_again() {
    let server = OwnEngine::new("redis", "wakes");
    let look = Duration::from_millis(30);
    let (here, there) = (Hub::new(look), Hub::new(look));
    let stop = CancellationToken::new();
    up(&server).relay(&here, &stop);
    up(&server).relay(&there, &stop);

    for _ in 0..2 {
        until("wakes are heard", async || there.looks_again_in() > look && here.looks_again_in() > look)
            .await;
        let run = RunId::new();
        there.look_again_in(NEVER);
        let mut listener = there.listen(run);
        let mut other = there.listen(RunId::new());
        here.wake(run);
        tokio::time::timeout(PATIENCE, listener.wait()).await.expect("it is woken");
        let woken = tokio::time::timeout(Duration::from_millis(100), other.wait()).await;
        assert!(woken.is_err(), "a reader of another run was woken");

        server.tell("kill");
        until("readers look by themselves", async || there.looks_again_in() == look).await;
        listener.wait().await;
        up(&server);
    }
    stop.cancel();
}

#[test]
fn an_address_is_one_of_redis_and_is_not_printed() {
    for good in
        ["redis://127.0.0.1", "redis://user:hunter2@cache:6379/3", "rediss://:hunter2@cache.example.org"]
    {
        assert_eq!(format!("{:?}", Address::parse(good).unwrap()), "Address(..)");
    }
    for bad in ["", "127.0.0.1:6379", "http://127.0.0.1", "redis+unix:///tmp/a?pass=hunter2", "redis://"] {
        let expected = Address::parse(bad).unwrap_err();
        assert!(expected.contains("redis(s)://") && !expected.contains("hunter2"), "{expected}");
    }
}
