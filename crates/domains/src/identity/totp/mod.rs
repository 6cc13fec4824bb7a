//! A second proof of who somebody is: codes of an authenticator (TOTP), and backup codes for when it is lost.
//!
//! The secret is encrypted with the Fernet keys, backup codes are hashed, and no code is taken twice.

mod code;

use contracts::{Caller, UserId, policy::Resource};
use data_encoding::BASE32_NOPAD as BASE32;
use platform::durable::unix_ms;
use rand::Rng;
use secrecy::ExposeSecret;
use serde_json::json;
use url::Url;

use super::{
    Error, attempts,
    authenticate::Client,
    events,
    me::NewTotp,
    sessions,
    store::{totp as store, users},
};
use crate::{App, audit, tenants::MfaPolicy};

/// RFC 4226, section 4: as long as the hash.
const SECRET_BYTES: usize = 20;
const BACKUP_CODES: usize = 10;
const BACKUP_BYTES: usize = 10;
/// What an authenticator shows beside the address.
const ISSUER: &str = "SomaAgent01";
const ON: Error =
    Error::Conflict("totp_on", "An authenticator is set up already: turn it off before you set up another.");
const NOT_HERE: Error = Error::Conflict(
    "totp_not_allowed",
    "This tenant's people sign in without an authenticator: an administrator can set `mfa_policy` to `optional`.",
);

/// Whether the code is right; then it is used up. Either the authenticator's or a backup code.
pub(super) async fn use_code(app: &App, user: UserId, given: &str) -> Result<bool, Error> {
    let given = given.trim();
    let Some(device) = store::find(app.database.read(), user).await? else { return Ok(false) };
    if let Some(step) = step_of(app, &device, given).await? {
        let used =
            app.database.write(move |tx| Box::pin(async move { store::use_step(tx, user, step).await }));
        return Ok(used.await.map_err(Error::Store)? == 1);
    }
    let hash = backup_hash(app, user, given);
    let used =
        app.database.write(move |tx| Box::pin(async move { store::use_backup_code(tx, user, &hash).await }));
    Ok(used.await.map_err(Error::Store)? == 1)
}

async fn step_of(app: &App, device: &store::Device, given: &str) -> Result<Option<i64>, Error> {
    let secret = app.config.keys.decrypt(&device.sealed).await?;
    let secret =
        secret.ok_or_else(|| Error::Hashing("no key of today's opens an authenticator's secret".into()))?;
    let secret = BASE32.decode(secret.expose_secret().as_bytes());
    let secret = secret.map_err(|error| Error::Hashing(error.to_string()))?;
    Ok(code::step_of(&secret, given, unix_ms() / 1000))
}

/// Spaces, hyphens and case of a backup code are how it was written down.
fn backup_hash(app: &App, user: UserId, given: &str) -> String {
    let plain: String = given.chars().filter(char::is_ascii_alphanumeric).collect();
    app.config.keys.mac("backup_code", &format!("{user} {}", plain.to_ascii_uppercase()))
}

/// Makes a secret, in place of one that was never confirmed.
pub(super) async fn begin(app: &App, caller: &Caller) -> Result<NewTotp, Error> {
    sessions::of_oneself(caller)?;
    if app.standings.of(app, caller.tenant).await?.mfa == MfaPolicy::Off {
        return Err(NOT_HERE);
    }
    let user = users::by_id(app.database.read(), caller.user).await?.ok_or(Error::NotFound)?;
    let secret = BASE32.encode(&random_bytes::<SECRET_BYTES>());
    let sealed = app.config.keys.encrypt(&secret).await?;
    let id = user.id;
    let made =
        app.database.write(move |tx| Box::pin(async move { store::put(tx, id, &sealed, unix_ms()).await }));
    if made.await.map_err(Error::Store)? == 0 {
        return Err(ON);
    }
    let mut uri = Url::parse("otpauth://totp/").map_err(|error| Error::Hashing(error.to_string()))?;
    uri.set_path(&format!("{ISSUER}:{}", user.email));
    uri.query_pairs_mut().append_pair("secret", &secret).append_pair("issuer", ISSUER);
    Ok(NewTotp { secret, uri: uri.into() })
}

/// Turns the authenticator on when the code shows that it has the secret; the backup codes, which are shown this once.
pub(super) async fn confirm(
    app: &App,
    caller: &Caller,
    given: &str,
    client: &Client,
) -> Result<Vec<String>, Error> {
    sessions::of_oneself(caller)?;
    let user = users::by_id(app.database.read(), caller.user).await?.ok_or(Error::NotFound)?;
    let device = store::find(app.database.read(), user.id).await?;
    let device =
        device.ok_or(Error::Conflict("totp_off", "Ask for a secret first: POST /api/v2/me/totp."))?;
    if device.confirmed {
        return Err(ON);
    }
    let attempt = attempts::begin(app, &user.email).await?;
    let Some(step) = step_of(app, &device, given.trim()).await? else {
        attempt.failed(app, Some(&user), "bad_code", client);
        return Err(Error::BadCode);
    };
    let codes: Vec<String> = (0..BACKUP_CODES).map(|_| backup_code()).collect();
    let hashes: Vec<String> = codes.iter().map(|code| backup_hash(app, user.id, code)).collect();
    let entry = events::done(caller, events::TOTP_ON, "own", Resource::new("user", user.id), json!(null));
    app.database
        .write(move |tx| {
            Box::pin(async move {
                if store::confirm(tx, user.id, unix_ms()).await? == 0 {
                    return Err(ON);
                }
                store::use_step(tx, user.id, step).await?;
                for hash in &hashes {
                    store::insert_backup_code(tx, user.id, hash).await?;
                }
                Ok(audit::add(tx, &entry).await?)
            })
        })
        .await?;
    // Who had to set it up can do all from here on.
    app.sessions.forget_all();
    attempt.succeeded(app).await?;
    Ok(codes)
}

/// Turns the authenticator off, by a code of it or a backup code.
pub(super) async fn disable(app: &App, caller: &Caller, given: &str, client: &Client) -> Result<(), Error> {
    sessions::of_oneself(caller)?;
    let user = users::by_id(app.database.read(), caller.user).await?.ok_or(Error::NotFound)?;
    if !user.totp {
        return Err(Error::Conflict("totp_off", "There is no authenticator to turn off."));
    }
    let attempt = attempts::begin(app, &user.email).await?;
    if !use_code(app, user.id, given).await? {
        attempt.failed(app, Some(&user), "bad_code", client);
        return Err(Error::BadCode);
    }
    attempt.succeeded(app).await?;
    let entry = events::done(caller, events::TOTP_OFF, "own", Resource::new("user", user.id), json!(null));
    remove(app, user.id, entry).await
}

/// Takes an authenticator away, with its row of the audit.
pub(super) async fn remove(app: &App, user: UserId, entry: audit::Entry) -> Result<(), Error> {
    app.database
        .write(move |tx| {
            Box::pin(async move {
                store::delete(tx, user).await?;
                audit::add(tx, &entry).await
            })
        })
        .await
        .map_err(Error::Store)?;
    app.sessions.forget_all();
    Ok(())
}

fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0_u8; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// 80 random bits, as in `AB2CD-EF3GH-...`: easier to copy in groups.
fn backup_code() -> String {
    let text = BASE32.encode(&random_bytes::<BACKUP_BYTES>());
    let groups: Vec<&str> = (0..text.len()).step_by(4).filter_map(|at| text.get(at..at + 4)).collect();
    groups.join("-")
}
