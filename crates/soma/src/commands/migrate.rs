//! `soma migrate`: the schema, the default tenant and its agent `default`. Safe to run again, and beside another one.

use std::process::ExitCode;

use domains::{Migrator, agents, tenants};
use platform::database::{self, Location};

use super::{Failure, config};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Change nothing: say what is missing, and fail if anything is.
    #[arg(long)]
    check: bool,
}

pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let config = config().await?;
    if arguments.check
        && let Location::Sqlite(file) = &config.database
        && !file.exists()
    {
        return Err(Failure::Failed(format!(
            "there is no database at {}: run `soma migrate`",
            config.database
        )));
    }
    let database = domains::open_database(&config).await.map_err(Failure::failed)?;
    if arguments.check {
        let missing = database::pending::<Migrator>(&database).await.map_err(Failure::failed)?;
        if !missing.is_empty() {
            return Err(Failure::failed(domains::BuildError::Schema(missing.join(", "))));
        }
    } else {
        database::migrate::<Migrator>(&database).await.map_err(Failure::failed)?;
        let tenant = tenants::ensure_default(&database).await.map_err(Failure::failed)?;
        agents::ensure_default(&database, tenant).await.map_err(Failure::failed)?;
    }
    eprintln!("the database is up to date");
    Ok(ExitCode::SUCCESS)
}
