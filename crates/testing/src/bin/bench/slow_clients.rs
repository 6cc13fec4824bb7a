//! What clients that behave feel of those that don't: 2,000 that send their heads letter by letter and 50 that read
//! nothing of their answers, all of which come back when they are cut off.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

use super::{install::Api, median_ms, round};

const SLOW: usize = 2_000;
const DEAF: usize = 50;
const REQUESTS: usize = 3_000;
/// A slow client sends the next letter after that.
const LETTER_EVERY: Duration = Duration::from_secs(1);
/// How long a client that was cut off stays away.
const BACK_AFTER: Duration = Duration::from_millis(500);
/// Addresses of loopback that misbehave: fewer connections from each than one may have.
const ADDRESSES: usize = 4;

async fn connect(to: SocketAddr, number: usize) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(16 * 1024)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 2 + u8::try_from(number % ADDRESSES).unwrap_or(0)], 0)))?;
    socket.connect(to).await
}

async fn slow(to: SocketAddr, number: usize) {
    loop {
        if let Ok(mut stream) = connect(to, number).await {
            let _ = stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: ").await;
            loop {
                tokio::time::sleep(LETTER_EVERY).await;
                if stream.write_all(b"x").await.is_err() {
                    break;
                }
            }
        }
        tokio::time::sleep(BACK_AFTER).await;
    }
}

async fn deaf(to: SocketAddr, number: usize) {
    let asked = "GET /api/openapi.json HTTP/1.1\r\nhost: soma\r\n\r\n".repeat(50);
    loop {
        if let Ok(mut stream) = connect(to, number).await
            && stream.write_all(asked.as_bytes()).await.is_ok()
        {
            // The next byte is taken until the server has cut it off.
            while stream.write_all(b"\r\n").await.is_ok() {
                tokio::time::sleep(LETTER_EVERY).await;
            }
        }
        tokio::time::sleep(BACK_AFTER).await;
    }
}

async fn requests(api: &Api) -> Value {
    let mut times = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let started = Instant::now();
        let request = api.client.get(format!("{}/api/v2/me", api.url)).bearer_auth(&api.key);
        let response = request.send().await.expect("a healthy client is served");
        assert!(response.status().is_success(), "{}", response.status());
        response.bytes().await.expect("a whole answer");
        times.push(started.elapsed());
    }
    let median = median_ms(&mut times);
    let p99 = times.get(times.len() * 99 / 100).map_or(0.0, |time| round(time.as_secs_f64() * 1000.0));
    json!({ "median_ms": median, "p99_ms": p99 })
}

/// One healthy client alone, and then among the others.
pub(super) async fn measure(api: &Api) -> Value {
    let to: SocketAddr = api.url.split_once("://").expect("a URL").1.parse().expect("an address");
    let alone = requests(api).await;
    let mut others = JoinSet::new();
    for number in 0..SLOW {
        others.spawn(slow(to, number));
    }
    for number in 0..DEAF {
        others.spawn(deaf(to, number));
    }
    tokio::time::sleep(LETTER_EVERY).await;
    let among = requests(api).await;
    others.shutdown().await;
    json!({ "slow": SLOW, "deaf": DEAF, "alone": alone, "among_them": among })
}
