//! `soma migrate`: the schema, the default tenant and its agent `default`. Safe to run again.

use std::process::ExitCode;

use domains::{Migrator, agents, tenants};
use platform::database;

use super::{Failure, config};

pub async fn run() -> Result<ExitCode, Failure> {
    let config = config()?;
    let database = domains::open_database(&config).await.map_err(Failure::failed)?;
    database::migrate::<Migrator>(&database).await.map_err(Failure::failed)?;
    let tenant = tenants::ensure_default(&database).await.map_err(Failure::failed)?;
    agents::ensure_default(&database, tenant).await.map_err(Failure::failed)?;
    eprintln!("the database is up to date");
    Ok(ExitCode::SUCCESS)
}
