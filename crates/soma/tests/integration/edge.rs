//! What a client may take of the gateway: connections, time, memory. Whoever takes more is cut off, and the others
//! are served.

use std::{net::SocketAddr, time::Instant};

use futures::future::join_all;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::harness::{Api, PATIENCE, Server, until};

const SLOW: usize = 2_000;
const DEAF: usize = 50;

/// A connection from one of loopback's many addresses.
pub async fn connect(server: &Server, from: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let to: SocketAddr = server.base().split_once("://").unwrap().1.parse().unwrap();
    socket.connect(to).await.expect("a connection")
}

/// Reads to the end, whatever kind of end it is.
pub async fn closed(mut stream: TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read)).await;
    drop(ended.expect("the server closes it in time"));
    read
}

/// A counter with this label; 0 while it is not there.
pub async fn counter(api: &Api, name: &str, label: &str) -> u64 {
    let metrics = api.get("/metrics").await.expect(200);
    let line = metrics.as_str().unwrap().lines().find(|line| line.starts_with(name) && line.contains(label));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn slow_clients_and_deaf_ones_are_cut_off_while_others_are_served() {
    let server = Server::start_with(&[
        ("SA01_CONNECTIONS_MAX", "1000"),
        ("SA01_CONNECTIONS_PER_ADDRESS", "5000"),
        ("SA01_HEADER_TIMEOUT", "2"),
        ("SA01_STALL_TIMEOUT", "1"),
        ("SA01_RATE_LIMIT_ADDRESS", "0"),
    ])
    .await;
    let api = server.api();
    let mut deaf = Vec::new();
    for _ in 0..DEAF {
        let mut stream = connect(&server, "127.0.0.3").await;
        let request = "GET /api/openapi.json HTTP/1.1\r\nhost: soma\r\n\r\n".repeat(100);
        stream.write_all(request.as_bytes()).await.unwrap();
        deaf.push(stream);
    }
    let slow = join_all((0..SLOW).map(|_| async {
        let mut stream = connect(&server, "127.0.0.2").await;
        // The server may have cut it off already.
        drop(stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: so").await);
        stream
    }))
    .await;

    assert_eq!(api.get("/health/ready").await.status, 200);
    assert_eq!(api.get("/api/v2/me").await.status, 200);

    join_all(slow.into_iter().map(closed)).await;
    let cut = async |reason: &str| counter(&api, "gateway_connections_cut_total", reason).await;
    until("deaf clients are cut off", async || (cut("stalled").await == DEAF as u64).then_some(())).await;
    let (evicted, slow) = (cut("evicted").await, cut("slow_head").await);
    assert!(evicted + slow >= SLOW as u64 && evicted >= 1000 && slow > 0, "{evicted} and {slow}");
    join_all(deaf.into_iter().map(closed)).await;
}

#[tokio::test]
async fn a_connection_keeps_alive_between_requests_and_is_closed_after_its_idle_time() {
    let server = Server::start_with(&[("SA01_HEADER_TIMEOUT", "1"), ("SA01_IDLE_TIMEOUT", "3")]).await;
    let mut stream = connect(&server, "127.0.0.1").await;
    let opened = Instant::now();
    for _ in 0..3 {
        stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: soma\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        // The rest of this answer comes before the next one: read it up to its two letters of text.
        let mut rest = Vec::new();
        while !rest.ends_with(b"\r\n\r\nok") {
            rest.push(stream.read_u8().await.unwrap());
        }
    }
    assert_eq!(closed(stream).await, b"");
    assert!(opened.elapsed().as_secs() >= 3, "{:?}", opened.elapsed());
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = Server::start().await;
    let mut stream = connect(&server, "127.0.0.1").await;
    let many: String = (0..200).map(|number| format!("x-{number}: 1\r\n")).collect();
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: soma\r\n{many}\r\n").as_bytes()).await.unwrap();
    assert!(closed(stream).await.starts_with(b"HTTP/1.1 431"));
    let mut stream = connect(&server, "127.0.0.1").await;
    let long = format!("GET / HTTP/1.1\r\nhost: soma\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    drop(stream.write_all(long.as_bytes()).await);
    let answer = closed(stream).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(server.api().get("/health/live").await.status, 200);
}

#[tokio::test]
async fn a_body_that_stops_coming_ends_its_request() {
    let server = Server::start_with(&[("SA01_STALL_TIMEOUT", "1")]).await;
    let mut stream = connect(&server, "127.0.0.1").await;
    let head = format!(
        "POST /api/v2/conversations HTTP/1.1\r\nhost: soma\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\n\r\n{{",
        server.api_key()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = String::from_utf8(closed(stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("The body broke off."), "{answer}");
}

#[tokio::test]
async fn a_stream_that_is_open_at_sigterm_ends_at_once_and_says_how_to_go_on() {
    let mut server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let run = api.say(&conversation, "[[hold one two three four]]").await;
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 1).await;
    let mut stream = connect(&server, "127.0.0.1").await;
    let request = format!(
        "GET /api/v2/runs/{run}/events HTTP/1.1\r\nhost: soma\r\nauthorization: Bearer {}\r\n\r\n",
        server.api_key()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.windows(10).any(|window| window == b"chat.delta") {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "{}", String::from_utf8_lossy(&seen));
    }
    let idle = connect(&server, "127.0.0.1").await;

    server.ask_to_stop();
    let rest = closed(stream).await;
    assert!(closed(idle).await.is_empty());
    let rest = String::from_utf8(rest).unwrap();
    assert!(rest.contains("retry: 500") && rest.contains("resume with Last-Event-ID"), "{rest}");
    server.model.release();
    assert_eq!(server.ended().await.code(), Some(0));
    server.restart().await;
    assert_eq!(server.api().end_of(&run).await.answer(), "one two three four");
}

#[tokio::test]
async fn a_request_under_way_at_sigterm_is_answered() {
    let mut server = Server::start().await;
    let mut stream = connect(&server, "127.0.0.1").await;
    let body = json!({ "agent": "default" }).to_string();
    let head = format!(
        "POST /api/v2/conversations HTTP/1.1\r\nhost: soma\r\nauthorization: Bearer {}\r\nexpect: 100-continue\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        server.api_key(),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The handler asks for the body: it is at work.
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    let idle = connect(&server, "127.0.0.1").await;
    server.ask_to_stop();
    assert!(closed(idle).await.is_empty(), "from here on the server drains");
    stream.write_all(body.as_bytes()).await.unwrap();
    let answer = String::from_utf8(closed(stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(server.ended().await.code(), Some(0));
}
