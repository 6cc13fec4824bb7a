//! What can go wrong with people and their credentials, and how a client hears of it.

use axum::http::StatusCode;
use platform::{database::Error as StoreError, http::Problem, secrets::SealerAway};

use super::oidc::ProviderError;
use crate::{authority::Denied, tenants};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("no user with this e-mail address: `soma admin create --email` makes the first")]
    NoSuchUser,
    #[error("no such thing")]
    NotFound,
    #[error("{0}: {1}")]
    Invalid(&'static str, String),
    #[error("The address or the password is not right.")]
    BadCredentials,
    #[error("This account needs a code of its authenticator too: send it as `code`.")]
    TotpRequired,
    #[error("This code is not right, or was used before.")]
    BadCode,
    #[error("Too many failed attempts: signing in to this account is locked for a while.")]
    Locked { retry_after_s: u32 },
    #[error("Too many attempts from this address: wait a moment.")]
    TooManyAttempts { retry_after_s: u32 },
    #[error("Too many passwords are being checked: try again in a few seconds.")]
    Busy,
    #[error("This link was used, has ended, or never was: ask for a new one.")]
    LinkEnded,
    #[error("This sign-in has ended, or was begun in another browser: begin it again.")]
    SignInEnded,
    #[error("The identity provider did not sign you in ({0}): try again, or ask whoever runs it.")]
    NotSignedIn(&'static str),
    #[error(
        "The identity provider has not verified your e-mail address: verify it there, then sign in again."
    )]
    EmailNotVerified,
    #[error("{0}")]
    Provider(#[from] ProviderError),
    #[error("{1}")]
    Conflict(&'static str, &'static str),
    #[error("Only its own user replaces a key, or for a service account whoever could give it its roles.")]
    NotOwn,
    #[error("This needs somebody who signed in: an API key does not do.")]
    SessionRequired,
    #[error("Whoever acts as somebody else can't change how that person signs in.")]
    Impersonating,
    #[error(
        "This person may do more than you: nobody acts as them who could not give them all that they may do."
    )]
    MoreThanOwn,
    #[error("a password could not be hashed: {0}")]
    Hashing(String),
    #[error(transparent)]
    KeyAway(#[from] SealerAway),
    #[error(transparent)]
    Tenant(#[from] tenants::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        let new = |status, code| Self::new(status, code, text.clone());
        let later = |status, code, seconds| Self { retry_after_s: Some(seconds), ..new(status, code) };
        match error {
            Error::Denied(denied) => denied.into(),
            Error::NoSuchUser | Error::NotFound => Self::not_found(),
            Error::Invalid(field, message) => Self::invalid(field, message),
            Error::BadCredentials => new(StatusCode::UNAUTHORIZED, "bad_credentials"),
            Error::TotpRequired => new(StatusCode::UNAUTHORIZED, "totp_required"),
            Error::BadCode => new(StatusCode::UNAUTHORIZED, "bad_code"),
            Error::Locked { retry_after_s } => later(StatusCode::LOCKED, "locked", retry_after_s),
            Error::TooManyAttempts { retry_after_s } => {
                later(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", retry_after_s)
            }
            Error::Busy => Self::unavailable("busy", text),
            Error::LinkEnded => new(StatusCode::GONE, "link_ended"),
            Error::SignInEnded => new(StatusCode::BAD_REQUEST, "sign_in_ended"),
            Error::NotSignedIn(_) => new(StatusCode::FORBIDDEN, "not_signed_in"),
            Error::EmailNotVerified => new(StatusCode::FORBIDDEN, "email_not_verified"),
            Error::Provider(error) => error.into(),
            Error::Conflict(code, _) => Self::conflict(code, text),
            Error::NotOwn => new(StatusCode::FORBIDDEN, "not_own"),
            Error::SessionRequired => new(StatusCode::FORBIDDEN, "session_required"),
            Error::Impersonating => new(StatusCode::FORBIDDEN, "impersonating"),
            Error::MoreThanOwn => new(StatusCode::FORBIDDEN, "more_than_own"),
            Error::Hashing(cause) => Self::internal(&cause),
            Error::KeyAway(_) => Self::unavailable("vault_unavailable", text),
            Error::Tenant(error) => error.into(),
            Error::Store(error) => error.into(),
        }
    }
}
