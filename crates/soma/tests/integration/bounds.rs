//! What a turn may take: money, steps, tokens, time, context. Each bound is a hard stop that says what it was.

use std::time::Duration;

use platform::database::Sql;
use serde_json::{Value, json};

use crate::harness::{Api, Server, Turn};

async fn agent_with(api: &Api, slug: &str, limits: Value) -> String {
    let agent =
        json!({ "slug": slug, "name": slug, "tools": ["timestamp", "code_execute"], "limits": limits });
    api.post("/api/v2/agents", agent).await.expect(201);
    api.conversation_with(slug).await
}

#[tokio::test]
async fn a_budget_is_a_hard_stop_before_the_model_is_asked() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let me = api.get("/api/v2/me").await.expect(200);
    for scope in ["tenant_id", "user_id"] {
        let path = format!("/api/v2/budgets/{}", me[scope].as_str().unwrap());
        api.put(&path, json!({ "limit_micros": 100 })).await.expect(204);
        let turn = api.turn(&conversation, "anything").await;
        assert_eq!(turn.failure(), "budget_exceeded", "{scope}");
        assert_eq!(turn.run["cost_micros"], 0);
        api.put(&path, json!({ "limit_micros": null })).await.expect(204);
    }
    assert_eq!(server.model.counts().requests, 0);
    for budget in api.get("/api/v2/budgets").await.expect(200).as_array().unwrap() {
        assert_eq!(
            (&budget["reserved_micros"], &budget["spent_micros"], &budget["limit_micros"]),
            (&json!(0), &json!(0), &Value::Null)
        );
    }
    assert_eq!(api.turn(&conversation, "[[say paid]]").await.answer(), "paid");
}

#[tokio::test]
async fn many_turns_at_once_never_spend_more_than_the_budget() {
    let server = Server::start().await;
    let api = server.api();
    let me = api.get("/api/v2/me").await.expect(200);
    let path = format!("/api/v2/budgets/{}", me["tenant_id"].as_str().unwrap());
    let limit = 12_000;
    api.put(&path, json!({ "limit_micros": limit })).await.expect(204);

    let turns = (0..12).map(|_| {
        let api = api.clone();
        async move {
            let conversation = api.conversation().await;
            api.turn(&conversation, "[[pad 4000]]").await
        }
    });
    let turns = futures::future::join_all(turns).await;

    let (stopped, answered): (Vec<&Turn>, Vec<&Turn>) =
        turns.iter().partition(|turn| turn.run["state"] == "failed");
    assert!(!stopped.is_empty() && !answered.is_empty(), "{} of {}", stopped.len(), turns.len());
    assert!(stopped.iter().all(|turn| turn.failure() == "budget_exceeded"));
    let spent: u64 = turns.iter().map(|turn| turn.run["cost_micros"].as_u64().unwrap()).sum();
    for budget in api.get("/api/v2/budgets").await.expect(200).as_array().unwrap() {
        assert_eq!((&budget["reserved_micros"], &budget["spent_micros"]), (&json!(0), &json!(spent)));
    }
    assert!(spent <= limit, "{spent}");
}

#[tokio::test]
async fn a_runs_own_cost_limit_stops_it_between_two_calls() {
    let server = Server::start().await;
    let api = server.api();
    let limits = json!({ "cost_micros_max": 1000, "output_tokens_max": 200 });
    let conversation = agent_with(&api, "thrifty", limits).await;
    let calls = "[[tool timestamp]] ".repeat(15);

    let turn = api.turn(&conversation, &calls).await;

    assert_eq!(turn.failure(), "budget_exceeded");
    let cost = turn.run["cost_micros"].as_u64().unwrap();
    assert!((1..=1000).contains(&cost), "{cost}");
    assert!(!turn.all("tool.result").is_empty(), "what was paid for was done");
}

#[tokio::test]
async fn the_last_allowed_model_call_is_offered_no_tools_and_one_more_is_not_made() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = agent_with(&api, "brief", json!({ "steps_max": 2 })).await;

    let turn = api.turn(&conversation, "[[tool timestamp]] [[tool timestamp]] [[tool timestamp]]").await;

    assert_eq!(turn.failure(), "steps_exceeded");
    let offered: Vec<usize> = server.model.requests().iter().map(|request| request.tools.len()).collect();
    assert_eq!(offered, [2, 0]);
}

#[tokio::test]
async fn a_turns_tokens_are_bounded() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = agent_with(&api, "short", json!({ "tokens_max": 700 })).await;

    let turn = api.turn(&conversation, &"[[tool timestamp]] ".repeat(10)).await;

    assert_eq!(turn.failure(), "tokens_exceeded");
    let usage = &turn.run["usage"];
    assert!(usage["input_tokens"].as_u64().unwrap() + usage["output_tokens"].as_u64().unwrap() <= 700);
}

#[tokio::test]
async fn a_turn_past_its_time_makes_no_further_call() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = agent_with(&api, "hasty", json!({ "wall_clock_s": 1 })).await;
    let program = json!({ "language": "bash", "code": "sleep 1.1" });

    let turn = api.turn(&conversation, &format!("[[tool code_execute {program}]]")).await;

    assert_eq!(turn.failure(), "deadline_exceeded");
    assert_eq!(server.model.counts().requests, 1);
}

