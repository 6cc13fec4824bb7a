//! Tests of what the model answers: directives, rules, and each way to fail.

use futures::StreamExt;

use super::*;

#[tokio::test]
async fn directives_are_followed_in_order_one_step_each() {
    let model = ScriptedModel::start();
    let text = r#"please [[tool read {"rows": [[1],[2]]}]] then [[tool write]] and [[also log not json]] [[say got {result}!]]"#;
    let call = |name: &str, arguments: &str| (name.to_owned(), arguments.to_owned());
    assert_eq!(called(&model, &user(text)).await, [call("read", r#"{"rows": [[1],[2]]}"#)]);
    let second = [call("write", "{}"), call("log", "not json")];
    assert_eq!(called(&model, &after_calls(text, &["r1"])).await, second);
    assert_eq!(said(&model, &after_calls(text, &["r1", "r2", "r3"])).await, "got r3!");
}

#[tokio::test]
async fn only_the_last_user_message_counts() {
    let model = ScriptedModel::start();
    let mut body = after_calls("[[tool t {}]]", &["old"]);
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": "done"}));
    messages.push(json!({"role": "user", "content": [{"type": "text", "text": "[[tool u {}]]"}]}));
    assert_eq!(called(&model, &body).await, [("u".to_owned(), "{}".to_owned())]);
}

#[tokio::test]
async fn what_is_no_directive_is_echoed() {
    let model = ScriptedModel::start();
    for text in ["[[unknown x]]", "a[[", "[[tool", "[[say never closed", "[[pad many]]", "[[tool ]]x"] {
        assert_eq!(said(&model, &user(text)).await, format!("echo: {text}"), "{text}");
    }
    assert_eq!(said(&model, &after_calls("[[tool t {}]]", &["r"])).await, "done: r");
}

#[tokio::test]
async fn padding_has_the_length_asked_for_and_the_limit_cuts_it() {
    let model = ScriptedModel::start();
    assert_eq!(said(&model, &user("[[pad 100001]]")).await.len(), 100_001);
    let mut body = user("[[pad 1000]]");
    body["max_tokens"] = json!(10);
    let answer = document(&model, &body).await;
    assert_eq!(answer["choices"][0]["message"]["content"].as_str().unwrap().len(), 40);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 10);
}

#[tokio::test]
async fn failures_of_each_kind() {
    let model = ScriptedModel::start();
    let failed = ask(&model, &user("[[status 503]]")).send().await.unwrap();
    assert_eq!(failed.status(), 503);
    assert_eq!(failed.json::<Value>().await.unwrap()["error"]["message"], "scripted status 503");

    let garbage = ask(&model, &streamed("[[garbage]]")).send().await.unwrap();
    assert_eq!(garbage.status(), 200);
    assert_eq!(garbage.text().await.unwrap(), "data: {\"choices\": [<html>oops\n\n");

    let hung = ask(&model, &user("[[hang]]")).timeout(Duration::from_millis(100)).send().await;
    assert!(hung.unwrap_err().is_timeout());
    model.wait_for(SOON, |counts| counts.in_flight == 0).await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_has_its_text_and_no_end() {
    let model = ScriptedModel::start();
    let response = ask(&model, &streamed("[[midstream one two three four]]")).send().await.unwrap();
    let mut body = response.bytes_stream();
    let mut seen = Vec::new();
    let error = loop {
        match body.next().await.unwrap() {
            Ok(piece) => seen.extend_from_slice(&piece),
            Err(error) => break error,
        }
    };
    assert!(error.is_body() || error.is_decode(), "{error:?}");
    let (events, done) = events(std::str::from_utf8(&seen).unwrap());
    assert_eq!((text_of(&events).as_str(), done), ("one two three four", false));
}

#[tokio::test]
async fn a_slow_answer_takes_its_time_and_is_whole() {
    let model = ScriptedModel::start();
    let started = std::time::Instant::now();
    let response = ask(&model, &streamed("[[slow 20 one two three four five six]]")).send().await.unwrap();
    let (events, done) = events(&response.text().await.unwrap());
    assert!(started.elapsed() >= Duration::from_millis(60));
    assert_eq!((text_of(&events).as_str(), done), ("one two three four five six", true));
    assert_eq!(said(&model, &user("[[slow 1 whole]]")).await, "whole");
}

#[tokio::test]
async fn a_held_answer_goes_on_when_released() {
    let model = ScriptedModel::start();
    let response = ask(&model, &streamed("[[hold one two three four]]")).send().await.unwrap();
    let mut body = response.bytes_stream();
    let mut seen = body.next().await.unwrap().unwrap().to_vec();
    while !String::from_utf8_lossy(&seen).contains("three") {
        seen.extend_from_slice(&body.next().await.unwrap().unwrap());
    }
    assert!(tokio::time::timeout(Duration::from_millis(50), body.next()).await.is_err());
    assert_eq!(model.counts().in_flight, 1);
    model.release();
    while let Some(piece) = body.next().await {
        seen.extend_from_slice(&piece.unwrap());
    }
    let (events, done) = events(std::str::from_utf8(&seen).unwrap());
    assert_eq!((text_of(&events).as_str(), done), ("one two three four", true));
    model.wait_for(SOON, |counts| counts.in_flight == 0).await;
}

#[tokio::test]
async fn raw_bytes_are_sent_as_they_are() {
    let pieces = vec![Bytes::from_static(b"data: {\"a"), Bytes::from_static(b"\": 1}\n\n")];
    let model = ScriptedModel::with_script(Script::always(Answer::Raw(pieces)));
    let response = ask(&model, &streamed("x")).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "data: {\"a\": 1}\n\n");
}

#[tokio::test]
async fn rules_and_failures_come_before_the_script() {
    let script = Script::by_directive()
        .when("weather", Answer::Text("rain".into()))
        .after_failing(1, Answer::Status(429, "slow down".into()));
    let model = ScriptedModel::with_script(script);
    assert_eq!(ask(&model, &user("weather?")).send().await.unwrap().status(), 429);
    assert_eq!(said(&model, &user("weather?")).await, "rain");
    assert_eq!(said(&model, &user("else")).await, "echo: else");
    model.set_script(Script::new(|request| Answer::Text(request.total_characters().to_string())));
    assert_eq!(said(&model, &user("four")).await, "4");
}
