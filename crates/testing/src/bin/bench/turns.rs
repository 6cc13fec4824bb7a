//! Turns of an agent: how many in a second, what one adds to the model's time, what running code adds; and the start.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    install::{Api, Install},
    median_ms, round,
};

/// Turns of one measurement, at least; and how long it goes on at most.
const TURNS_MIN: usize = 200;
const MEASURE: Duration = Duration::from_secs(6);
const STARTS: usize = 10;
const CODE_RUNS: usize = 30;
const LATENCY_TURNS: usize = 200;

/// Turns in a second with `at_once` clients, each in conversations of its own.
pub(super) async fn throughput(api: &Api, content: &'static str, at_once: usize) -> Value {
    let started = Instant::now();
    let clients = (0..at_once).map(|_| {
        let api = api.clone();
        tokio::spawn(async move {
            let mut times = Vec::new();
            let mut conversation = api.conversation().await;
            let least = TURNS_MIN / at_once + 1;
            while started.elapsed() < MEASURE || times.len() < least {
                // A chat does not grow for ever: histories of up to ten turns.
                if times.len() % 10 == 9 {
                    conversation = api.conversation().await;
                }
                let turn = Instant::now();
                api.turn(&conversation, content).await;
                times.push(turn.elapsed());
            }
            times
        })
    });
    let mut times = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        times.extend(client.await.expect("the client ends"));
    }
    let seconds = started.elapsed().as_secs_f64();
    let per_second = times.len() as f64 / seconds;
    json!({ "turns_per_s": round(per_second), "turns": times.len(), "median_ms": median_ms(&mut times) })
}

/// The model alone, then a turn around it, one after the other.
pub(super) async fn added(api: &Api, model: &str) -> Value {
    let body = json!({
        "model": "default", "stream": true, "stream_options": { "include_usage": true },
        "messages": [{ "role": "user", "content": "hello" }],
    });
    let (mut alone, mut turns) = (Vec::new(), Vec::new());
    for _ in 0..LATENCY_TURNS {
        let conversation = api.conversation().await;
        let start = Instant::now();
        let request = api.client.post(format!("{model}/chat/completions")).json(&body);
        request.send().await.expect("the model answers").text().await.expect("its stream ends");
        alone.push(start.elapsed());
        let start = Instant::now();
        api.turn(&conversation, "hello").await;
        turns.push(start.elapsed());
    }
    let (alone, turn) = (median_ms(&mut alone), median_ms(&mut turns));
    json!({ "model_alone_ms": alone, "turn_ms": turn, "added_ms": round(turn - alone) })
}

pub(super) fn start_times(install: &Install) -> Value {
    let mut times: Vec<Duration> = (0..STARTS)
        .map(|_| {
            let start = Instant::now();
            let server = install.serve();
            let time = start.elapsed();
            drop(server);
            time
        })
        .collect();
    json!({ "median_ms": median_ms(&mut times), "starts": STARTS })
}

pub(super) async fn code_execute(api: &Api) -> Value {
    let content = r#"[[tool code_execute {"language":"python","code":"print(1)"}]] [[say {result}]]"#;
    let conversation = api.conversation().await;
    let (mut inside, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..CODE_RUNS {
        let start = Instant::now();
        let done = Command::new("/usr/bin/python3").args(["-c", "print(1)"]).output().expect("python3 runs");
        assert!(done.status.success());
        bare.push(start.elapsed());
        let events = api.turn(&conversation, content).await;
        let took = events.split("\"duration_ms\":").nth(1).and_then(|rest| rest.split([',', '}']).next());
        let took = took.and_then(|text| text.parse().ok()).expect("a duration");
        inside.push(Duration::from_millis(took));
    }
    let (inside, bare) = (median_ms(&mut inside), median_ms(&mut bare));
    json!({ "tool_call_ms": inside, "bare_python3_ms": bare, "added_ms": round(inside - bare) })
}
