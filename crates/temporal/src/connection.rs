//! Where the server is, and connections to it.

use std::{io, path::PathBuf, time::Duration};

use platform::config::{ClientTls, TemporalServer};
use secrecy::ExposeSecret as _;
use temporalio_client::{
    Client, ClientOptions, ClientTlsOptions, Connection, ConnectionOptions, GrpcCompression,
    NamespacedClient as _, RetryOptions, RpcOptions, TlsOptions,
    grpc::WorkflowService,
    tonic::{Code, Request, Status},
};
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    DescribeNamespaceRequest, RegisterNamespaceRequest,
};

use crate::attributes;

/// A connection is made, or given up, within this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A call is answered, or given up, within this, repetitions included.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a namespace that was made here keeps what is over. Nothing asks for it later than that.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Who this is, in the server's histories: each event has it, so it is short. The process's id is in the logs.
pub(crate) const IDENTITY: &str = "soma";

/// Which server, which part of it, and which queue of work.
#[derive(Debug, Clone)]
pub struct Config {
    pub server: TemporalServer,
    pub namespace: String,
    /// The queue of workflows and of their own steps. Each event of a history may carry it: keep it short.
    pub task_queue: String,
    /// The queue of steps that are done apart, see [`crate::Steps::add_apart`].
    pub apart_queue: String,
    /// The name under which workers are versions of one deployment. Without one the server gives any run to any worker.
    pub deployment: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the address is no host:port: {0}")]
    Address(#[from] url::ParseError),
    #[error("{0} can't be read: {1}")]
    File(PathBuf, io::Error),
    #[error("{0}")]
    Refused(#[from] temporalio_client::errors::ClientConnectError),
    #[error("no answer within {CONNECT_TIMEOUT:?}")]
    Silent,
    #[error(
        "there is no namespace `{name}` (SA01_TEMPORAL_NAMESPACE), and this program may not make it ({reason}): make it, \
         as by `temporal operator namespace create --namespace {name}`"
    )]
    NoNamespace { name: String, reason: String },
    #[error("the namespace can't be asked after: {0}")]
    Namespace(String),
    #[error("{0}")]
    Attributes(#[from] attributes::Problem),
}

impl Config {
    pub(crate) async fn connect(&self) -> Result<Client, ConnectError> {
        let TemporalServer { address, tls, api_key } = &self.server;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let tls = match tls {
            Some(tls) => Some(tls_options(tls).await?),
            None => None,
        };
        let connection = ConnectionOptions::new(url::Url::parse(&format!("{scheme}://{address}"))?)
            .identity(IDENTITY)
            .connect_timeout(CONNECT_TIMEOUT)
            .maybe_tls_options(tls)
            .maybe_api_key(api_key.as_ref().map(|key| key.expose_secret().to_owned()))
            // Payloads are ids: there is nothing to compress.
            .grpc_compression(GrpcCompression::None)
            .build();
        let connection = tokio::time::timeout(CONNECT_TIMEOUT, Connection::connect(connection))
            .await
            .map_err(|_| ConnectError::Silent)??;
        let client = Client::new(connection, ClientOptions::new(self.namespace.clone()).build());
        let mut client = client.map_err(temporalio_client::errors::ClientConnectError::from)?;
        let had = async {
            have_namespace(&mut client).await?;
            Ok(attributes::have(&mut client).await?)
        };
        let had: Result<Result<(), ConnectError>, _> = tokio::time::timeout(CONNECT_TIMEOUT, had).await;
        had.map_err(|_| ConnectError::Silent)??;
        Ok(client)
    }
}

/// Files are read for each new connection: a certificate that was renewed counts from then on.
async fn tls_options(tls: &ClientTls) -> Result<TlsOptions, ConnectError> {
    let mut options = TlsOptions::default();
    if let Some(file) = &tls.authorities {
        options.server_root_ca_cert = Some(read(file).await?);
    }
    if let Some(shown) = &tls.shown {
        let (certificate, key) = (read(&shown.certificate).await?, read(&shown.key).await?);
        options.client_tls_options =
            Some(ClientTlsOptions::builder().client_cert(certificate).client_private_key(key).build());
    }
    Ok(options)
}

async fn read(file: &PathBuf) -> Result<Vec<u8>, ConnectError> {
    tokio::fs::read(file).await.map_err(|error| ConnectError::File(file.clone(), error))
}

/// Asks after the client's namespace.
pub(crate) async fn describe_namespace(client: &mut Client) -> Result<(), Status> {
    let request = DescribeNamespaceRequest { namespace: client.namespace(), ..Default::default() };
    WorkflowService::describe_namespace(client, Request::new(request)).await.map(drop)
}

/// Makes the namespace where there is none. The server takes some seconds until all of it knows a new one.
async fn have_namespace(client: &mut Client) -> Result<(), ConnectError> {
    match describe_namespace(client).await {
        Ok(()) => return Ok(()),
        Err(status) if status.code() == Code::NotFound => {}
        Err(status) => return Err(ConnectError::Namespace(status.message().to_owned())),
    }
    let name = client.namespace();
    let request = RegisterNamespaceRequest {
        namespace: name.clone(),
        description: "Turns of agents, by soma".to_owned(),
        workflow_execution_retention_period: RETENTION.try_into().ok(),
        ..Default::default()
    };
    match WorkflowService::register_namespace(client, Request::new(request)).await {
        Ok(_) => tracing::info!(namespace = name, "the namespace was made"),
        // By another process that starts beside this one.
        Err(status) if status.code() == Code::AlreadyExists => {}
        Err(status) => {
            return Err(ConnectError::NoNamespace { name, reason: status.message().to_owned() });
        }
    }
    Ok(())
}

/// For calls that somebody waits for.
pub(crate) fn call_options() -> RpcOptions {
    let retry = RetryOptions::builder().max_elapsed_time(Some(CALL_TIMEOUT)).max_retries(3).build();
    RpcOptions::builder().timeout(CALL_TIMEOUT).retry_options(retry).build()
}
