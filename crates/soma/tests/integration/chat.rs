//! A turn, from the message to the answer: tools, policy, transcript, cost and the frames that tell of it.

use serde_json::{Value, json};

use crate::harness::Server;

#[tokio::test]
async fn a_message_is_answered_and_each_frame_has_the_shape_of_the_protocol() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;

    let turn = api.turn(&conversation, "[[say Hello, this is the whole of a rather short answer.]]").await;

    let answer = "Hello, this is the whole of a rather short answer.";
    assert_eq!(turn.answer(), answer);
    let run_id = turn.run["id"].as_str().unwrap();
    for (index, frame) in turn.frames.iter().enumerate() {
        let sequence = i64::try_from(index).unwrap() + 1;
        assert_eq!(frame.sequence, sequence, "sequences count from 1 without a gap");
        let fields: Vec<&String> = frame.data.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["id", "payload", "timestamp", "type"]);
        assert_eq!(frame.data["type"], frame.kind);
        assert_eq!(frame.data["id"], format!("{run_id}-{sequence}"));
        let at = frame.data["timestamp"].as_str().unwrap();
        assert!(at.len() == 24 && at.ends_with('Z') && at.as_bytes()[10] == b'T', "RFC 3339: {at}");
    }
    let deltas = turn.all("chat.delta");
    let response = &deltas[0]["response_id"];
    let mut joined = String::new();
    for (index, delta) in deltas.iter().enumerate() {
        let text = delta["delta"].as_str().unwrap();
        joined.push_str(text);
        assert_eq!(
            **delta,
            json!({ "conversation_id": conversation, "response_id": response, "delta": text, "index": index + 1 })
        );
    }
    assert_eq!(joined, answer);
    let done = turn.one("chat.done");
    let usage = &turn.run["usage"];
    assert_eq!(
        *done,
        json!({ "conversation_id": conversation, "response_id": response,
            "token_count": usage["output_tokens"], "content": answer })
    );
    let cost = turn.run["cost_micros"].as_f64().unwrap() / 1e6;
    assert_eq!(*turn.one("run.done"), json!({ "status": "completed", "usage": usage, "cost": cost }));
    assert_eq!(turn.kinds().last(), Some(&"run.done"));
}

#[tokio::test]
async fn a_program_that_the_model_wrote_is_run_and_the_model_is_told_what_it_printed() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let call = json!({ "language": "python", "code": "print(6 * 7)" });

    let text = format!("[[tool code_execute {call}]] [[say It printed {{result}}]]");
    let turn = api.turn(&conversation, &text).await;

    let result = turn.one("tool.result");
    assert_eq!((&result["status"], &result["output"]), (&json!("success"), &json!("42\n")));
    assert_eq!(turn.answer().trim(), "It printed 42");
    assert_eq!(
        *turn.one("tool.start"),
        json!({ "call_id": result["call_id"], "tool": "code_execute", "arguments": call })
    );
    let decision = turn.one("policy.decision");
    assert_eq!(
        (&decision["call_id"], &decision["action"], &decision["effect"]),
        (&result["call_id"], &json!("tool:execute"), &json!("allow"))
    );
    assert_eq!(decision["resource"]["id"], "code_execute");
    let mut kinds = turn.kinds();
    kinds.dedup();
    assert_eq!(
        kinds,
        [
            "title_update",
            "tool.start",
            "policy.decision",
            "tool.result",
            "chat.delta",
            "chat.done",
            "run.done"
        ]
    );
    let roles: Vec<String> = api.transcript(&conversation).await.into_iter().map(|(role, _)| role).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "assistant"]);
}

