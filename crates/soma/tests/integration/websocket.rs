//! Chat over WebSocket: the same frames as a run's stream, a credential that is looked at all the time, and bounds that a
//! client at full speed meets alone.

use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest, http::Response},
};

use crate::{
    harness::{ADMIN, Api, PATIENCE, Server, text, until},
    walk::NOBODY,
};

type Raw = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// One end of a connection, as a browser's script has it.
struct Socket(Raw);

async fn connect(
    server: &Server,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<(Raw, Response<Option<Vec<u8>>>), tungstenite::Error> {
    let address = format!("{}{path}", server.base().replace("http://", "ws://"));
    let mut request = address.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    connect_async(request).await
}

/// The status with which an upgrade was refused.
async fn refused(server: &Server, path: &str, headers: &[(&'static str, &str)]) -> u16 {
    match connect(server, path, headers).await {
        Err(tungstenite::Error::Http(response)) => response.status().as_u16(),
        other => panic!("it was not refused: {:?}", other.map(|(_, response)| response.status())),
    }
}

impl Socket {
    /// Connects with a key and reads the greeting.
    async fn open(server: &Server, path: &str, key: &str) -> Self {
        let bearer = format!("Bearer {key}");
        let (raw, _) = connect(server, path, &[("authorization", &bearer)]).await.expect("an upgrade");
        let mut socket = Self(raw);
        assert_eq!(socket.next().await["type"], "connected");
        socket
    }

    async fn send(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.expect("a frame is sent");
    }

    async fn say(&mut self, conversation: &str, content: &str) {
        let payload = json!({ "conversation_id": conversation, "content": content });
        self.send(json!({ "type": "chat.message", "payload": payload })).await;
    }

    /// The next frame; the server's own pings are answered by the library.
    async fn next(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("a frame in time");
            match message.expect("an open connection").expect("a frame") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads up to and with the next frame of this type.
    async fn read_to(&mut self, kind: &str) -> Vec<Value> {
        let mut frames = Vec::new();
        loop {
            let frame = self.next().await;
            let found = frame["type"] == kind;
            frames.push(frame);
            if found {
                return frames;
            }
        }
    }

    /// The code with which the server closes, whatever comes before.
    async fn closed(&mut self) -> u16 {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("an end in time");
            match message {
                Some(Ok(Message::Close(Some(close)))) => return close.code.into(),
                Some(Ok(_)) => {}
                other => panic!("it ended without a code: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_message_is_answered_with_the_frames_of_its_runs_stream() {
    let server = Server::start().await;
    let api = server.api();
    let bearer = format!("Bearer {}", server.api_key());
    let (raw, _) = connect(&server, "/ws/v2/chat", &[("authorization", &bearer)]).await.unwrap();
    let mut socket = Socket(raw);
    let connected = socket.next().await;
    let me = api.get("/api/v2/me").await.expect(200);
    assert_eq!((&connected["type"], &connected["payload"]["user_id"]), (&json!("connected"), &me["user_id"]));
    assert_eq!(connected["payload"]["agent_id"], Value::Null);
    socket.send(json!({ "type": "ping" })).await;
    assert_eq!(socket.next().await["type"], "pong");

    let payload = json!({ "content": "[[tool timestamp]] [[say hello there]]" });
    let message = json!({ "type": "chat.message", "id": "m1", "payload": payload });
    socket.send(message.clone()).await;
    let accepted = socket.next().await;
    assert_eq!(
        (&accepted["type"], &accepted["payload"]["request_id"]),
        (&json!("chat.accepted"), &json!("m1"))
    );
    let (run, conversation) = (&accepted["payload"]["run_id"], &accepted["payload"]["conversation_id"]);
    let typing = socket.next().await;
    assert_eq!(
        (&typing["type"], &typing["payload"]),
        (&json!("typing"), &json!({ "conversation_id": conversation }))
    );
    let frames = socket.read_to("run.done").await;

    let run = run.as_str().unwrap();
    let streamed: Vec<Value> = api.events(run, 0).await.into_iter().map(|frame| frame.data).collect();
    assert_eq!(frames, streamed);
    let done = frames.iter().find(|frame| frame["type"] == "chat.done").unwrap();
    assert_eq!(done["payload"]["content"], "hello there");

    // The same frame once more is the same message.
    socket.send(message).await;
    let again = socket.read_to("chat.accepted").await;
    assert_eq!(again[0]["payload"], accepted["payload"]);
    assert_eq!(server.model.counts().requests, 2);
    socket.read_to("run.done").await;

    let third = streamed[2].clone();
    socket.send(json!({ "type": "resume", "payload": { "run_id": run, "after": 2 } })).await;
    let rest = socket.read_to("run.done").await;
    assert_eq!((rest.len(), &rest[0]), (streamed.len() - 2, &third));
}

#[tokio::test]
async fn a_run_is_cancelled_and_a_connection_to_one_agent_talks_to_no_other() {
    let server = Server::start().await;
    let api = server.api();
    let agent = api.post("/api/v2/agents", json!({ "slug": "other", "name": "Other" })).await.expect(201);
    let mut socket = Socket::open(&server, "/ws/v2/chat/other", server.api_key()).await;
    socket.send(json!({ "type": "chat.message", "payload": { "content": "[[hold a b c d e f]]" } })).await;
    let accepted = socket.read_to("chat.accepted").await.remove(0);
    let conversation = accepted["payload"]["conversation_id"].as_str().unwrap();
    let found = api.get(&format!("/api/v2/conversations/{conversation}")).await.expect(200);
    assert_eq!(found["agent_id"], agent["id"]);
    socket.read_to("chat.delta").await;
    let run = &accepted["payload"]["run_id"];
    socket.send(json!({ "type": "chat.cancel", "payload": { "run_id": run } })).await;
    let ended = socket.read_to("run.done").await;
    assert_eq!(ended.last().unwrap()["payload"]["status"], "cancelled");

    let with_default = api.conversation().await;
    socket.say(&with_default, "x").await;
    assert_eq!(socket.next().await["payload"]["code"], "other_agent");
    assert_eq!(
        refused(&server, "/ws/v2/chat/nobody", &[("authorization", &format!("Bearer {}", server.api_key()))])
            .await,
        404
    );
}

#[tokio::test]
async fn a_credential_is_a_header_a_cookie_of_this_site_or_a_subprotocol_and_never_in_the_address() {
    let server = Server::start().await;
    let key = server.api_key();
    assert_eq!(refused(&server, "/ws/v2/chat", &[]).await, 401);
    assert_eq!(refused(&server, &format!("/ws/v2/chat?token={key}"), &[]).await, 401);
    assert_eq!(
        refused(&server, "/ws/v2/chat", &[("sec-websocket-protocol", "soma.chat, bearer.soma_wrong")]).await,
        401
    );
    let reply = server.api().get("/ws/v2/chat").await;
    assert_eq!(reply.problem(426), "upgrade_required");
    let as_protocol = server.api().without_key().request(Method::GET, "/api/v2/me");
    let as_protocol = as_protocol.header("sec-websocket-protocol", format!("bearer.{key}"));
    assert_eq!(Api::reply(as_protocol).await.status, 401, "a subprotocol counts for WebSockets alone");

    let protocols = format!("soma.chat, bearer.{key}");
    let (raw, response) =
        connect(&server, "/ws/v2/chat", &[("sec-websocket-protocol", &protocols)]).await.unwrap();
    assert_eq!(text(response.headers()["sec-websocket-protocol"].as_bytes()), "soma.chat");
    assert_eq!(Socket(raw).next().await["type"], "connected");

    let ada = server.person(ADMIN, &[]).await;
    let cookie = ada.cookie().to_owned();
    assert_eq!(
        refused(&server, "/ws/v2/chat", &[("cookie", &cookie), ("origin", "http://evil.test")]).await,
        403
    );
    let own = server.base().to_owned();
    let (raw, _) = connect(&server, "/ws/v2/chat", &[("cookie", &cookie), ("origin", &own)]).await.unwrap();
    let mut socket = Socket(raw);
    assert_eq!(socket.next().await["type"], "connected");
    ada.post("/api/v2/auth/logout", json!({})).await;
    assert_eq!(socket.closed().await, 4001, "a session that ends closes what it opened");
}

#[tokio::test]
async fn a_revoked_key_and_a_lost_role_count_within_two_seconds() {
    let server = Server::start().await;
    let admin = server.api();
    let made = admin.post("/api/v2/api-keys", json!({})).await.expect(201);
    let mut socket = Socket::open(&server, "/ws/v2/chat", made["key"].as_str().unwrap()).await;
    let started = Instant::now();
    admin.delete(&format!("/api/v2/api-keys/{}", made["id"].as_str().unwrap())).await;
    assert_eq!(socket.closed().await, 4001);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());

    let conversation = admin.conversation().await;
    let bob = server.user("bob@example.org", &["user"]).await;
    let key = server.key(server.default_tenant().await, bob, Default::default()).await;
    let mut socket = Socket::open(&server, "/ws/v2/chat", &key).await;
    admin.delete(&format!("/api/v2/permissions/assignments/{bob}/user")).await;
    until("the role is gone", || async {
        let reply = admin.with_key(&key).get("/api/v2/conversations").await;
        (reply.status == 403).then_some(())
    })
    .await;
    let started = Instant::now();
    loop {
        socket.say(&conversation, "[[say x]]").await;
        let answer = socket.next().await;
        if answer["payload"]["code"] == "denied" {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(3), "{answer}");
    }
}

#[tokio::test]
async fn another_tenants_conversation_and_run_are_as_absent() {
    let server = Server::start().await;
    let (admin, stranger) = (server.api(), server.stranger().await);
    let conversation = admin.conversation().await;
    let turn = admin.turn(&conversation, "[[say private]]").await;
    let mut socket = Socket::open(&server, "/ws/v2/chat", stranger.key()).await;
    let mut answers = Vec::new();
    for (conversation, run) in [(conversation.as_str(), &turn.run["id"]), (NOBODY, &json!(NOBODY))] {
        let mut told = Vec::new();
        socket.say(conversation, "let me in").await;
        told.push(socket.next().await["payload"].clone());
        for kind in ["resume", "chat.cancel"] {
            socket.send(json!({ "type": kind, "payload": { "run_id": run } })).await;
            told.push(socket.next().await["payload"].clone());
        }
        answers.push(told);
    }
    assert_eq!(answers[0], answers[1]);
    assert!(answers[0].iter().all(|payload| payload["code"] == "not_found"), "{answers:?}");
    assert_eq!(admin.transcript(&conversation).await.len(), 2);
}

#[tokio::test]
async fn what_is_no_frame_is_told_and_what_is_too_long_ends_the_connection() {
    let server = Server::start().await;
    let mut socket = Socket::open(&server, "/ws/v2/chat", server.api_key()).await;
    for (bad, code) in [
        (Message::text("hello"), "malformed"),
        (Message::text("{\"type\":\"no.such\"}"), "unknown_type"),
        (
            Message::text("{\"type\":\"chat.message\",\"payload\":{\"content\":\"x\",\"tenant_id\":\"y\"}}"),
            "malformed",
        ),
        (Message::text("{\"type\":\"chat.message\",\"payload\":{\"content\":\" \"}}"), "invalid"),
        (Message::binary(vec![0; 100]), "malformed"),
        (
            Message::text(
                json!({ "type": "chat.message", "payload": { "content": "x".repeat(300_000) } }).to_string(),
            ),
            "invalid",
        ),
    ] {
        socket.0.send(bad).await.unwrap();
        let told = socket.next().await;
        assert_eq!((&told["type"], &told["payload"]["code"]), (&json!("error"), &json!(code)), "{told}");
    }
    // 100 MB in one frame: its head is enough to refuse it.
    let sent = socket.0.send(Message::text("x".repeat(100_000_000))).await;
    if sent.is_ok() {
        assert_eq!(socket.closed().await, 4000);
    }
    Socket::open(&server, "/ws/v2/chat", server.api_key()).await;
}

#[tokio::test]
async fn a_flood_of_frames_waits_and_others_do_not() {
    let server = Server::start().await;
    let mut flood = Socket::open(&server, "/ws/v2/chat", server.api_key()).await;
    let mut other = Socket::open(&server, "/ws/v2/chat", server.api_key()).await;
    let ping = json!({ "type": "ping" }).to_string();
    for _ in 0..10_000 {
        flood.0.feed(Message::text(ping.as_str())).await.unwrap();
    }
    flood.0.flush().await.unwrap();
    let started = Instant::now();
    for _ in 0..50 {
        other.send(json!({ "type": "ping" })).await;
        assert_eq!(other.next().await["type"], "pong");
    }
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    let mut answered = 0;
    while started.elapsed() < Duration::from_secs(3) {
        answered += usize::from(flood.next().await["type"] == "pong");
    }
    assert!((100..400).contains(&answered), "{answered}");
}

#[tokio::test]
async fn a_reader_that_never_reads_is_closed() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let turn = api.turn(&conversation, "[[pad 400000]]").await;
    let mut socket = Socket::open(&server, "/ws/v2/chat", server.api_key()).await;
    let resume = json!({ "type": "resume", "payload": { "run_id": turn.run["id"] } }).to_string();
    let started = Instant::now();
    loop {
        // A server that does not read any more is no reason to wait here.
        let asked = socket.0.send(Message::text(resume.as_str()));
        drop(tokio::time::timeout(Duration::from_millis(100), asked).await);
        let metrics = api.get("/metrics").await;
        assert_eq!(metrics.status, 200, "{metrics:?}");
        if metrics.body.as_str().unwrap().lines().any(|line| line == "websocket_connections_active 0") {
            break;
        }
        assert!(started.elapsed() < 2 * PATIENCE, "it is still open");
        // What a machine is asked in a minute has a bound, and looking counts.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_tenant_has_a_hundred_connections_and_no_more() {
    let server = Server::start().await;
    let stranger = server.stranger().await;
    let mut open = Vec::new();
    for _ in 0..100 {
        open.push(Socket::open(&server, "/ws/v2/chat", server.api_key()).await);
    }
    let bearer = format!("Bearer {}", server.api_key());
    assert_eq!(refused(&server, "/ws/v2/chat", &[("authorization", &bearer)]).await, 429);
    Socket::open(&server, "/ws/v2/chat", stranger.key()).await;
    open.pop().unwrap().0.close(None).await.unwrap();
    until("a place is free", || async {
        connect(&server, "/ws/v2/chat", &[("authorization", &bearer)]).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_server_that_stops_says_so_and_another_goes_on() {
    let mut server = Server::start().await;
    let conversation = server.api().conversation().await;
    let mut socket = Socket::open(&server, "/ws/v2/chat", server.api_key()).await;
    socket.say(&conversation, "[[tool timestamp]] [[hold one two three four]]").await;
    let mut frames = socket.read_to("chat.delta").await;
    let run = frames[0]["payload"]["run_id"].clone();
    server.ask_to_stop();
    assert_eq!(socket.closed().await, 1012);
    server.model.release();
    assert!(server.ended().await.success());

    server.restart().await;
    let mut socket = Socket::open(&server, "/ws/v2/chat", server.api_key()).await;
    frames.drain(..2);
    let after = frames.len();
    socket.send(json!({ "type": "resume", "payload": { "run_id": run, "after": after } })).await;
    frames.extend(socket.read_to("run.done").await);
    let streamed = server.api().events(run.as_str().unwrap(), 0).await;
    assert_eq!(frames, streamed.into_iter().map(|frame| frame.data).collect::<Vec<_>>());
}

#[tokio::test]
async fn messages_over_a_websocket_are_requests_and_draw_on_the_same_quota() {
    let server = Server::start_with(&[("SA01_RATE_LIMIT_KEY", "4")]).await;
    let bob = server.member("bob@example.org", &["user"]).await;
    let conversation = bob.conversation().await;
    let mut socket = Socket::open(&server, "/ws/v2/chat", bob.key()).await;
    for content in ["[[say one]]", "[[say two]]"] {
        socket.say(&conversation, content).await;
        socket.read_to("run.done").await;
    }
    socket.say(&conversation, "[[say three]]").await;
    let frames = socket.read_to("error").await;
    assert_eq!(frames.last().unwrap()["payload"]["code"], "rate_limited", "{frames:?}");
    assert_eq!(bob.get("/api/v2/agents").await.problem(429), "rate_limited");
}

#[tokio::test]
async fn a_message_whose_acknowledgement_was_lost_in_a_kill_is_one_message() {
    let mut server = Server::start_with(&[("SOMA_KILL_AT", "message_committed:1")]).await;
    let message = json!({
        "type": "chat.message", "id": "lost-and-found", "payload": { "content": "[[say once]]" },
    });
    let mut socket = Socket::open(&server, "/ws/v2/chat", server.api_key()).await;
    socket.send(message.clone()).await;
    assert!(!server.ended().await.success());
    while let Some(Ok(received)) = socket.0.next().await {
        assert!(!matches!(received, Message::Text(_)), "nothing was acknowledged: {received:?}");
    }

    server.settings.remove("SOMA_KILL_AT");
    server.restart().await;
    let api = server.api();
    let mut socket = Socket::open(&server, "/ws/v2/chat", server.api_key()).await;
    socket.send(message.clone()).await;
    let accepted = socket.read_to("chat.accepted").await.remove(0)["payload"].clone();
    assert_eq!(accepted["request_id"], "lost-and-found");
    assert_eq!(socket.next().await["type"], "typing");
    let frames = socket.read_to("run.done").await;
    let streamed = api.events(accepted["run_id"].as_str().unwrap(), 0).await;
    assert_eq!(frames, streamed.into_iter().map(|frame| frame.data).collect::<Vec<_>>());

    let conversations = api.get("/api/v2/conversations").await.expect(200);
    let ids: Vec<&Value> =
        conversations["items"].as_array().unwrap().iter().map(|found| &found["id"]).collect();
    assert_eq!(ids, [&accepted["conversation_id"]]);
    let said = api.transcript(ids[0].as_str().unwrap()).await;
    assert_eq!((said.len(), server.model.counts().requests), (2, 1), "{said:?}");
}

#[tokio::test]
async fn a_client_learns_that_it_is_told_no_more_of_a_run() {
    let server = Server::start().await;
    let admin = server.api();
    let bob = server.user("bob@example.org", &["user"]).await;
    let key = server.key(server.default_tenant().await, bob, Default::default()).await;
    let mut socket = Socket::open(&server, "/ws/v2/chat", &key).await;
    socket.send(json!({ "type": "chat.message", "payload": { "content": "[[hold one two three]]" } })).await;
    let accepted = socket.read_to("chat.accepted").await.remove(0);
    socket.read_to("chat.delta").await;
    admin.delete(&format!("/api/v2/permissions/assignments/{bob}/user")).await;
    let told = socket.read_to("error").await.pop().unwrap();
    assert_eq!(
        (&told["payload"]["code"], &told["payload"]["run_id"]),
        (&json!("denied"), &accepted["payload"]["run_id"])
    );
    server.model.release();
    // Nothing of the run comes between the frame that asks and its answer.
    admin.end_of(accepted["payload"]["run_id"].as_str().unwrap()).await;
    socket.send(json!({ "type": "ping" })).await;
    assert_eq!(socket.next().await["type"], "pong");
}
