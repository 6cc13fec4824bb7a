//! Accepts connections and serves HTTP/1 and HTTP/2 on each, within bounds, until the process is asked to stop.
//!
//! Then nothing new is accepted, connections without a request close, requests under way end, and what is still open
//! after the drain's bound is cut off.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo, http::Version, response::Response};
use hyper::body::{Body as _, Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use platform::config;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;
use tower_http::timeout::TimeoutBody;

use super::{
    activity::{Activity, Cut},
    admission::{Admission, Place},
    socket::Socket,
    tls::Tls,
};

/// Connections that the kernel has accepted and this process has not.
const BACKLOG: u32 = 1024;
/// What the kernel holds for a client that reads slowly.
const SEND_BUFFER_BYTES: u32 = 256 * 1024;
/// The head of a request, and what is held of an answer before the client takes it.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// How often a silent HTTP/2 client is asked whether it is there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Wait after an accept that failed for want of something, as files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long connections that are cut off may take to let go of what they hold.
const CUT_OFF_WITHIN: Duration = Duration::from_secs(1);
/// How often a connection is looked at, at most and at least.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Listens on an address, as the gateway wants its sockets.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Everything that serves connections.
pub struct Gateway {
    router: Router,
    settings: config::Gateway,
    tls: Option<Arc<Tls>>,
    admission: Admission,
    builder: Builder<TokioExecutor>,
    stop: CancellationToken,
    /// Ends what the drain has not.
    over: CancellationToken,
    open: TaskTracker,
}

impl Gateway {
    pub fn new(
        router: Router,
        settings: config::Gateway,
        tls: Option<Arc<Tls>>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let admission = Admission::new(&settings.connections, settings.trusted_proxies.clone());
        let over = CancellationToken::new();
        Arc::new(Self {
            router,
            settings,
            tls,
            admission,
            builder: builder(),
            stop,
            over,
            open: TaskTracker::new(),
        })
    }

    /// Serves until the process is asked to stop, and then lets what is open end within `drain`.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, drain: Duration) {
        while let Some(accepted) = self.stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "connections can't be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // From here on a client that connects is refused.
        drop(listener);
        self.open.close();
        if tokio::time::timeout(drain, self.open.wait()).await.is_err() {
            tracing::warn!(
                connections = self.open.len(),
                "some requests did not end in time and are cut off"
            );
            self.over.cancel();
            // What they leave behind, as the end of a call of a model, is noted as they are dropped.
            drop(tokio::time::timeout(CUT_OFF_WITHIN, self.open.wait()).await);
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        match self.admission.admit(peer.ip()) {
            Ok(place) => {
                let gateway = Arc::clone(self);
                self.open.spawn(async move { gateway.serve_one(stream, peer, place).await });
            }
            Err(refused) => {
                metrics::counter!("gateway_connections_refused_total", "reason" => refused.as_str())
                    .increment(1);
            }
        }
    }

    async fn serve_one(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, place: Place) {
        let activity = Arc::clone(&place.activity);
        let stall_timeout = self.settings.connections.stall_timeout;
        let socket = Socket::new(stream, place, stall_timeout, self.open.token());
        let Some(tls) = &self.tls else { return self.serve_http(socket, peer, false, &activity).await };
        let handshake =
            tokio::time::timeout(self.settings.connections.header_timeout, tls.acceptor.accept(socket));
        let shaken = tokio::select! {
            shaken = handshake => shaken,
            () = self.stop.cancelled() => return,
            () = activity.evicted.cancelled() => return count("evicted"),
        };
        match shaken {
            Ok(Ok(stream)) => self.serve_http(stream, peer, true, &activity).await,
            Ok(Err(error)) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
            Err(_) => count(Cut::SlowHead.as_str()),
        }
    }

    async fn serve_http<I>(&self, io: I, peer: SocketAddr, tls: bool, activity: &Arc<Activity>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = {
            let (router, activity) = (self.router.clone(), Arc::clone(activity));
            let (proxies, stall_timeout) =
                (self.settings.trusted_proxies.clone(), self.settings.connections.stall_timeout);
            hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
                let under_way = activity.request(request.version() == Version::HTTP_2);
                let client = proxies.client(peer.ip(), tls, request.headers());
                request.extensions_mut().insert(client);
                request.extensions_mut().insert(ConnectInfo(peer));
                let request = request.map(|body| {
                    if body.is_end_stream() {
                        return Body::empty();
                    }
                    Body::new(TimeoutBody::new(stall_timeout, body))
                });
                let answered = router.clone().call(request);
                async move {
                    let response: Response = answered.await.unwrap_or_else(|never| match never {});
                    Ok::<_, Infallible>(response.map(|body| under_way.answer(body)))
                }
            })
        };
        let limits = &self.settings.connections;
        let shortest = limits.header_timeout.min(limits.idle_timeout).min(limits.stall_timeout);
        let mut look = interval((shortest / 4).clamp(LOOK_EVERY.0, LOOK_EVERY.1));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let connection = self.builder.serve_connection_with_upgrades(TokioIo::new(io), service);
        let mut connection = std::pin::pin!(connection);
        let mut closing = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection broke");
                    }
                    // Where the socket is still open, it is a WebSocket's now.
                    activity.upgraded();
                    return;
                }
                () = self.stop.cancelled(), if !closing => {
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = self.over.cancelled() => return,
                () = activity.evicted.cancelled() => return count("evicted"),
                _ = look.tick() => match activity.verdict(limits) {
                    None => {}
                    Some(Cut::Idle) if !closing => {
                        closing = true;
                        count(Cut::Idle.as_str());
                        connection.as_mut().graceful_shutdown();
                    }
                    Some(cut) => return count(cut.as_str()),
                },
            }
        }
    }
}

