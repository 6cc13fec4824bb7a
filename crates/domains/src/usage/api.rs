//! The route of usage.

use std::sync::Arc;

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::request::Parts,
};
use platform::{
    durable::unix_ms,
    http::{Problem, Timestamp},
};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    service::{self, Error},
    store::{By, Window},
};
use crate::{App, identity::Authenticated};

/// Without a time to begin at, so much before the end.
const WINDOW_MS: i64 = 30 * 24 * 60 * 60 * 1000;
/// Longest window: sums are made anew for each answer.
const WINDOW_DAYS_MAX: i64 = 400;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(usage))
}

/// What sums are made by.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum Grouping {
    #[default]
    Day,
    Agent,
    User,
    Model,
}

impl From<Grouping> for By {
    fn from(grouping: Grouping) -> Self {
        match grouping {
            Grouping::Day => Self::Day,
            Grouping::Agent => Self::Agent,
            Grouping::User => Self::User,
            Grouping::Model => Self::Model,
        }
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct UsageQuery {
    /// Runs made at this time or later (RFC 3339); 30 days before `to` unless told.
    #[param(inline)]
    from: Option<Timestamp>,
    /// Runs made before this time (RFC 3339); now unless told. At most 400 days after `from`.
    #[param(inline)]
    to: Option<Timestamp>,
    /// `day` unless told.
    #[param(inline)]
    by: Option<Grouping>,
}

/// The same, checked.
#[derive(Debug)]
struct Asked {
    window: Window,
    by: By,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = url::form_urlencoded::parse(query.as_bytes()).into_owned();
        // A list of pairs as an object, so that what is wrong is named by its parameter.
        let mut object = serde_json::Map::new();
        for (name, value) in pairs.filter(|(_, value)| !value.is_empty()) {
            if object.insert(name.clone(), value.into()).is_some() {
                return Err(Problem::invalid(&name, "expected once"));
            }
        }
        let query: UsageQuery = named(object)?;
        let to = query.to.map_or_else(unix_ms, |to| to.0);
        let from = query.from.map_or(to.saturating_sub(WINDOW_MS), |from| from.0);
        if from >= to {
            return Err(Problem::invalid("from", "expected a time before `to`"));
        }
        if to.saturating_sub(from) > WINDOW_DAYS_MAX * DAY_MS {
            return Err(Problem::invalid(
                "from",
                format!("expected at most {WINDOW_DAYS_MAX} days before `to`"),
            ));
        }
        Ok(Self { window: Window { from, to }, by: query.by.unwrap_or_default().into() })
    }
}

fn named(object: serde_json::Map<String, serde_json::Value>) -> Result<UsageQuery, Problem> {
    const NAMES: [&str; 3] = ["from", "to", "by"];
    if let Some(name) = object.keys().find(|name| !NAMES.contains(&name.as_str())) {
        return Err(Problem::invalid(name, "no such parameter; there are from, to and by"));
    }
    let field = |name: &str| object.get(name).cloned().unwrap_or_default();
    let time = |name: &str| {
        serde_json::from_value(field(name))
            .map_err(|_| Problem::invalid(name, "expected an RFC 3339 time, as in 2026-01-31T12:00:00Z"))
    };
    let by = serde_json::from_value(field("by"))
        .map_err(|_| Problem::invalid("by", "expected day, agent, user or model"))?;
    Ok(UsageQuery { from: time("from")?, to: time("to")?, by })
}

/// What the runs of one day, agent, user or model took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct UsageItem {
    /// The day (as in `2026-01-31`, UTC), the agent's or the user's id, or the model's name. Empty for calls without an
    /// agent, and for runs that asked no model.
    pub key: String,
    /// The same for people.
    pub label: String,
    /// Runs, and calls of a model by its name.
    pub runs: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// Millionths of a US dollar.
    pub cost_micros: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = UsageReport)]
pub struct Usage {
    /// Days in their order; else the dearest first. At most 1000.
    pub items: Vec<UsageItem>,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(denied) => denied.into(),
            Error::Store(error) => error.into(),
        }
    }
}

/// Sums what the tenant's runs took, and its calls of models by name.
#[utoipa::path(get, path = "/api/v2/usage", tag = "usage", params(UsageQuery),
    extensions(("x-soma-action" = json!("billing:view_usage"))),
    responses((status = 200, body = Usage), (status = "default", body = Problem)))]
async fn usage(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    asked: Asked,
) -> Result<Json<Usage>, Problem> {
    let items = service::usage(&app, &caller, asked.window, asked.by).await?;
    Ok(Json(Usage { items }))
}
