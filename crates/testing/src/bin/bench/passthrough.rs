//! `/v1/chat/completions` by a model's name, beside the scripted model alone: requests a second with 32 connections,
//! and the time that is added at 500 a second, whether the answers come in time or not.
//!
//! The client is plain: one request written, one answer read by its `content-length` or its chunks, on a connection
//! that is kept. A full HTTP client would take more of the two cores than the server that is measured.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Mutex,
};

use super::{median_ms, round};

const CONNECTIONS: usize = 32;
const MEASURE: Duration = Duration::from_secs(10);
const WARM_UP: Duration = Duration::from_secs(1);
/// Of the open loop: a request is due every so often.
const EVERY: Duration = Duration::from_millis(2);
const OPEN_LOOP: Duration = Duration::from_secs(10);

/// Where a request goes, and its bytes.
struct Target {
    address: SocketAddr,
    request: Vec<u8>,
}

impl Target {
    fn new(url: &str, path: &str, key: &str) -> Self {
        let authority = url.trim_start_matches("http://").split('/').next().expect("an authority").to_owned();
        let body = json!({
            "model": "default", "max_tokens": 16, "messages": [{ "role": "user", "content": "[[say hello there]]" }],
        })
        .to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {authority}\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Self { address: authority.parse().expect("an address"), request: request.into_bytes() }
    }

    async fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket");
        Connection { stream, buffer: Vec::with_capacity(16 * 1024) }
    }
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn ask(&mut self, target: &Target) {
        self.stream.write_all(&target.request).await.expect("the server reads");
        self.buffer.clear();
        while !whole(&self.buffer) {
            let read = self.stream.read_buf(&mut self.buffer).await.expect("the server answers");
            assert!(read > 0, "the connection was closed: {}", String::from_utf8_lossy(&self.buffer));
        }
        assert!(self.buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&self.buffer));
    }
}

/// Whether an answer has come to its end.
fn whole(answer: &[u8]) -> bool {
    let Some(head_end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..head_end]).to_ascii_lowercase();
    if let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length:")) {
        let length: usize = length.trim().parse().expect("a length");
        return answer.len() >= head_end + 4 + length;
    }
    answer.ends_with(b"0\r\n\r\n")
}

/// Each connection asks again as soon as it is answered.
async fn closed_loop(target: &Arc<Target>, lasts: Duration) -> (f64, Vec<Duration>) {
    let started = Instant::now();
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let target = Arc::clone(target);
            tokio::spawn(async move {
                let mut connection = target.connect().await;
                let mut times = Vec::new();
                while started.elapsed() < lasts {
                    let asked = Instant::now();
                    connection.ask(&target).await;
                    times.push(asked.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await.expect("the client ends"));
    }
    (times.len() as f64 / started.elapsed().as_secs_f64(), times)
}

/// A request is sent when it is due, whether the ones before were answered or not, on a free connection or a new one.
async fn open_loop(target: &Arc<Target>) -> Vec<Duration> {
    let free: Arc<Mutex<Vec<Connection>>> = Arc::default();
    let started = tokio::time::Instant::now();
    let mut asked = Vec::new();
    let mut due = started;
    while due.duration_since(started) < OPEN_LOOP {
        tokio::time::sleep_until(due).await;
        let (target, free) = (Arc::clone(target), Arc::clone(&free));
        asked.push(tokio::spawn(async move {
            let sent = Instant::now();
            let kept = free.lock().await.pop();
            let mut connection = match kept {
                Some(connection) => connection,
                None => target.connect().await,
            };
            connection.ask(&target).await;
            let took = sent.elapsed();
            free.lock().await.push(connection);
            took
        }));
        due += EVERY;
    }
    let mut times = Vec::new();
    for one in asked {
        times.push(one.await.expect("the request ends"));
    }
    times
}

fn p99_ms(times: &[Duration]) -> f64 {
    times.get(times.len() * 99 / 100).map_or(0.0, |time| round(time.as_secs_f64() * 1000.0))
}

async fn throughput(target: &Arc<Target>) -> Value {
    closed_loop(target, WARM_UP).await;
    let (per_second, mut times) = closed_loop(target, MEASURE).await;
    json!({ "requests_per_s": round(per_second), "median_ms": median_ms(&mut times), "p99_ms": p99_ms(&times) })
}

/// Median and 99th percentile of an open loop.
async fn times(target: &Arc<Target>) -> (f64, f64) {
    let mut times = open_loop(target).await;
    (median_ms(&mut times), p99_ms(&times))
}

pub async fn measure(server: &str, key: &str, model: &str) -> Value {
    let alone = Arc::new(Target::new(model, "/v1/chat/completions", "none"));
    let through = Arc::new(Target::new(server, "/v1/chat/completions", key));
    let (model_alone, passed) = (throughput(&alone).await, throughput(&through).await);
    let ((alone_ms, alone_p99_ms), (ms, p99_ms)) = (times(&alone).await, times(&through).await);
    json!({
        "connections": CONNECTIONS,
        "model_alone": model_alone,
        "passed_through": passed,
        "at_500_per_s": {
            "model_alone_ms": alone_ms, "passed_through_ms": ms, "added_ms": round(ms - alone_ms),
            "model_alone_p99_ms": alone_p99_ms, "passed_through_p99_ms": p99_ms,
        },
    })
}
