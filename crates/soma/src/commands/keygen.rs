//! `soma keygen`: the only place where a key is made, for an operator to keep.

use std::process::ExitCode;

use secrecy::ExposeSecret;
use serde_json::json;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// As JSON, which is what `vault kv put` takes from its standard input.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let (secret_key, fernet) = platform::secrets::generate();
    let (secret_key, fernet) = (secret_key.expose_secret(), fernet.expose_secret());
    if arguments.json {
        println!("{}", json!({ "SECRET_KEY": secret_key, "SA01_CRYPTO_FERNET_KEY": fernet }));
    } else {
        println!("SECRET_KEY={secret_key}");
        println!("SA01_CRYPTO_FERNET_KEY={fernet}");
    }
    ExitCode::SUCCESS
}
