//! An axum router served from a thread of its own. Dropping the server ends the thread, the listener and every open
//! connection: what a killed process looks like from outside.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    thread::JoinHandle,
};

use axum::{Router, serve::ListenerExt};
use tokio::sync::oneshot;

#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `address` (port 0: any free one) and serves at once; a client may connect as soon as this returns.
    pub(crate) fn start(name: &str, address: SocketAddr, router: Router) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)
                    .expect("a bound listener joins the runtime")
                    .tap_io(|stream| {
                        // Small frames would wait for acknowledgements otherwise; without it they are only slower.
                        stream.set_nodelay(true).ok();
                    });
                tokio::select! {
                    _ = axum::serve(listener, router) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the server's thread has been printed already; a panic in drop would hide the test's own.
            thread.join().ok();
        }
    }
}
