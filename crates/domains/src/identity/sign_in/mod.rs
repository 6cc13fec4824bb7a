//! Signing in with a password, and a code of the authenticator where one was set up; signing out.

mod api;

use axum::http::{HeaderMap, HeaderValue};
use contracts::Credential;
use secrecy::SecretString;

pub(super) use api::routes;

use super::{
    Error, attempts, authenticate,
    authenticate::Client,
    me::{self, Me},
    passwords, sessions,
    sessions::How,
    store::users as store,
    totp, users,
};
use crate::App;

/// What somebody shows to sign in.
pub(super) struct Shown {
    pub email: String,
    pub password: SecretString,
    pub code: Option<String>,
}

pub(super) async fn sign_in(app: &App, shown: Shown, client: &Client) -> Result<(Me, HeaderValue), Error> {
    app.addresses.count(client.ip)?;
    let user = prove(app, shown, client).await?;
    let home = users::home(app.database.read(), user.id, user.last_tenant).await?;
    let tenant = home.ok_or(Error::Conflict(
        "no_tenant",
        "This account belongs to no tenant: ask an administrator to invite it again.",
    ))?;
    let (caller, cookie) = sessions::open(app, user.id, tenant, How::Password, client).await?;
    Ok((me::of(app, &caller).await?, cookie))
}

/// The user whose password and, where there is an authenticator, code these are. Guessing is bounded here.
pub(super) async fn prove(app: &App, shown: Shown, client: &Client) -> Result<store::User, Error> {
    let code = shown.code.clone().filter(|code| !code.is_empty());
    let (user, attempt) = password_of(app, shown, client).await?;
    if user.totp {
        let Some(code) = code else {
            attempt.taken_back(app).await?;
            return Err(Error::TotpRequired);
        };
        if !totp::use_code(app, user.id, &code).await? {
            attempt.failed(app, Some(&user), "bad_code", client);
            return Err(Error::BadCode);
        }
    }
    attempt.succeeded(app).await?;
    Ok(user)
}

/// The user whose password this is, for somebody who signed in already.
pub(super) async fn prove_password(app: &App, shown: Shown, client: &Client) -> Result<(), Error> {
    let (_, attempt) = password_of(app, shown, client).await?;
    attempt.succeeded(app).await
}

async fn password_of(
    app: &App,
    shown: Shown,
    client: &Client,
) -> Result<(store::User, attempts::Attempt), Error> {
    passwords::checked("password", &shown.password)?;
    // What is no address is nobody's, and is counted like any other.
    let email = users::checked_email(&shown.email).unwrap_or_default();
    let attempt = attempts::begin(app, &email).await?;
    let known = store::by_email(app.database.read(), &email).await?;
    let hash = known.as_ref().and_then(|user| user.password_hash.clone());
    match app.passwords.matches(shown.password, hash).await {
        Ok(right) => match known {
            Some(user) if right => Ok((user, attempt)),
            known => {
                attempt.failed(app, known.as_ref(), "bad_credentials", client);
                Err(Error::BadCredentials)
            }
        },
        Err(error) => {
            attempt.taken_back(app).await?;
            Err(error)
        }
    }
}

/// Ends the session of the cookie, if it has one.
pub(super) async fn sign_out(app: &App, headers: &HeaderMap) -> Result<(), Error> {
    let Some(caller) = authenticate::by_cookie(app, headers).await? else { return Ok(()) };
    let Credential::Session(id) = caller.credential else { return Ok(()) };
    sessions::close(app, caller, id).await
}
