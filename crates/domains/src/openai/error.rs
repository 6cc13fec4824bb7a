//! Errors as OpenAI's clients know them: `{"error": {"message", "type", "param", "code"}}`.
//!
//! What the shared layers answer under `/v1` (no credential, no such path, a body that is too large) is a problem like
//! everywhere else, and is turned into this shape on its way out.

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use platform::http::Problem;
use serde::Serialize;

/// Everything under this has errors in this shape.
const PREFIX: &str = "/v1";
/// Heard by OpenAI's own clients: whether the same request may succeed a moment later.
static SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// An error in OpenAI's shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = OpenAiError)]
pub struct ErrorBody {
    pub error: ErrorDetail,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = OpenAiErrorDetail)]
pub struct ErrorDetail {
    /// What happened and what to do, for people.
    pub message: String,
    /// As in `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The parameter that is wrong, if it is one.
    pub param: Option<String>,
    /// A stable name for programs, as in `model_not_found`.
    pub code: Option<String>,
}

/// An error on its way to a client.
#[derive(Debug)]
pub(super) struct Error {
    status: StatusCode,
    detail: ErrorDetail,
    retry_after_s: Option<u32>,
    /// `Some(false)` where a client would try again although it is of no use.
    should_retry: Option<bool>,
}

impl Error {
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let detail = ErrorDetail {
            message: message.into(),
            kind: kind_of(status).to_owned(),
            param: None,
            code: Some(code.to_owned()),
        };
        Self { status, detail, retry_after_s: None, should_retry: None }
    }

    pub(super) fn invalid(param: &str, code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message).about(param)
    }

    pub(super) fn about(mut self, param: &str) -> Self {
        self.detail.param = Some(param.to_owned());
        self
    }

    /// The same request, sent again, is of no use or does harm.
    pub(super) fn final_word(mut self) -> Self {
        self.should_retry = Some(false);
        self
    }

    pub(super) fn code(&self) -> &str {
        self.detail.code.as_deref().unwrap_or_default()
    }

    pub(super) fn message(&self) -> &str {
        &self.detail.message
    }

    /// `{"error": ...}`, for the middle of a stream.
    pub(super) fn body(&self) -> serde_json::Value {
        serde_json::json!({ "error": self.detail })
    }

    #[cfg(test)]
    pub(super) fn param(&self) -> Option<&str> {
        self.detail.param.as_deref()
    }

    pub(super) fn no_model(model: &str) -> Self {
        // A name is shown cut: it is the client's own text.
        let shown: String = model.chars().take(100).collect();
        let message =
            format!("There is no model `{shown}` here, or none that you may use. GET /v1/models lists them.");
        Self::new(StatusCode::NOT_FOUND, "model_not_found", message).about("model")
    }

    /// A budget has no room: trying again soon is of no use.
    pub(super) fn over_budget() -> Self {
        let message = "The tenant's or the user's budget has no room for this request. An administrator can raise \
                       it; a smaller `max_completion_tokens` needs less.";
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "insufficient_quota", message);
        error.detail.kind = "insufficient_quota".to_owned();
        error.final_word()
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&ErrorBody { error: self.detail }).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(retry) = self.should_retry {
            let value = HeaderValue::from_static(if retry { "true" } else { "false" });
            headers.insert(SHOULD_RETRY.clone(), value);
        }
        response
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let code = if status == StatusCode::UNAUTHORIZED { "invalid_api_key" } else { &problem.code };
        let mut error = Self::new(status, code, problem.detail);
        error.detail.param = problem.errors.into_iter().next().map(|error| error.field);
        error.retry_after_s = problem.retry_after_s;
        error
    }
}

impl From<crate::conversations::Error> for Error {
    fn from(error: crate::conversations::Error) -> Self {
        let field = matches!(error, crate::conversations::Error::BadContent).then_some("messages");
        let error = Self::from(Problem::from(error));
        match field {
            Some(field) => Self::invalid(field, "invalid_value", error.detail.message),
            None => error,
        }
    }
}

impl From<crate::authority::Denied> for Error {
    fn from(denied: crate::authority::Denied) -> Self {
        Problem::from(denied).into()
    }
}

impl From<platform::database::Error> for Error {
    fn from(error: platform::database::Error) -> Self {
        Problem::from(error).into()
    }
}

fn kind_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    }
}

/// Gives the problems of the shared layers OpenAI's shape, under `/v1` alone. Outermost but for what adds headers.
pub async fn in_openais_shape(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let ours = path.strip_prefix(PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let mut response = next.run(request).await;
    if !ours {
        return response;
    }
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    let mut shaped = Error::from(problem).into_response();
    // What else a layer said: which methods a path takes, how much of a limit is left.
    for (name, value) in response.headers() {
        if *name != header::CONTENT_TYPE && *name != header::CONTENT_LENGTH {
            shaped.headers_mut().insert(name.clone(), value.clone());
        }
    }
    shaped
}
