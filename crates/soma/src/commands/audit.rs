//! `soma audit`: whether the audit is as it was written.

use std::{collections::BTreeMap, process::ExitCode};

use clap::Subcommand;
use contracts::TenantId;
use domains::{
    audit::{self, Noted, Verification},
    tenants,
};

use super::{Failure, config};

#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Read every entry and say whether one was changed, removed or put in between. Exit code 1 if so.
    Verify {
        /// Only this tenant, by its slug.
        #[arg(long)]
        tenant: Option<String>,
        /// A head that was noted at an earlier time, as `soma audit verify --tenant` printed it: SEQUENCE:HASH.
        #[arg(long, requires = "tenant", value_parser = noted)]
        noted: Option<Noted>,
    },
}

fn noted(text: &str) -> Result<Noted, String> {
    let parts = text.split_once(':').and_then(|(sequence, hash)| {
        let sequence = sequence.parse().ok().filter(|sequence| *sequence >= 0)?;
        let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then(|| Noted { sequence, hash: hash.to_lowercase() })
    });
    parts.ok_or_else(|| "expected SEQUENCE:HASH with the 64 digits of a hash, as in 17:9f86d0…".to_owned())
}

pub async fn run(command: Audit) -> Result<ExitCode, Failure> {
    let Audit::Verify { tenant: only, noted } = command;
    let config = config().await?;
    let database = domains::open_migrated_database(&config).await.map_err(Failure::failed)?;
    let mut slugs: BTreeMap<TenantId, String> =
        tenants::slugs(&database).await.map_err(Failure::failed)?.into_iter().collect();
    for tenant in audit::chained_tenants(&database).await.map_err(Failure::failed)? {
        // The audit outlives its tenant.
        slugs.entry(tenant).or_insert_with(|| tenant.to_string());
    }
    if let Some(only) = &only {
        slugs.retain(|_, slug| slug == only);
        if slugs.is_empty() {
            return Err(Failure::Failed(format!("no tenant has the slug {only}")));
        }
    }
    let mut broken = 0;
    for (tenant, slug) in &slugs {
        let found = audit::verify(&database, *tenant, noted.as_ref()).await.map_err(Failure::failed)?;
        broken += usize::from(found.broken.is_some());
        println!("{}", line(slug, &found));
    }
    if broken == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::Failed(format!("the audit of {broken} of {} tenants is not as it was written", slugs.len())))
}

fn line(slug: &str, found: &Verification) -> String {
    let Verification { entries, head, earlier, broken } = found;
    let earlier = match earlier {
        0 => String::new(),
        earlier => format!("; {earlier} more are from before the chain and can't be checked"),
    };
    match broken {
        None => format!("ok    {slug}: {entries} entries, head {entries}:{head}{earlier}"),
        Some(broken) => format!("FAIL  {slug}: {broken}. The {entries} before it hold{earlier}"),
    }
}
