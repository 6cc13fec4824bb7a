//! Usage: sums that agree with the runs, for those who may see them; and the made-up install that lists are measured on.

use serde_json::{Value, json};

use crate::harness::{Server, text, until};

async fn usage(api: &crate::harness::Api, query: &str) -> Vec<Value> {
    let answer = api.get(&format!("/api/v2/usage{query}")).await.expect(200);
    answer["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn sums_are_those_of_the_runs_however_they_are_cut() {
    let server = Server::start().await;
    let admin = server.api();
    let other = json!({ "slug": "other", "name": "Other", "model": "another" });
    admin.post("/api/v2/agents", other).await.expect(201);
    let mut runs = Vec::new();
    for agent in ["default", "default", "other"] {
        let conversation = admin.conversation_with(agent).await;
        runs.push(admin.turn(&conversation, "[[say hello]]").await.run);
    }
    let sum = |field: &dyn Fn(&Value) -> &Value, runs: &[Value]| -> u64 {
        runs.iter().map(|run| field(run).as_u64().unwrap()).sum()
    };
    let item = |key: &Value, label: &str, runs: &[Value]| {
        json!({
            "key": key, "label": label, "runs": runs.len(),
            "input_tokens": sum(&|run| &run["usage"]["input_tokens"], runs),
            "output_tokens": sum(&|run| &run["usage"]["output_tokens"], runs),
            "cost_micros": sum(&|run| &run["cost_micros"], runs),
        })
    };
    let me = admin.get("/api/v2/me").await.expect(200);
    let agent = |slug: &'static str| {
        let admin = admin.clone();
        async move { admin.get(&format!("/api/v2/agents/{slug}")).await.expect(200) }
    };
    let (default, other) = (agent("default").await, agent("other").await);
    let day = json!(runs[0]["created_at"].as_str().unwrap().split('T').next().unwrap());

    assert_eq!(usage(&admin, "").await, [item(&day, day.as_str().unwrap(), &runs)]);
    assert_eq!(usage(&admin, "?by=user").await, [item(&me["user_id"], crate::harness::ADMIN, &runs)]);
    assert_eq!(
        usage(&admin, "?by=agent").await,
        [
            item(&default["id"], default["name"].as_str().unwrap(), &runs[..2]),
            item(&other["id"], "Other", &runs[2..]),
        ]
    );
    assert_eq!(
        usage(&admin, "?by=model").await,
        [item(&json!("scripted"), "scripted", &runs[..2]), item(&json!("another"), "another", &runs[2..])]
    );
    let first = runs[0]["created_at"].as_str().unwrap();
    assert_eq!(usage(&admin, &format!("?to={first}")).await, [] as [Value; 0]);
    assert_eq!(usage(&admin, &format!("?by=model&from={first}")).await.len(), 2);
    assert_eq!(usage(&server.stranger().await, "?by=model").await, [] as [Value; 0]);
    for (query, field) in [
        ("by=week", "by"),
        ("from=yesterday", "from"),
        ("to=2026-01-31", "to"),
        ("from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z", "from"),
        ("from=2020-01-01T00:00:00Z", "from"),
        ("tenant=other", "tenant"),
    ] {
        let reply = admin.get(&format!("/api/v2/usage?{query}")).await;
        assert_eq!((reply.problem(422), &reply.body["errors"][0]["field"]), ("invalid", &json!(field)));
    }
}

#[tokio::test]
async fn calls_of_a_model_by_its_name_are_summed_too() {
    let server = Server::start().await;
    let admin = server.api();
    let body = json!({ "model": "scripted", "messages": [{ "role": "user", "content": "[[say hello]]" }] });
    let answer = admin.post("/v1/chat/completions", body).await.expect(200);
    let items = until("the call is settled", || async {
        let items = usage(&admin, "?by=agent").await;
        items.first().is_some_and(|item| item["output_tokens"] != 0).then_some(items)
    })
    .await;
    let cost = items[0]["cost_micros"].as_u64().unwrap();
    let expected = |key: &str, label: &str| {
        json!({
            "key": key, "label": label, "runs": 1, "cost_micros": cost,
            "input_tokens": answer["usage"]["prompt_tokens"],
            "output_tokens": answer["usage"]["completion_tokens"],
        })
    };
    assert!(cost > 0);
    assert_eq!(items, [expected("", "models called by name")]);
    assert_eq!(usage(&admin, "?by=model").await, [expected("scripted", "scripted")]);
}

#[tokio::test]
async fn a_new_install_is_filled_with_made_up_work_and_one_that_is_used_is_not() {
    let mut server = Server::installed(&[]);
    let filled = server.run(&["dev", "seed", "--messages", "3000", "--audit", "4500"]);
    assert!(filled.status.success(), "{}", text(&filled.stderr));
    server.restart().await;
    let admin = server.api();
    let page = admin.get("/api/v2/conversations?limit=200").await.expect(200);
    let conversations = page["items"].as_array().unwrap();
    assert_eq!(conversations.len(), 1 + (3000 - 60) / 50 + 1);
    assert!(conversations.iter().all(|conversation| conversation["last_run_state"] == "completed"));
    let id = conversations[0]["id"].as_str().unwrap();
    assert_eq!(admin.transcript(id).await.len(), 50);
    assert_eq!(admin.get("/api/v2/audit/verify").await.expect(200)["entries"], 4500);
    // A search looks at 4,000 entries at a time, and says where it goes on.
    let first = admin.get("/api/v2/audit?q=%7B%22number%22:0%7D").await.expect(200);
    assert_eq!(first["items"], json!([]));
    let next = first["next_cursor"].as_str().unwrap();
    let second = admin.get(&format!("/api/v2/audit?q=%7B%22number%22:0%7D&cursor={next}")).await.expect(200);
    assert_eq!((&second["items"][0]["sequence"], second.get("next_cursor")), (&json!(1), None));
    assert_eq!(usage(&admin, "?by=agent").await.len(), 1);
    let again = server.run(&["dev", "seed", "--messages", "100"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("conversations already"), "{}", text(&again.stderr));
}
