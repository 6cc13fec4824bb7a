//! Errors as `application/problem+json` (RFC 9457): the one place where an error becomes an HTTP answer.
//!
//! A client gets what it can act on. What went wrong inside is logged here, once, and not sent.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::database;

/// One field that is wrong, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// Path of the field in the body, as in `limits.steps_max`; or the name of a header or parameter.
    pub field: String,
    pub message: String,
}

/// An error as its client sees it.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// Always `about:blank`: `code` tells problems apart.
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub title: String,
    pub status: u16,
    /// A stable name for programs, as in `not_found`.
    pub code: String,
    /// What happened and what to do, for people.
    pub detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Revision of the policy that denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_revision: Option<String>,
    #[serde(skip)]
    pub retry_after_s: Option<u32>,
}

impl Problem {
    #[must_use]
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            code: code.to_owned(),
            detail: detail.into(),
            errors: Vec::new(),
            policy_revision: None,
            retry_after_s: None,
        }
    }

    /// An absent thing, or another tenant's: the two can't be told apart.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here under this id.")
    }

    #[must_use]
    pub fn unauthenticated() -> Self {
        let detail =
            "Sign in, or send an API key: `Authorization: Bearer KEY`. `soma apikey create` makes one.";
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
    }

    #[must_use]
    pub fn denied(reason: &str, revision: &str) -> Self {
        let mut problem = Self::new(StatusCode::FORBIDDEN, "denied", reason);
        problem.policy_revision = Some(revision.to_owned());
        problem
    }

    #[must_use]
    pub fn invalid(field: &str, message: impl Into<String>) -> Self {
        let error = FieldError { field: field.to_owned(), message: message.into() };
        let detail = format!("{}: {}", error.field, error.message);
        let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail);
        problem.errors.push(error);
        problem
    }

    #[must_use]
    pub fn conflict(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    #[must_use]
    pub fn unavailable(code: &str, detail: impl Into<String>) -> Self {
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        problem.retry_after_s = Some(5);
        problem
    }

    /// Something that should not happen. The cause goes to the log.
    #[must_use]
    pub fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "a request failed");
        let detail = "The server failed. Its log has the cause under this request's id.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }
}

impl From<database::Error> for Problem {
    fn from(error: database::Error) -> Self {
        match error {
            database::Error::Full => Self::unavailable("disk_full", error.to_string()),
            database::Error::Stopped(_) => {
                tracing::error!(%error, "the database can't be written");
                Self::unavailable("database_stopped", "The database can't be written. Nothing was stored.")
            }
            database::Error::Away(_) => {
                tracing::error!(%error, "the database can't be reached");
                let detail = "The database can't be reached. Nothing was stored; try again soon.";
                Self::unavailable("database_unavailable", detail)
            }
            database::Error::Unknown(_) => {
                tracing::error!(%error, "a commit's end is not known");
                let detail = "The database went away while it stored this: it may be there. Look before you send it \
                              again, or send it under the Idempotency-Key that it had.";
                Self::unavailable("outcome_unknown", detail)
            }
            database::Error::Panicked
            | database::Error::Query(_)
            | database::Error::Corrupt(_)
            | database::Error::OtherVersion(..) => Self::internal(&error),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        // For a layer outside that speaks another protocol's errors.
        response.extensions_mut().insert(self);
        response
    }
}