#[tokio::test]
async fn a_model_that_speaks_past_the_turns_time_is_cut_off_and_what_it_said_stays() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = agent_with(&api, "hasty", json!({ "wall_clock_s": 1 })).await;
    let text = "[[slow 200 a b c d e f g h i j k l m n o p q r s t u v w x y z]]";

    let turn = api.turn(&conversation, text).await;

    assert_eq!(turn.failure(), "deadline_exceeded");
    assert_eq!(server.model.counts().requests, 1);
    let (role, said) = api.transcript(&conversation).await.pop().unwrap();
    assert_eq!(role, "assistant");
    assert!(said.starts_with("a b c") && !said.contains('z'), "{said}");
    assert_ne!(turn.run["usage"]["output_tokens"], 0);
}

/// A run whose model speaks no more, in this state, and its conversation. Its time is made to have ended long ago; the
/// step that listens knows nothing of it.
async fn long_past_its_time(server: &Server, state: &'static str) -> (String, String) {
    let api = server.api();
    let conversation = agent_with(&api, "late", json!({})).await;
    let run = api.say(&conversation, "[[hold the first words are heard and the last ones never]]").await;
    api.stream(&run, 0).await.read_to("chat.delta").await;
    let id = run.clone();
    let changed: Result<u64, platform::database::Error> = server
        .database()
        .await
        .write(move |tx| {
            Box::pin(async move {
                let sql = "UPDATE runs SET deadline = 1, state = $2 WHERE id = $1";
                tx.run(sql, platform::params![id, state]).await
            })
        })
        .await;
    assert_eq!(changed.map_err(|error| error.to_string()), Ok(1));
    (conversation, run)
}

#[tokio::test]
async fn a_run_that_was_being_cancelled_long_after_its_time_is_not_called_lost() {
    let server = Server::start().await;
    let (_, run) = long_past_its_time(&server, "cancelling").await;

    let turn = server.api().end_of(&run).await;

    assert_eq!((&turn.run["state"], turn.all("error").len()), (&json!("cancelled"), 0), "{}", turn.run);
}

#[tokio::test]
async fn a_run_that_is_given_up_leaves_no_step_open_and_nothing_of_it_comes_after() {
    let server = Server::start().await;
    let api = server.api();
    let (conversation, run) = long_past_its_time(&server, "running").await;

    let turn = api.end_of(&run).await;

    assert_eq!(turn.failure(), "lost");
    let steps = api.get(&format!("/api/v2/runs/{run}/steps")).await.expect(200);
    assert_eq!(steps["items"][0]["state"], "cancelled");
    server.model.wait_for(Duration::from_secs(10), |counts| counts.in_flight == 0).await;
    let events = api.events(&run, 0).await.len();
    assert_eq!(api.turn(&conversation, "[[say and on]]").await.answer(), "and on");
    assert_eq!(api.events(&run, 0).await.len(), events);
    for budget in api.get("/api/v2/budgets").await.expect(200).as_array().unwrap() {
        assert_eq!(budget["reserved_micros"], 0);
    }
}

#[tokio::test]
async fn an_answer_is_cut_at_the_agents_output_limit() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = agent_with(&api, "terse", json!({ "output_tokens_max": 5 })).await;

    let turn = api.turn(&conversation, "[[pad 1000]]").await;

    assert_eq!(turn.answer(), "lorem lorem lorem lo");
    assert_eq!(turn.run["usage"]["output_tokens"], 5);
    assert_eq!(server.model.last_request().output_tokens_max, Some(5));
}

#[tokio::test]
async fn a_context_that_is_too_small_leaves_out_the_oldest_turns_and_says_so() {
    let server = Server::start_with(&[("SA01_MODEL_CONTEXT", "1000")]).await;
    let api = server.api();
    let agent = json!({ "slug": "small", "name": "Small", "prompt": "Be kind.",
        "limits": { "output_tokens_max": 100 } });
    api.post("/api/v2/agents", agent).await.expect(201);
    let conversation = api.conversation_with("small").await;
    let long = |text: &str| format!("{text} [[say {text}]] {}", "x".repeat(1200));

    let first = api.turn(&conversation, &long("one")).await;
    assert_eq!(first.run["context_cut"], false);
    let second = api.turn(&conversation, &long("two")).await;
    assert_eq!(second.run["context_cut"], false);
    let third = api.turn(&conversation, &long("three")).await;
    assert_eq!((&third.run["context_cut"], third.answer()), (&json!(true), "three"));
    let request = server.model.last_request();
    assert_eq!(request.system_text(), "Be kind.");
    assert!(!request.mentions("one") && request.mentions("two") && request.mentions("three"));

    let too_long = api.turn(&conversation, &"y".repeat(4000)).await;
    assert_eq!(too_long.failure(), "context_exceeded");
    assert_eq!(api.turn(&conversation, "[[say better]]").await.answer(), "better");
}

#[tokio::test]
async fn a_tools_long_output_is_cut_and_says_so() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let program = json!({ "language": "python", "code": "print('é' * 100_000)" });

    let turn = api.turn(&conversation, &format!("[[tool code_execute {program}]] [[say ok]]")).await;

    let output = turn.one("tool.result")["output"].as_str().unwrap();
    assert!(output.len() < 33 * 1024, "{}", output.len());
    assert!(output.contains("[cut here"), "{}", &output[output.len() - 60..]);
}
