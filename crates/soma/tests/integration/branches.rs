//! Branches: an edited message and an answer given again lie beside what was there, and each branch is read and
//! continued by itself.

use serde_json::{Value, json};

use crate::{
    harness::{Api, PATIENCE, Server},
    walk::NOBODY,
};

fn id(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("{value} has no {field}")).to_owned()
}

async fn send(api: &Api, conversation: &str, text: &str, parent: Value) -> String {
    let body = json!({ "content": text, "parent_run_id": parent });
    let run = id(&api.send(conversation, body).await.expect(202), "run_id");
    api.end_of(&run).await;
    run
}

async fn said(api: &Api, conversation: &str, query: &str) -> Vec<String> {
    let page = api.get(&format!("/api/v2/conversations/{conversation}/messages?{query}")).await.expect(200);
    page["items"].as_array().unwrap().iter().map(|message| id(message, "content")).collect()
}

/// What the model was shown last, without the prompt.
fn shown(server: &Server) -> Vec<String> {
    server.model.last_request().messages.iter().skip(1).map(|message| message.content.clone()).collect()
}

#[tokio::test]
async fn an_edited_message_begins_a_branch_that_knows_nothing_of_the_other() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let first = send(&api, &conversation, "one [[say 1]]", Value::Null).await;
    let second = send(&api, &conversation, "two [[say 2]]", json!(first)).await;
    let third = id(&api.turn(&conversation, "three [[say 3]]").await.run, "id");

    let edited = send(&api, &conversation, "zwei [[say II]]", json!(first)).await;

    assert_eq!(shown(&server), ["one [[say 1]]", "1", "zwei [[say II]]"]);
    assert_eq!(said(&api, &conversation, "").await, ["one [[say 1]]", "1", "zwei [[say II]]", "II"]);
    let old = ["one [[say 1]]", "1", "two [[say 2]]", "2", "three [[say 3]]", "3"];
    assert_eq!(said(&api, &conversation, &format!("leaf={third}")).await, old);
    assert_eq!(said(&api, &conversation, &format!("leaf={second}")).await, old[..4]);

    // What is sent without a parent goes on where something was said last.
    let next = id(&api.turn(&conversation, "drei [[say III]]").await.run, "id");
    assert_eq!(api.run(&next).await["parent_run_id"], edited);
    // And the old branch can be gone on with: it becomes the last one.
    let fourth = send(&api, &conversation, "four [[say 4]]", json!(third)).await;
    assert_eq!(said(&api, &conversation, "").await, [&old[..], &["four [[say 4]]", "4"]].concat());
    // Another beginning.
    send(&api, &conversation, "anew [[say 0]]", Value::Null).await;
    assert_eq!(shown(&server), ["anew [[say 0]]"]);

    let runs = api.get(&format!("/api/v2/conversations/{conversation}/runs")).await.expect(200);
    let runs = runs["items"].as_array().unwrap();
    let parents: Vec<&Value> = runs.iter().map(|run| &run["parent_run_id"]).collect();
    let [null, first, second, third, edited] =
        [Value::Null, json!(first), json!(second), json!(third), json!(edited)];
    assert_eq!(parents, [&null, &third, &edited, &first, &second, &first, &null], "the last made first");
    assert_eq!((&runs[1]["id"], &runs[1]["state"]), (&json!(fourth), &json!("completed")));
}

#[tokio::test]
async fn an_answer_is_given_again_beside_the_first_and_once_for_one_key() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let first = id(&api.turn(&conversation, "one [[say 1]]").await.run, "id");
    let second = id(&api.turn(&conversation, "two [[say 2]]").await.run, "id");
    let path = format!("/api/v2/runs/{second}/regenerate");
    let again = || async {
        let request = api.request(reqwest::Method::POST, &path).header("idempotency-key", "again");
        Api::reply(request).await.expect(202)
    };

    let accepted = again().await;
    let other = id(&accepted, "run_id");
    assert_eq!(api.end_of(&other).await.answer(), "2");
    assert_eq!(again().await, accepted);

    assert_eq!(api.run(&other).await["parent_run_id"], first);
    assert_eq!(shown(&server), ["one [[say 1]]", "1", "two [[say 2]]"]);
    let branch = said(&api, &conversation, "").await;
    assert_eq!(branch, ["one [[say 1]]", "1", "two [[say 2]]", "2"]);
    assert_eq!(said(&api, &conversation, &format!("leaf={second}")).await, branch);
    let runs = api.get(&format!("/api/v2/conversations/{conversation}/runs")).await.expect(200);
    assert_eq!(runs["items"].as_array().unwrap().len(), 3);
    assert_eq!(
        api.post(&format!("/api/v2/runs/{NOBODY}/regenerate"), json!({})).await.problem(404),
        "not_found"
    );
}

