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
mod keygen;
mod migrate;
mod policy;
mod serve;
mod tenant;
mod worker;

use std::{fmt::Display, process::ExitCode};

use clap::Subcommand;
use platform::config::{Config, Environment, Faults};
use tokio::signal::unix::{SignalKind, signal};
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
    /// Run the turns that a Temporal server hands out.
    Worker(worker::Arguments),
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
    /// Print new keys as dotenv lines.
    Keygen,
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
        Command::Chat(arguments) => chat::run(arguments).await,
        Command::Demo => demo::run().await,
        Command::Migrate(arguments) => migrate::run(arguments).await,
        Command::Admin(admin) => account::admin(admin).await,
        Command::Apikey(key) => account::api_key(key).await,
        Command::Tenant(tenant) => tenant::run(tenant).await,
        Command::Approvals(arguments) => approvals::run(arguments).await,
        Command::Audit(audit) => audit::run(audit).await,
        Command::Keygen => Ok(keygen::run()),
        Command::Check(arguments) => check::run(&arguments),
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
fn config() -> Result<Config, Failure> {
    Ok(Config::load(&environment()?)?)
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
