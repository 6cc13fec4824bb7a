//! Events of a run are kept for a time after its end; its record for good.

use platform::{
    database::{Error, Sql},
    params,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Api, Server, until};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Makes a run that has ended so much older.
async fn age(server: &Server, run: &str, days: i64) {
    let run = run.to_owned();
    let aged: Result<u64, Error> = server
        .database()
        .await
        .write(move |tx| {
            Box::pin(async move {
                let sql = "UPDATE runs SET finished_at = finished_at - $1 WHERE id = $2";
                tx.run(sql, params![days * DAY_MS, run]).await
            })
        })
        .await;
    assert_eq!(aged.unwrap(), 1);
}

async fn events(server: &Server, run: &str) -> i64 {
    let sql = "SELECT COUNT(*) AS events FROM run_events WHERE run_id = $1";
    let row = server.database().await.read().one(sql, params![run]).await.unwrap();
    row.unwrap().int("events").unwrap()
}

#[tokio::test]
async fn events_past_their_time_are_dropped_and_the_run_still_tells_its_end() {
    let server = Server::start_with(&[("SA01_RUN_EVENTS_DAYS", "7")]).await;
    let api = server.api();
    let conversation = api.conversation().await;
    let old = api.turn(&conversation, "[[tool timestamp]] [[say old]]").await;
    let young = api.turn(&conversation, "[[say young]]").await;
    let (run, kept) = (old.run["id"].as_str().unwrap(), young.run["id"].as_str().unwrap());
    age(&server, run, 8).await;
    age(&server, kept, 6).await;

    until("the events are dropped", || async { (events(&server, run).await == 0).then_some(()) }).await;

    let frames = api.events(run, 0).await;
    assert_eq!(frames.len(), 1);
    assert_eq!((frames[0].kind.as_str(), frames[0].payload()), ("run.done", old.one("run.done")));
    assert_eq!(api.events(run, 3).await.len(), 1, "also for who comes back to it");
    assert_eq!(api.events(kept, 0).await, young.frames);
    let after = api.run(run).await;
    for field in ["state", "usage", "cost_micros", "created_at"] {
        assert_eq!(after[field], old.run[field], "{field}");
    }
    let said: Vec<String> = api.transcript(&conversation).await.into_iter().map(|(_, said)| said).collect();
    assert_eq!((said.len(), said[3].as_str()), (6, "old"));
    let steps = api.get(&format!("/api/v2/runs/{run}/steps")).await.expect(200);
    assert_eq!(
        (&steps["items"][1]["tool"], &steps["items"][1]["decision"]),
        (&json!("timestamp"), &Value::Null)
    );
}

#[tokio::test]
async fn a_tenant_keeps_the_events_of_its_runs_for_a_shorter_time_and_not_for_a_longer_one() {
    let server = Server::start_with(&[("SA01_RUN_EVENTS_DAYS", "7")]).await;
    let (ours, theirs) = (server.api(), server.stranger().await);
    let mut runs = Vec::new();
    for api in [&ours, &theirs] {
        let turn = api.turn(&api.conversation().await, "[[say old]]").await;
        let run = turn.run["id"].as_str().unwrap().to_owned();
        age(&server, &run, 3).await;
        runs.push(run);
    }
    ours.put("/api/v2/settings/tenant/run_events_days", json!({ "value": 30 })).await.expect(204);
    theirs.put("/api/v2/settings/tenant/run_events_days", json!({ "value": 2 })).await.expect(204);
    until("the other tenant's are dropped", || async {
        (events(&server, &runs[1]).await == 0).then_some(())
    })
    .await;
    assert!(events(&server, &runs[0]).await > 0);
    age(&server, &runs[0], 5).await;
    until("the install's time counts", || async { (events(&server, &runs[0]).await == 0).then_some(()) })
        .await;
}

#[tokio::test]
async fn a_request_that_comes_again_after_its_events_were_dropped_says_so_and_runs_nothing() {
    let server = Server::start_with(&[("SA01_RUN_EVENTS_DAYS", "7")]).await;
    let api = server.api();
    let body = json!({ "model": "agent/default", "store": true,
        "messages": [{ "role": "user", "content": "[[say once]]" }] });
    let ask = || api.request(Method::POST, "/v1/chat/completions").header("Idempotency-Key", "k").json(&body);
    let answer = Api::reply(ask()).await.expect(200);
    let run = answer["id"].as_str().unwrap().trim_start_matches("chatcmpl-").to_owned();
    age(&server, &run, 8).await;
    until("the events are dropped", || async { (events(&server, &run).await == 0).then_some(()) }).await;
    assert_eq!(Api::reply(ask()).await.problem(410), "answer_gone");
    assert_eq!(server.model.counts().requests, 1);
}
