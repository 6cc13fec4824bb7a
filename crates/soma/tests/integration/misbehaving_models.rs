//! Models that fail in every way a real one does: each ends in an answer or in a failure that says why, and nothing
//! that was said before is lost.

use futures::future::join_all;
use serde_json::json;
use testing::{Answer, Script};

use crate::harness::Server;

/// A model that is silent for longer is given up.
const IDLE: (&str, &str) = ("SA01_MODEL_IDLE_TIMEOUT", "1");

#[tokio::test]
async fn a_model_that_keeps_failing_fails_the_run_with_a_code_and_the_conversation_goes_on() {
    let server = Server::start_with(&[IDLE]).await;
    let api = server.api();
    let cases = [
        ("[[garbage]]", "model_garbage"),
        ("[[midstream only half of this was]]", "model_interrupted"),
        ("[[hang]]", "model_unavailable"),
        ("[[hold]]", "model_interrupted"),
        ("[[status 500]]", "model_unavailable"),
        ("[[status 429]]", "model_unavailable"),
        ("[[status 400]]", "model_refused"),
    ];
    join_all(cases.map(|(text, code)| {
        let api = api.clone();
        async move {
            let conversation = api.conversation().await;
            api.turn(&conversation, "[[say remembered]]").await;

            let turn = api.turn(&conversation, text).await;
            assert_eq!(turn.failure(), code, "{text}");
            assert_eq!(turn.kinds().last(), Some(&"run.done"));
            assert!(turn.all("chat.done").is_empty(), "{text}: no answer is made up");

            let after = api.turn(&conversation, "[[say and on]]").await;
            assert_eq!(after.answer(), "and on", "{text}");
            let said: Vec<String> =
                api.transcript(&conversation).await.into_iter().map(|(_, content)| content).collect();
            assert_eq!(said, ["[[say remembered]]", "remembered", text, "[[say and on]]", "and on"]);
        }
    }))
    .await;
    for budget in api.get("/api/v2/budgets").await.expect(200).as_array().unwrap() {
        assert_eq!(budget["reserved_micros"], 0);
    }
}

#[tokio::test]
async fn a_failure_that_another_try_mends_is_tried_again_and_answered() {
    let server = Server::start_with(&[IDLE]).await;
    let api = server.api();
    for (times, failing, resets) in [
        // Nothing was streamed: no client ever hears of it.
        (2, Answer::Status(503, "busy".into()), 0),
        (1, Answer::NeverAnswers, 1),
        (1, Answer::Garbage, 1),
        (2, Answer::StopMidStream { text: "this text is taken back when it breaks".into() }, 2),
    ] {
        let what = format!("{failing:?}");
        let conversation = api.conversation().await;
        server.model.set_script(Script::by_directive().after_failing(times, failing));

        let turn = api.turn(&conversation, "[[say the whole answer]]").await;

        assert_eq!(turn.run["state"], "completed", "{what}: {}", turn.run);
        assert_eq!(turn.answer(), "the whole answer", "{what}");
        assert_eq!(turn.all("chat.reset").len(), resets, "{what}: {:?}", turn.kinds());
        let last_reset = turn.kinds().iter().rposition(|kind| *kind == "chat.reset").map_or(0, |at| at + 1);
        let kept: String = turn.frames[last_reset..]
            .iter()
            .filter(|frame| frame.kind == "chat.delta")
            .map(|frame| frame.payload()["delta"].as_str().unwrap())
            .collect();
        assert_eq!(kept, "the whole answer", "{what}: what follows the last reset is the answer");
        let response = &turn.one("chat.done")["response_id"];
        for reset in turn.all("chat.reset") {
            assert_eq!(*reset, json!({ "conversation_id": conversation, "response_id": response }));
        }
        let transcript = api.transcript(&conversation).await;
        assert_eq!(transcript.len(), 2, "{what}: {transcript:?}");
    }
}

#[tokio::test]
async fn keys_are_taken_in_turn_and_a_bad_one_does_not_fail_a_call() {
    let server = Server::installed(&[("SA01_MODEL_API_KEY", "sk-one, sk-two,sk-three")]);
    let mut server = server;
    let model = testing::ScriptedModel::start_with(testing::model_server::Options {
        keys: vec!["sk-one".into(), "sk-three".into()],
        ..Default::default()
    })
    .expect("a free port");
    server.settings.insert("SA01_MODEL_URL".into(), model.base_url());
    server.restart().await;
    let api = server.api();
    let conversation = api.conversation().await;
    for _ in 0..4 {
        assert_eq!(api.turn(&conversation, "[[say let in]]").await.answer(), "let in");
    }
    let counts = model.counts();
    assert!(counts.by_key["sk-one"] >= 1 && counts.by_key["sk-three"] >= 1, "{counts:?}");
    assert!(counts.unauthorised >= 1, "the bad key had its turn: {counts:?}");
}

#[tokio::test]
async fn a_model_server_that_is_down_fails_the_run_and_not_the_platform() {
    let mut server = Server::installed(&[("SA01_MODEL_URL", "http://127.0.0.1:9/v1")]);
    server.restart().await;
    let api = server.api();
    let conversation = api.conversation().await;
    assert_eq!(api.turn(&conversation, "anybody there?").await.failure(), "model_unavailable");
    assert_eq!(api.get("/health/ready").await.status, 200);
}

#[tokio::test]
async fn an_answer_with_absurdly_many_tool_calls_is_bounded() {
    let server = Server::start().await;
    let api = server.api();
    let agent = json!({ "slug": "few", "name": "Few", "tools": ["timestamp"], "limits": { "steps_max": 3 } });
    api.post("/api/v2/agents", agent).await.expect(201);
    let conversation = api.conversation_with("few").await;
    let many = (0..60).map(|_| ("timestamp".to_owned(), "{}".to_owned())).collect();
    server.model.set_script(Script::always(Answer::Tools(many)));

    let turn = api.turn(&conversation, "go").await;

    assert_eq!(turn.failure(), "steps_exceeded");
    assert_eq!(turn.all("tool.result").len(), 3 * 16);
}
