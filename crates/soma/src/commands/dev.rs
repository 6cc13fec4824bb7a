//! `soma dev`: for those who work on the program.

use std::process::ExitCode;

use clap::Subcommand;
use domains::seed::{self, Sizes};

use super::{Failure, config};

#[derive(Debug, Subcommand)]
pub enum Dev {
    /// Fill a new install's default tenant with made-up conversations and audit entries.
    Seed {
        #[arg(long, default_value_t = 100_000)]
        messages: u64,
        /// Entries of the audit.
        #[arg(long, default_value_t = 10_000)]
        audit: u64,
    },
}

pub async fn run(command: Dev) -> Result<ExitCode, Failure> {
    let Dev::Seed { messages, audit } = command;
    let config = config().await?;
    let database = domains::open_migrated_database(&config).await.map_err(Failure::failed)?;
    let sizes = Sizes { messages, audit };
    seed::fill(&config, &database, sizes, |far| eprintln!("{far}")).await.map_err(Failure::failed)?;
    Ok(ExitCode::SUCCESS)
}
