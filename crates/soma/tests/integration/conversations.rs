//! Conversations as a list: titles, the archive, deletion and its undoing.

use serde_json::{Value, json};

use crate::harness::{Api, PATIENCE, Server};

async fn list(api: &Api, query: &str) -> Vec<Value> {
    api.get(&format!("/api/v2/conversations?{query}")).await.expect(200)["items"].as_array().unwrap().clone()
}

async fn ids(api: &Api, query: &str) -> Vec<Value> {
    list(api, query).await.iter().map(|conversation| conversation["id"].clone()).collect()
}

#[tokio::test]
async fn a_conversation_is_named_by_its_first_words_until_somebody_names_it() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let path = format!("/api/v2/conversations/{conversation}");
    assert_eq!(api.get(&path).await.expect(200)["title"], Value::Null);

    let turn =
        api.turn(&conversation, "What is the capital\nof the country of France, please? [[say Paris]]").await;
    let title = "What is the capital of the country of France, plea";
    assert_eq!(*turn.one("title_update"), json!({ "conversation_id": conversation, "title": title }));
    assert_eq!(api.get(&path).await.expect(200)["title"], title);
    let turn = api.turn(&conversation, "And of Spain? [[say Madrid]]").await;
    assert!(turn.all("title_update").is_empty());

    let named = api.patch(&path, json!({ "title": "  Capitals " })).await.expect(200);
    assert_eq!((&named["title"], &named["archived"]), (&json!("Capitals"), &json!(false)));
    assert_eq!(api.get(&path).await.expect(200), named);
    for bad in [json!({ "title": " " }), json!({ "title": "x".repeat(201) }), json!({ "user_id": "x" })] {
        assert_eq!(api.patch(&path, bad).await.problem(422), "invalid");
    }
}

#[tokio::test]
async fn a_list_has_the_last_updated_first_and_is_filtered_by_agent_and_archive() {
    let server = Server::start().await;
    let api = server.api();
    api.post("/api/v2/agents", json!({ "slug": "other", "name": "Other" })).await.expect(201);
    let (a, b, c) =
        (api.conversation().await, api.conversation_with("other").await, api.conversation().await);
    assert_eq!(ids(&api, "").await, [json!(c), json!(b), json!(a)]);
    api.turn(&a, "[[say first]]").await;
    let items = list(&api, "").await;
    assert_eq!(items.iter().map(|item| &item["id"]).collect::<Vec<_>>(), [&json!(a), &json!(c), &json!(b)]);
    assert_eq!(
        (&items[0]["last_run_state"], &items[1]["last_run_state"]),
        (&json!("completed"), &Value::Null)
    );
    assert!(items[0]["updated_at"].as_str() > items[0]["created_at"].as_str());

    assert_eq!(ids(&api, "agent=other").await, [json!(b)]);
    assert_eq!(api.get("/api/v2/conversations?agent=nobody").await.problem(422), "invalid");
    api.patch(&format!("/api/v2/conversations/{c}"), json!({ "archived": true })).await.expect(200);
    assert_eq!(ids(&api, "").await, [json!(a), json!(b)]);
    assert_eq!(ids(&api, "archived=true").await, [json!(c)]);
    assert_eq!(ids(&api, "archived=true&agent=other").await, [] as [Value; 0]);
    api.patch(&format!("/api/v2/conversations/{c}"), json!({ "archived": false })).await.expect(200);

    let mut paged = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("/api/v2/conversations?limit=1&cursor={cursor}")).await.expect(200);
        paged.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].clone()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        next.clone_into(&mut cursor);
    }
    assert_eq!(paged, [json!(a), json!(c), json!(b)]);
    assert_eq!(api.get("/api/v2/conversations?cursor=7").await.problem(422), "invalid");
}

#[tokio::test]
async fn a_deleted_conversation_is_gone_with_its_runs_until_it_is_restored() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let before = api.turn(&conversation, "[[say kept]]").await.run["id"].as_str().unwrap().to_owned();
    let at_work = api.say(&conversation, "[[hold one two three four]]").await;
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 1).await;
    let waiting = api.say(&conversation, "[[say never]]").await;
    let mut listening = api.stream(&at_work, 0).await;
    let path = format!("/api/v2/conversations/{conversation}");

    assert_eq!(api.delete(&path).await.status, 204);

    let ended = listening.read_to("run.done").await;
    assert_eq!(ended.last().unwrap().payload()["status"], "cancelled");
    for gone in [
        &path,
        &format!("{path}/messages"),
        &format!("/api/v2/runs/{before}"),
        &format!("/api/v2/runs/{waiting}/events"),
    ] {
        assert_eq!(api.get(gone).await.problem(404), "not_found", "{gone}");
    }
    assert_eq!(api.send(&conversation, json!({ "content": "x" })).await.problem(404), "not_found");
    assert_eq!(api.delete(&path).await.problem(404), "not_found");
    assert_eq!(ids(&api, "").await, [] as [Value; 0]);

    let restored = api.post(&format!("{path}/restore"), json!({})).await.expect(200);
    assert_eq!(restored["id"], conversation);
    assert_eq!(api.post(&format!("{path}/restore"), json!({})).await.problem(404), "not_found");
    assert_eq!(api.run(&waiting).await["state"], "cancelled");
    assert_eq!(api.turn(&conversation, "[[say back]]").await.answer(), "back");
    let audit = api.get("/api/v2/audit").await.expect(200);
    let deletions = audit["items"].as_array().unwrap().iter();
    let deletions: Vec<&Value> = deletions
        .filter(|entry| entry["action"] == "conversation:delete")
        .map(|entry| &entry["details"]["deleted"])
        .collect();
    assert_eq!(deletions, [&json!(false), &json!(true)]);
}
