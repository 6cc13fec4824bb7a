//! The world outside during chaos: the effect ledger behind a door that keeps some callers waiting, before or after
//! their effect. Some effects happen even though their caller is gone by then, as a letter arrives whose sender died.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::post,
};

use super::random::Random;
use crate::{EffectLedger, effects::Effect, server::Server};

const PAUSE_BELOW_MS: u64 = 60;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

pub(super) struct Outside {
    ledger: EffectLedger,
    door: Arc<Door>,
    server: Server,
}

struct Door {
    ledger: String,
    http: reqwest::Client,
    random: Mutex<Random>,
    under_way: AtomicU64,
}

impl Outside {
    pub(super) fn start(random: Random) -> Self {
        let ledger = EffectLedger::start();
        let door = Arc::new(Door {
            ledger: ledger.url(),
            http: super::client::http(),
            random: Mutex::new(random),
            under_way: AtomicU64::new(0),
        });
        let router = Router::new().route("/effects/{class}", post(pass)).with_state(Arc::clone(&door));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::start("outside-door", address, router).expect("a free loopback port");
        Self { ledger, door, server }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Every effect, once none is on its way any more.
    pub(super) async fn effects(&self) -> Vec<Effect> {
        while self.door.under_way.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        self.ledger.effects()
    }
}

/// Counts a request until it is over, also when it is given up.
struct UnderWay(Arc<Door>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn pass(
    State(door): State<Arc<Door>>,
    Path(class): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (before, after, certain) = {
        let mut random = door.random.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = random.below(PAUSE_BELOW_MS);
        match random.below(10) {
            0..=4 => (0, 0, true),
            5..=7 => (pause, 0, random.chance(50)),
            _ => (0, pause, true),
        }
    };
    door.under_way.fetch_add(1, Ordering::SeqCst);
    let under_way = UnderWay(Arc::clone(&door));
    let url = format!("{}/effects/{class}?before_ms={before}&after_ms={after}", door.ledger);
    let mut request = door.http.post(url).header(CONTENT_TYPE, "application/json").body(body);
    if let Some(key) = headers.get("idempotency-key") {
        request = request.header("idempotency-key", key);
    }
    let asked = async move {
        let _under_way = under_way;
        let response = request.send().await?;
        let status = response.status();
        Ok::<_, reqwest::Error>((status, response.bytes().await?))
    };
    let answer = if certain { tokio::spawn(asked).await.expect("the request's task") } else { asked.await };
    match answer {
        Ok((status, body)) => (status, body).into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
