//! `soma admin` and `soma apikey`: what an operator does before anyone can sign in, or when somebody can't.

use std::process::ExitCode;

use clap::Subcommand;
use domains::identity::{self, NewKey, Reencrypted};
use secrecy::ExposeSecret;

use super::{Failure, config};

#[derive(Debug, Subcommand)]
pub enum Admin {
    /// Make a user the platform's administrator and the default tenant's owner. Prints no credential.
    Create {
        #[arg(long)]
        email: String,
    },
    /// Print a one-time link by which a user sets a password and signs in. Earlier links of theirs end.
    Link {
        #[arg(long)]
        email: String,
        /// Print nothing if the user has a password.
        #[arg(long)]
        if_no_password: bool,
    },
    /// Encrypt anew, by today's key, what the database keeps of authenticators and single sign-on. Then earlier keys may
    /// go: the first of SA01_CRYPTO_FERNET_KEY encrypts, or SA01_CRYPTO_TRANSIT_KEY.
    Reencrypt,
}

#[derive(Debug, Subcommand)]
pub enum ApiKey {
    /// Print a new API key of a user, once.
    Create {
        #[arg(long)]
        email: String,
        /// Actions that the key is limited to, comma-separated, as in `conversation:*,agent:read`. All when absent.
        #[arg(long, value_delimiter = ',')]
        scopes: Vec<String>,
        /// Seconds until the key ends; without end when absent.
        #[arg(long)]
        lifetime: Option<u64>,
        /// A name to know the key by.
        #[arg(long, default_value = "command line")]
        name: String,
    },
}

pub async fn admin(command: Admin) -> Result<ExitCode, Failure> {
    let config = config().await?;
    let database = domains::open_migrated_database(&config).await.map_err(Failure::failed)?;
    match command {
        Admin::Create { email } => {
            identity::create_admin(&database, &email).await.map_err(Failure::failed)?;
            eprintln!("{email} administers the platform and owns the default tenant");
        }
        Admin::Link { email, if_no_password } => {
            let link = identity::issue_link_for_email(&config, &database, &email, if_no_password).await;
            if let Some(link) = link.map_err(Failure::failed)? {
                println!("{}", link.link.expose_secret());
            }
        }
        Admin::Reencrypt => {
            let Reencrypted { done, unreadable } =
                identity::reencrypt(&config, &database).await.map_err(Failure::failed)?;
            eprintln!("{done} secrets were encrypted anew");
            if unreadable > 0 {
                return Err(Failure::Failed(format!(
                    "{unreadable} were made by none of today's keys and are left as they are: put the earlier key back, \
                     after the first, and run this again"
                )));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn api_key(command: ApiKey) -> Result<ExitCode, Failure> {
    let ApiKey::Create { email, scopes, lifetime, name } = command;
    let config = config().await?;
    let database = domains::open_migrated_database(&config).await.map_err(Failure::failed)?;
    let new = NewKey { name, scopes, lifetime_s: lifetime };
    let key =
        identity::create_key_for_email(&config, &database, &email, new).await.map_err(Failure::failed)?;
    println!("{}", key.expose_secret());
    Ok(ExitCode::SUCCESS)
}
