//! A stream that breaks is resumed where it stopped: each event once, in order, whoever listens and whenever.

use futures::{StreamExt, future::join_all};
use reqwest::Method;
use serde_json::json;

use crate::harness::{Api, PATIENCE, Server, Stream};

/// A stream that has told something of a run at work, which goes on until the model is released.
async fn listening(server: &Server, api: &Api) -> (String, Stream) {
    let conversation = api.conversation().await;
    let run = api.say(&conversation, "[[hold one two three four]]").await;
    let mut stream = api.stream(&run, 0).await;
    stream.read_to("chat.delta").await;
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 1).await;
    (run, stream)
}

/// Reads to the end of a stream that was not told that its run is over.
async fn breaks_off(mut stream: Stream) {
    while let Some(frame) = stream.next().await {
        assert_ne!(frame.kind, "run.done");
    }
}

#[tokio::test]
async fn a_stream_resumed_after_any_event_gives_exactly_the_rest() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let text =
        "[[tool timestamp]] [[slow 60 each of these chunks is a piece of its own so there are several]]";

    let run = api.say(&conversation, text).await;
    let live = api.events(&run, 0).await;

    let kinds: Vec<&str> = live.iter().map(|frame| frame.kind.as_str()).collect();
    assert!(kinds.iter().filter(|kind| **kind == "chat.delta").count() >= 3, "{kinds:?}");
    assert_eq!(live.last().unwrap().kind, "run.done");
    for (index, frame) in live.iter().enumerate() {
        assert_eq!(api.events(&run, frame.sequence).await, live[index + 1..]);
    }
}

#[tokio::test]
async fn all_listeners_of_a_run_at_work_hear_the_same() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let run = api.say(&conversation, "[[hold one two three four five six seven]]").await;
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 1).await;
    let mut early = api.stream(&run, 0).await;
    let before = early.read_to("chat.delta").await;
    let resumed = api.events(&run, before.last().unwrap().sequence);
    let late = join_all((0..20).map(|_| api.events(&run, 0)));
    let released = async { server.model.release() };

    let (resumed, late, ()) = futures::join!(resumed, late, released);

    let mut whole = before;
    whole.extend(resumed);
    assert_eq!(whole.last().unwrap().kind, "run.done");
    assert!(late.iter().all(|frames| *frames == whole));
    let mut rest = Vec::new();
    while let Some(frame) = early.next().await {
        rest.push(frame);
    }
    assert!(whole.ends_with(&rest));
}

#[tokio::test]
async fn a_listener_that_leaves_does_not_stop_the_run() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let run = api.say(&conversation, "[[hold one two three four]]").await;
    let mut stream = api.stream(&run, 0).await;
    stream.read_to("chat.delta").await;
    drop(stream);
    server.model.release();
    assert_eq!(api.end_of(&run).await.answer(), "one two three four");
}

#[tokio::test]
async fn a_run_that_waits_is_listened_to_before_it_starts() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    api.say(&conversation, "[[hold one two three four]]").await;
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 1).await;
    let waiting = api.say(&conversation, "[[say second]]").await;
    let listening = api.stream(&waiting, 0).await;
    server.model.release();
    let mut listening = listening;
    let frames = listening.read_to("run.done").await;
    assert_eq!(frames, api.events(&waiting, 0).await);
}

#[tokio::test]
async fn a_stream_ends_with_the_session_that_opened_it() {
    let server = Server::start().await;
    let bob = server.person("bob@example.org", &["user"]).await;
    let (run, stream) = listening(&server, &bob).await;
    let request = bob.request(Method::POST, "/v1/chat/completions");
    let body = json!({ "model": "scripted", "stream": true, "messages": [{ "role": "user", "content": "[[hold a b c]]" }] });
    let chat = request.json(&body).send().await.unwrap();
    assert_eq!(chat.status(), 200);
    let user = bob.get("/api/v2/me").await.expect(200)["user_id"].as_str().unwrap().to_owned();
    server.api().delete(&format!("/api/v2/users/{user}/sessions")).await.expect(204);
    breaks_off(stream).await;
    let told: Vec<_> = tokio::time::timeout(PATIENCE, chat.bytes_stream().collect()).await.expect("its end");
    let told: String =
        told.into_iter().flatten().map(|piece| String::from_utf8_lossy(&piece).into_owned()).collect();
    assert!(!told.contains("[DONE]"), "{told}");
    server.model.release();
    assert_eq!(server.api().end_of(&run).await.answer(), "one two three four", "the run goes on");
}

#[tokio::test]
async fn a_stream_ends_when_what_its_listener_may_do_changes_and_is_resumed_by_who_still_may() {
    let server = Server::start().await;
    let bob = server.member("bob@example.org", &["user"]).await;
    let (run, stream) = listening(&server, &bob).await;
    let user = bob.get("/api/v2/me").await.expect(200)["user_id"].as_str().unwrap().to_owned();
    let viewer = json!({ "user_id": user, "role": "viewer" });
    server.api().post("/api/v2/permissions/assignments", viewer).await.expect(201);
    breaks_off(stream).await;
    let mut again = bob.stream(&run, 0).await;
    again.read_to("chat.delta").await;
    for role in ["user", "viewer"] {
        let path = format!("/api/v2/permissions/assignments/{user}/{role}");
        server.api().delete(&path).await.expect(204);
    }
    breaks_off(again).await;
    assert_eq!(bob.get(&format!("/api/v2/runs/{run}/events")).await.status, 403);
    server.model.release();
    assert_eq!(server.api().end_of(&run).await.answer(), "one two three four");
}
