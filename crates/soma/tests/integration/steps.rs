//! What a run did, step by step, as an inspector shows it.

use serde_json::{Value, json};

use crate::harness::Server;

#[tokio::test]
async fn the_steps_of_a_run_say_what_each_took_and_why_each_call_was_allowed() {
    let server = Server::start().await;
    let api = server.api();
    let agent = json!({ "slug": "clock", "name": "Clock", "tools": ["timestamp"] });
    api.post("/api/v2/agents", agent).await.expect(201);
    let conversation = api.conversation_with("clock").await;
    let text = r#"[[tool timestamp]] [[tool file_read {"path": "a"}]] [[say done]]"#;

    let turn = api.turn(&conversation, text).await;

    let run = turn.run["id"].as_str().unwrap();
    let page = api.get(&format!("/api/v2/runs/{run}/steps")).await.expect(200);
    let steps = page["items"].as_array().unwrap();
    let names: Vec<&str> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["call_model", "run_tool", "call_model", "run_tool", "call_model"]);
    for (index, step) in steps.iter().enumerate() {
        // What the policy refused never began.
        let attempt = i32::from(index != 3);
        assert_eq!(
            (&step["ordinal"], &step["state"], &step["attempt"]),
            (&json!(index), &json!("completed"), &json!(attempt))
        );
        assert!(step["started_at"].as_str() <= step["ended_at"].as_str(), "{step}");
    }
    let sum = |field: &str| steps.iter().filter_map(|step| step[field].as_u64()).sum::<u64>();
    assert_eq!(sum("input_tokens"), turn.run["usage"]["input_tokens"].as_u64().unwrap());
    assert_eq!(sum("output_tokens"), turn.run["usage"]["output_tokens"].as_u64().unwrap());
    assert_eq!(sum("cost_micros"), turn.run["cost_micros"].as_u64().unwrap());
    let starts = turn.all("tool.start");
    let tools: Vec<(&Value, &Value, &Value, &Value)> = [&steps[1], &steps[3]]
        .map(|step| (&step["tool"], &step["call_id"], &step["status"], &step["decision"]["effect"]))
        .to_vec();
    assert_eq!(
        tools,
        [
            (&json!("timestamp"), &starts[0]["call_id"], &json!("success"), &json!("allow")),
            (&json!("file_read"), &starts[1]["call_id"], &json!("blocked"), &json!("deny")),
        ]
    );
    assert_eq!(steps[3]["decision"]["reason"], "tool_not_on_agent");
    assert_eq!(steps[0].get("tool"), None);
}
