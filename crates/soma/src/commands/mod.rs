//! The commands, one file each.

mod account;
mod approvals;
mod audit;
mod chat;
mod check;
mod completions;
mod demo;
mod describe;
mod dev;
mod dlq;
mod keygen;
mod migrate;
mod policy;
mod replay;
mod serve;
mod tenant;
mod worker;

use std::{fmt::Display, process::ExitCode, sync::Arc};

use clap::Subcommand;
use platform::{
    config::{Config, Environment, Faults, Vault, WithSecrets},
    egress::{AllowList, Egress},
    vault::{self, Session, Standing},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Why a command did not do its work. `main` makes an exit code of it.
#[derive(Debug)]
pub enum Failure {
    Configuration(String),
    Failed(String),
}

impl Failure {
    pub fn failed(problem: impl Display) -> Self {
        Self::Failed(problem.to_string())
    }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        Self::Configuration(faults.to_string())
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API, and run turns unless a Temporal server does.
    Serve(serve::Arguments),
    /// Run the turns that a Temporal server hands out, and carry events to and from Kafka.
    Worker(worker::Arguments),
    /// Say whether workers of this version can go on with turns that another version began.
    Replay(replay::Arguments),
    /// Talk to an agent.
    Chat(chat::Arguments),
    /// Show a run survive the death of its server: no model, no network, nothing left behind.
    Demo,
    /// Bring the database's schema up to date and make the default tenant and agent.
    Migrate(migrate::Arguments),
    /// Administrators.
    #[command(subcommand)]
    Admin(account::Admin),
    /// API keys.
    #[command(subcommand)]
    Apikey(account::ApiKey),
    /// Tenants: make, list, close and open them.
    #[command(subcommand)]
    Tenant(tenant::Tenant),
    /// Decide about tool calls that wait for a person.
    Approvals(approvals::Arguments),
    /// The audit: whether it is as it was written.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Events that could not be delivered or handled: look at them, send them again.
    #[command(subcommand)]
    Dlq(dlq::Dlq),
    /// Print new keys, as dotenv lines or as JSON.
    Keygen(keygen::Arguments),
    /// Say for each of the common faults of such an install whether this one is free of it.
    Check(check::Arguments),
    /// Print what a shell needs to complete commands and options.
    Completions(completions::Arguments),
    /// List every setting: name, kind, whether it is required and set, and what it means.
    Registry,
    /// Print the OpenAPI document.
    Openapi,
    /// List the domains and their path prefixes.
    Domains,
    /// For those who work on the program.
    #[command(subcommand, hide = true)]
    Dev(dev::Dev),
    /// Ask or test the policy.
    #[command(subcommand)]
    Policy(policy::Policy),
}

pub async fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Serve(arguments) => serve::run(arguments).await,
        Command::Worker(arguments) => worker::run(arguments).await,
        Command::Replay(arguments) => replay::run(arguments).await,
        Command::Chat(arguments) => chat::run(arguments).await,
        Command::Demo => demo::run().await,
        Command::Migrate(arguments) => migrate::run(arguments).await,
        Command::Admin(admin) => account::admin(admin).await,
        Command::Apikey(key) => account::api_key(key).await,
        Command::Tenant(tenant) => tenant::run(tenant).await,
        Command::Approvals(arguments) => approvals::run(arguments).await,
        Command::Audit(audit) => audit::run(audit).await,
        Command::Dlq(dlq) => dlq::run(dlq).await,
        Command::Keygen(arguments) => Ok(keygen::run(&arguments)),
        Command::Check(arguments) => check::run(&arguments).await,
        Command::Completions(arguments) => Ok(completions::run(&arguments)),
        Command::Registry => describe::registry(),
        Command::Openapi => describe::openapi(),
        Command::Domains => Ok(describe::domains()),
        Command::Dev(dev) => dev::run(dev).await,
        Command::Policy(policy) => policy::run(policy),
    }
}

/// The process environment and `.env`.
fn environment() -> Result<Environment, Failure> {
    Environment::open().map_err(|fault| Faults(vec![fault]).into())
}

/// Every setting, checked; all faults at once.
async fn config() -> Result<Config, Failure> {
    Ok(settings().await?.0)
}

/// The same, and where settings are from Vault the right to them, for whoever runs on to watch over.
async fn settings() -> Result<(Config, Option<Session>), Failure> {
    let environment = environment()?;
    let Some(vault) = Vault::load(&environment)? else { return Ok((Config::load(&environment)?, None)) };
    // A server that the operator names needs no list of what tools may reach.
    let session = Session::open(&vault, &Egress::new(AllowList::default())).await;
    let mut session = session.map_err(|error| Failure::Configuration(format!("VAULT_ADDR: {error}")))?;
    let source = WithSecrets::new(environment, session.take_settings())?;
    let mut config = Config::load(&source)?;
    if let Some(key) = &config.transit {
        let failed = |error| Failure::Configuration(format!("SA01_CRYPTO_TRANSIT_KEY: {error}"));
        config.keys.seal_with(Arc::new(session.transit(key).await.map_err(failed)?));
    }
    Ok((config, Some(session)))
}

/// Begins to watch over the right to settings from Vault. Ends with `stop`, or ends everything by it.
fn watch(session: Option<Session>, standing: Option<Standing>, stop: &CancellationToken) -> Watch {
    let watched = session.zip(standing);
    Watch(watched.map(|(session, standing)| tokio::spawn(session.watch(standing, stop.clone()))))
}

struct Watch(Option<JoinHandle<Result<(), vault::Error>>>);

impl Watch {
    /// After `stop`: why the program had to end, if it had to.
    async fn end(self) -> Result<(), Failure> {
        let Some(watch) = self.0 else { return Ok(()) };
        let ended = watch.await.map_err(Failure::failed)?;
        ended.map_err(|error| Failure::Failed(format!("VAULT_ADDR: {error}")))
    }
}

/// Fires `stop` at SIGTERM or Ctrl-C. From then on no new work is begun.
fn stop_on_signal(stop: &CancellationToken) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::failed)?;
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        tracing::info!("draining");
        stop.cancel();
    });
    Ok(())
}
