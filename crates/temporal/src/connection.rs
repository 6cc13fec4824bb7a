//! Where the server is, and connections to it.

use std::time::Duration;

use temporalio_client::{
    Client, ClientOptions, Connection, ConnectionOptions, GrpcCompression, RetryOptions, RpcOptions,
};

/// A connection is made, or given up, within this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A call is answered, or given up, within this, repetitions included.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Who this is, in the server's histories: each event has it, so it is short. The process's id is in the logs.
const IDENTITY: &str = "soma";

/// Which server, which part of it, and which queue of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `host:port`, or a URL where TLS is wanted (`https://host:port`).
    pub address: String,
    pub namespace: String,
    /// Each event of a history may carry it: keep it short.
    pub task_queue: String,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the address is no host:port: {0}")]
    Address(#[from] url::ParseError),
    #[error("{0}")]
    Refused(#[from] temporalio_client::errors::ClientConnectError),
    #[error("no answer within {CONNECT_TIMEOUT:?}")]
    Silent,
}

impl Config {
    pub(crate) async fn connect(&self) -> Result<Client, ConnectError> {
        let target = if self.address.contains("://") {
            self.address.clone()
        } else {
            format!("http://{}", self.address)
        };
        let connection = ConnectionOptions::new(url::Url::parse(&target)?)
            .identity(IDENTITY)
            .connect_timeout(CONNECT_TIMEOUT)
            // Payloads are ids: there is nothing to compress.
            .grpc_compression(GrpcCompression::None)
            .build();
        let connection = tokio::time::timeout(CONNECT_TIMEOUT, Connection::connect(connection))
            .await
            .map_err(|_| ConnectError::Silent)??;
        let client = Client::new(connection, ClientOptions::new(self.namespace.clone()).build());
        Ok(client.map_err(temporalio_client::errors::ClientConnectError::from)?)
    }
}

/// For calls that somebody waits for.
pub(crate) fn call_options() -> RpcOptions {
    let retry = RetryOptions::builder().max_elapsed_time(Some(CALL_TIMEOUT)).max_retries(3).build();
    RpcOptions::builder().timeout(CALL_TIMEOUT).retry_options(retry).build()
}
