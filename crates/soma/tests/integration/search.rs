//! Searching what was said: whole words, the beginning of the last one, any text as a question, one's own tenant only.

use serde_json::{Value, json};

use crate::harness::{Api, Server};

async fn search(api: &Api, text: &str) -> Vec<Value> {
    let text: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    let page = api.get(&format!("/api/v2/conversations/search?q={text}")).await.expect(200);
    page["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn what_people_and_agents_said_is_found_with_its_place_the_newest_first() {
    let server = Server::start().await;
    let api = server.api();
    let (one, two) = (api.conversation().await, api.conversation().await);
    api.turn(&one, "Where do pelicans nest? [[say On islands, in colonies.]]").await;
    api.turn(&two, "Tell me of PELICANS and Größe [[say They fly.]]").await;

    let found = search(&api, "pelicans").await;
    let conversations: Vec<&Value> =
        found.iter().filter(|hit| !hit["message_id"].is_null()).map(|hit| &hit["conversation_id"]).collect();
    assert_eq!(conversations, [&json!(two), &json!(one)]);
    let messages = api.get(&format!("/api/v2/conversations/{two}/messages")).await.expect(200);
    let first = &messages["items"][0];
    let hit = found.iter().find(|hit| hit["message_id"] == first["id"]).expect("the message is found");
    assert_eq!(
        *hit,
        json!({ "conversation_id": two, "title": "Tell me of PELICANS and Größe [[say They fly.]]",
            "message_id": first["id"], "snippet": first["content"], "created_at": first["created_at"] })
    );
    assert_eq!(
        search(&api, "pelicans nest").await.len(),
        2,
        "all words have to be there: a message and a title"
    );
    assert_eq!(search(&api, "isla").await.len(), 3, "the last word may be its beginning");
    assert_eq!(search(&api, "große").await.len(), 2, "with an accent or without it");
    assert_eq!(search(&api, "grobe").await.len(), 0);
    assert_eq!(search(&api, "größe fly").await.len(), 2);
    assert_eq!(search(&api, "albatross").await, [] as [Value; 0]);

    api.patch(&format!("/api/v2/conversations/{one}"), json!({ "title": "About albatrosses" }))
        .await
        .expect(200);
    let found = search(&api, "albatross").await;
    assert_eq!(
        (found.len(), &found[0]["message_id"], &found[0]["snippet"]),
        (1, &Value::Null, &json!("About albatrosses"))
    );
    assert_eq!(search(&api, "where do").await.len(), 1, "the old title is found no more");

    let page = api.get("/api/v2/conversations/search?q=fly&limit=1").await.expect(200);
    let next = page["next_cursor"].as_str().unwrap();
    let rest = api.get(&format!("/api/v2/conversations/search?q=fly&cursor={next}")).await.expect(200);
    assert_eq!(rest["items"].as_array().unwrap().len(), 2);

    api.delete(&format!("/api/v2/conversations/{two}")).await;
    assert_eq!(search(&api, "fly").await, [] as [Value; 0], "what is deleted is not found");
    api.post(&format!("/api/v2/conversations/{two}/restore"), json!({})).await.expect(200);
    assert_eq!(search(&api, "fly").await.len(), 3);
}

#[tokio::test]
async fn no_text_is_syntax() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    api.turn(&conversation, "tenant said NEAR the OR of [[say x]]").await;
    for text in [
        "tenant:said",
        "NEAR(the",
        "\"said",
        "said*",
        "-said",
        "said OR",
        "{said}",
        "said ^the",
        "'; DROP TABLE runs; --said",
        "AND NOT",
    ] {
        let reply = search(&api, text).await;
        assert!(reply.len() <= 2, "{text}");
    }
    assert_eq!(search(&api, "said OR").await.len(), 2, "OR is a word like any other");
    assert_eq!(search(&api, "said missing").await.len(), 0);
    for bad in
        ["", "q=", "q=%20", "q=%22*%22", &format!("q={}", "x".repeat(201)), "q=a&cursor=x", "q=a&limit=0"]
    {
        assert_eq!(
            api.get(&format!("/api/v2/conversations/search?{bad}")).await.problem(422),
            "invalid",
            "{bad}"
        );
    }
}