#[tokio::test]
async fn a_tool_off_the_agents_list_is_blocked_the_model_is_told_and_the_turn_goes_on() {
    let server = Server::start().await;
    let api = server.api();
    let agent = json!({ "slug": "clock", "name": "Clock", "tools": ["timestamp"] });
    api.post("/api/v2/agents", agent).await.expect(201);
    let conversation = api.conversation_with("clock").await;
    let text = r#"[[tool file_write {"path": "a", "content": "b"}]] [[tool timestamp]] [[say went on]]"#;

    let turn = api.turn(&conversation, text).await;

    assert_eq!(turn.answer(), "went on");
    let decisions: Vec<(&Value, &Value)> = turn
        .all("policy.decision")
        .iter()
        .map(|decision| (&decision["effect"], &decision["reason"]))
        .collect();
    assert_eq!(decisions[0], (&json!("deny"), &json!("tool_not_on_agent")));
    assert_eq!(decisions[1].0, "allow");
    let results: Vec<&Value> = turn.all("tool.result").iter().map(|result| &result["status"]).collect();
    assert_eq!(results, ["blocked", "success"]);
    let denial = api.get("/api/v2/audit").await.expect(200)["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["effect"] == "deny")
        .expect("the denial is in the audit")
        .clone();
    assert_eq!(
        (&denial["action"], &denial["resource_type"], &denial["resource_id"], &denial["reason"]),
        (&json!("tool:execute"), &json!("tool"), &json!("file_write"), &json!("tool_not_on_agent"))
    );
}

#[tokio::test]
async fn a_call_of_no_tool_or_with_wrong_arguments_is_told_to_the_model_and_runs_nothing() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    for (call, told) in [
        ("no_such_tool {}", "There is no tool `no_such_tool`"),
        (r#"file_read {"path": 7}"#, "don't fit"),
        ("file_read {}", "\"path\" is a required property"),
        (r#"file_read {"path": "a", "mode": "w"}"#, "mode"),
        ("file_read not json", "are no JSON"),
        (r#"code_execute {"language": "cobol", "code": "x"}"#, "cobol"),
        (r#"file_read {"path": "../../soma.db"}"#, "not a path in the workspace"),
        (r#"file_read {"path": "/etc/passwd"}"#, ""),
        (r#"http_fetch {"url": "http://127.0.0.1:80/"}"#, ""),
        (r#"http_fetch {"url": "http://169.254.169.254/latest"}"#, ""),
    ] {
        let turn = api.turn(&conversation, &format!("[[tool {call}]] [[say {{result}}]]")).await;
        let result = turn.one("tool.result");
        assert_eq!(result["status"], "error", "{call}: {result}");
        assert_eq!(turn.answer(), result["output"].as_str().unwrap(), "{call}");
        assert!(turn.answer().contains(told), "{call}: {}", turn.answer());
    }
}

#[tokio::test]
async fn calls_of_one_step_run_in_order_and_a_file_outlives_its_turn() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let write = r#"[[tool file_write {"path": "notes/a.txt", "content": "kept"}]]"#;
    let program = json!({ "language": "bash", "code": "cat notes/a.txt; echo ' and added' >> notes/a.txt" });

    let turn = api.turn(&conversation, &format!("{write} [[also code_execute {program}]]")).await;
    assert_eq!(turn.answer(), "done: kept");
    assert_eq!(
        turn.all("tool.start").iter().map(|start| &start["tool"]).collect::<Vec<_>>(),
        ["file_write", "code_execute"]
    );

    let read = r#"[[tool file_read {"path": "notes/a.txt"}]]"#;
    assert_eq!(api.turn(&conversation, read).await.answer(), "done: kept and added\n");
    let other = api.conversation().await;
    let turn = api.turn(&other, read).await;
    assert_eq!(turn.one("tool.result")["status"], "error", "another conversation has other files");
}

#[tokio::test]
async fn a_turn_costs_what_the_model_counted_and_leaves_nothing_reserved() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;

    let mut cost = 0;
    for text in ["[[tool timestamp]] [[tool timestamp]] [[say x]]", "[[pad 400]]"] {
        let before = server.model.requests().len();
        let turn = api.turn(&conversation, text).await;
        let requests = server.model.requests();
        let input: usize =
            requests[before..].iter().map(|request| request.total_characters().div_ceil(4)).sum();
        assert_eq!(turn.run["usage"]["input_tokens"], input);
        let output = turn.run["usage"]["output_tokens"].as_u64().unwrap();
        assert!(output > 0);
        // One and two millionths of a dollar a token.
        let expected = u64::try_from(input).unwrap() + 2 * output;
        assert_eq!(turn.run["cost_micros"], expected);
        cost += expected;
    }

    let me = api.get("/api/v2/me").await.expect(200);
    for budget in api.get("/api/v2/budgets").await.expect(200).as_array().unwrap() {
        let id = if budget["scope"] == "tenant" { &me["tenant_id"] } else { &me["user_id"] };
        assert_eq!(
            *budget,
            json!({ "id": id, "scope": budget["scope"], "limit_micros": null,
                "reserved_micros": 0, "spent_micros": cost })
        );
    }
}

#[tokio::test]
async fn a_conversations_earlier_turns_are_shown_to_the_model_and_no_other_conversations() {
    let server = Server::start().await;
    let api = server.api();
    let (first, second) = (api.conversation().await, api.conversation().await);
    api.turn(&second, "[[say secret of the second]]").await;
    api.turn(&first, "my name is Ada [[say noted]]").await;
    api.turn(&first, "what is it?").await;

    let request = server.model.last_request();
    let shown: Vec<(&str, &str)> = request
        .messages
        .iter()
        .skip(1)
        .map(|message| (message.role.as_str(), message.content.as_str()))
        .collect();
    assert_eq!(
        shown,
        [("user", "my name is Ada [[say noted]]"), ("assistant", "noted"), ("user", "what is it?")]
    );
}

#[tokio::test]
async fn a_change_of_the_agent_counts_from_the_next_message_on() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let before = api.get("/api/v2/agents/default").await.expect(200);
    let changed = api
        .patch("/api/v2/agents/default", json!({ "prompt": "Speak Latin.", "tools": [] }))
        .await
        .expect(200);
    assert_eq!((&changed["prompt"], &changed["tools"]), (&json!("Speak Latin."), &json!([])));
    assert_eq!((&changed["name"], &changed["limits"]), (&before["name"], &before["limits"]));

    api.turn(&conversation, "salve").await;
    let request = server.model.last_request();
    assert_eq!(request.messages[0].content, "Speak Latin.");
    assert_eq!(request.tools.len(), 0);
}

/// The database has few connections for reading, and every stream asks it for events and for its own credential: none of
/// them may hold one while it waits for another.
#[tokio::test]
async fn many_who_talk_at_once_are_all_answered_to_the_end() {
    let server = Server::start().await;
    let api = server.api();
    let talk = |_| async {
        let conversation = api.conversation().await;
        for _ in 0..8 {
            let turn = api.turn(&conversation, "[[say hello]]").await;
            assert_eq!((turn.answer(), turn.kinds().last()), ("hello", Some(&"run.done")));
        }
    };
    futures::future::join_all((0..48).map(talk)).await;
}
