//! `soma keygen`: the only place where a key is made, for an operator to keep.

use std::process::ExitCode;

use secrecy::ExposeSecret;

pub fn run() -> ExitCode {
    let (secret_key, fernet) = platform::secrets::generate();
    println!("SECRET_KEY={}", secret_key.expose_secret());
    println!("SA01_CRYPTO_FERNET_KEY={}", fernet.expose_secret());
    ExitCode::SUCCESS
}
