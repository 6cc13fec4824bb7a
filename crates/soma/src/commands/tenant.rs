//! `soma tenant`: what an operator does with tenants, whether a server runs or not.

use std::process::ExitCode;

use clap::Subcommand;
use domains::tenants::{self, NewTenant, Suspension, operator};

use super::{Failure, config};

#[derive(Debug, Subcommand)]
pub enum Tenant {
    /// Make a tenant with an owner and a default agent. Prints its id.
    Create {
        /// 1 to 64 lower-case letters, digits and hyphens; never changed later.
        slug: String,
        /// What it is called; its slug when absent.
        #[arg(long)]
        name: Option<String>,
        /// The owner's e-mail address. Who is not known yet signs in by a link of `soma admin link`.
        #[arg(long)]
        owner: String,
        /// Leave it closed to its members until `soma tenant resume`.
        #[arg(long)]
        pending: bool,
    },
    /// List the tenants, the oldest first: id, slug, status, name.
    List,
    /// Close a tenant: its runs are cancelled, and its members are refused from then on.
    Suspend {
        slug: String,
        /// For the audit, and for whoever looks at the tenant.
        #[arg(long)]
        reason: String,
        /// For good: the customer has left.
        #[arg(long)]
        churned: bool,
    },
    /// Open a tenant to its members, again or for the first time.
    Resume { slug: String },
}

pub async fn run(command: Tenant) -> Result<ExitCode, Failure> {
    let database = domains::open_migrated_database(&config().await?).await.map_err(Failure::failed)?;
    match command {
        Tenant::Create { slug, name, owner, pending } => {
            let new = NewTenant { name: name.unwrap_or_else(|| slug.clone()), slug };
            let made = operator::create_with_owner(&database, new, &owner, pending).await;
            println!("{}", made.map_err(failed)?.id);
        }
        Tenant::List => {
            for tenant in operator::list(&database).await.map_err(failed)? {
                println!("{}\t{}\t{}\t{}", tenant.id, tenant.slug, tenant.status, tenant.name);
            }
        }
        Tenant::Suspend { slug, reason, churned } => {
            let suspension = Suspension { reason, churned };
            let runs = operator::suspend(&database, &slug, &suspension).await.map_err(failed)?;
            eprintln!("{slug} is closed; runs that are stopped: {runs}");
        }
        Tenant::Resume { slug } => {
            operator::resume(&database, &slug).await.map_err(failed)?;
            eprintln!("{slug} is open");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn failed(error: tenants::Error) -> Failure {
    match error {
        tenants::Error::NotFound => {
            Failure::failed("there is no tenant with this slug: `soma tenant list` shows them")
        }
        error => Failure::failed(error),
    }
}