#[tokio::test]
async fn a_parent_of_another_conversation_is_as_absent_and_nothing_is_stored() {
    let server = Server::start().await;
    let api = server.api();
    let (here, there) = (api.conversation().await, api.conversation().await);
    let other = id(&api.turn(&there, "[[say there]]").await.run, "id");
    let mut bodies = Vec::new();
    for parent in [other.as_str(), NOBODY] {
        let reply = api.send(&here, json!({ "content": "x", "parent_run_id": parent })).await;
        assert_eq!(reply.problem(422), "invalid");
        bodies.push(reply.body);
        let leaf = api.get(&format!("/api/v2/conversations/{here}/messages?leaf={parent}")).await;
        assert_eq!(leaf.problem(404), "not_found");
    }
    assert_eq!(bodies[0], bodies[1]);
    assert_eq!(bodies[0]["errors"][0]["field"], "parent_run_id");
    assert_eq!(said(&api, &here, "").await, [] as [String; 0]);
}

#[tokio::test]
async fn messages_that_wait_are_each_the_parent_of_the_next() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let first = api.say(&conversation, "one [[hold a b c d]]").await;
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 1).await;
    let second = api.say(&conversation, "two [[say 2]]").await;
    let third = api.say(&conversation, "three [[say 3]]").await;
    server.model.release();
    api.end_of(&third).await;
    assert_eq!(shown(&server), ["one [[hold a b c d]]", "a b c d", "two [[say 2]]", "2", "three [[say 3]]"]);
    assert_eq!(api.run(&second).await["parent_run_id"], first);
    assert_eq!(api.run(&third).await["parent_run_id"], second);
}

#[tokio::test]
async fn pages_of_any_size_from_either_end_are_the_whole_branch() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let mut runs = Vec::new();
    for number in 0..4 {
        runs.push(id(&api.turn(&conversation, &format!("{number} [[say a{number}]]")).await.run, "id"));
    }
    send(&api, &conversation, "b [[tool timestamp]] [[say b]]", json!(runs[1])).await;
    let leaf = send(&api, &conversation, "c [[say c]]", json!(runs[1])).await;
    let path = format!("/api/v2/conversations/{conversation}/messages?leaf={leaf}");
    let whole = api.get(&path).await.expect(200)["items"].as_array().unwrap().clone();
    assert_eq!(whole.len(), 6, "{whole:?}");

    for limit in 1..=7 {
        let (mut forward, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = api.get(&format!("{path}&limit={limit}&cursor={cursor}")).await.expect(200);
            forward.extend(page["items"].as_array().unwrap().clone());
            let Some(next) = page["next_cursor"].as_str() else { break };
            next.clone_into(&mut cursor);
        }
        assert_eq!(forward, whole, "{limit}");

        let (mut backward, mut before) = (Vec::new(), "end".to_owned());
        loop {
            let page = api.get(&format!("{path}&limit={limit}&before={before}")).await.expect(200);
            backward.splice(0..0, page["items"].as_array().unwrap().clone());
            let Some(next) = page["next_cursor"].as_str() else { break };
            next.clone_into(&mut before);
        }
        assert_eq!(backward, whole, "{limit}");
    }
    let elsewhere = format!("/api/v2/conversations/{conversation}/messages?leaf={}&limit=7", runs[3]);
    let elsewhere = api.get(&elsewhere).await.expect(200);
    let off = id(&elsewhere["items"][6], "id");
    for bad in
        [format!("cursor={off}"), format!("cursor={NOBODY}"), format!("before={NOBODY}"), "before=x".into()]
    {
        assert_eq!(api.get(&format!("{path}&{bad}")).await.problem(422), "invalid", "{bad}");
    }
}