/// Counts a connection that this side ends.
pub fn count(reason: &'static str) {
    metrics::counter!("gateway_connections_cut_total", "reason" => reason).increment(1);
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // Heads are timed by the connection's activity, which tells them from idling.
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_send_buf_size(HEAD_BYTES_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY)
        // WebSockets over HTTP/2 (RFC 8441).
        .enable_connect_protocol();
    builder
}

/// Errors of `accept` that say nothing about the next one.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Stands for what an answer leaves behind when it is cut off.
    struct Left(Arc<AtomicBool>);

    impl Drop for Left {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn what_the_drain_cuts_off_has_let_go_of_what_it_held_once_serving_ends() {
        let let_go = Arc::new(AtomicBool::new(false));
        let answer = {
            let let_go = Arc::clone(&let_go);
            move || {
                let left = Left(Arc::clone(&let_go));
                let pieces = futures::stream::once(async { Ok::<_, io::Error>("the first piece") });
                let pieces = futures::StreamExt::chain(pieces, futures::stream::pending());
                let body = futures::StreamExt::inspect(pieces, move |_| _ = &left);
                std::future::ready(Body::from_stream(body))
            }
        };
        let time = Duration::from_secs(60);
        let settings = config::Gateway {
            tls: None,
            trusted_proxies: "".parse().unwrap(),
            cors_origins: Vec::new(),
            connections: config::ConnectionLimits {
                all_max: 10,
                per_address_max: 10,
                header_timeout: time,
                idle_timeout: time,
                stall_timeout: time,
                request_timeout: time,
            },
            rates: config::RateLimits { key: None, user: None, tenant: None, address: None },
        };
        let stop = CancellationToken::new();
        let router = Router::new().route("/", axum::routing::get(answer));
        let gateway = Gateway::new(router, settings, None, stop.clone());
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let client = tokio::spawn(async move {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
            let mut heard = Vec::new();
            while !String::from_utf8_lossy(&heard).contains("the first piece") {
                assert_ne!(client.read_buf(&mut heard).await.unwrap(), 0);
            }
            stop.cancel();
            client
        });

        gateway.serve(listener, Duration::from_millis(50)).await;

        assert!(let_go.load(Ordering::SeqCst), "it is still at work");
        drop(client.await.unwrap());
    }
}
