//! What a search asks for, read from the query string. Whatever is wrong is named by its parameter.

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use contracts::UserId;
use platform::http::{PageQuery, PageRequest, Problem, Timestamp};
use serde::Serialize;

/// Longest text that is searched for, in bytes.
const TEXT_BYTES_MAX: usize = 200;
const EFFECTS: [&str; 3] = ["allow", "deny", "ask"];

use super::{chain::Record, export::Format};

/// What an entry must be to be found. What is absent fits all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Filter {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
    /// Milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<i64>,
    /// In lower case, ASCII only: as far as SQL's LOWER goes everywhere.
    #[serde(rename = "q", skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Filter {
    /// What the store's search says in SQL.
    pub(super) fn fits(&self, record: &Record) -> bool {
        fn is(wanted: Option<&String>, found: &str) -> bool {
            wanted.is_none_or(|wanted| wanted == found)
        }
        let holds = |part: &str| {
            let texts = [&record.action, &record.resource_type, &record.reason, &record.details];
            let mut texts = texts.into_iter().chain(&record.resource_id);
            texts.any(|text| text.to_ascii_lowercase().contains(part))
        };
        is(self.actor.as_ref(), &record.actor)
            && is(self.action.as_ref(), &record.action)
            && is(self.effect.as_ref(), &record.effect)
            && is(self.resource_type.as_ref(), &record.resource_type)
            && self.resource_id.as_ref().is_none_or(|wanted| Some(wanted) == record.resource_id.as_ref())
            && self.from.is_none_or(|from| record.at >= from)
            && self.to.is_none_or(|to| record.at < to)
            && self.text.as_deref().is_none_or(holds)
    }
}

/// The parameters of a search, as the document describes them.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "describes the parameters; `Parameters` reads them, to name the one that is wrong"
)]
pub(super) struct AuditQuery {
    /// Id of the user who acted, or as whom somebody acted.
    actor: Option<String>,
    /// As in `agent:update`.
    action: Option<String>,
    /// `allow`, `deny` or `ask`.
    #[param(inline)]
    effect: Option<contracts::policy::Effect>,
    /// As in `agent`.
    resource_type: Option<String>,
    resource_id: Option<String>,
    /// No entry before this time (RFC 3339).
    #[param(inline)]
    from: Option<Timestamp>,
    /// No entry at this time or after it (RFC 3339).
    #[param(inline)]
    to: Option<Timestamp>,
    /// A part of the action, the resource, the reason or the details; letter case doesn't count. At most 200 bytes.
    q: Option<String>,
}

/// The export's own parameter.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameter; `Parameters` reads it")]
pub(super) struct ExportQuery {
    /// `csv` or `jsonl`; `jsonl` unless told.
    format: Option<String>,
}

/// Every parameter of a query string, each at most once and by its name.
#[derive(Debug, Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state)
            .await
            .map_err(|error| Problem::invalid("query", error.body_text()))?;
        Ok(Self(query.0))
    }
}

impl Parameters {
    /// The value of a parameter, which is then gone. An empty one is absent.
    pub(super) fn take(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let Some(at) = self.0.iter().position(|(found, _)| found == name) else { return Ok(None) };
        let (_, value) = self.0.swap_remove(at);
        if self.0.iter().any(|(found, _)| found == name) {
            return Err(Problem::invalid(name, "expected once"));
        }
        Ok(Some(value).filter(|value| !value.is_empty()))
    }

    pub(super) fn filter(&mut self) -> Result<Filter, Problem> {
        let filter = Filter {
            actor: self.actor()?,
            action: self.take("action")?,
            effect: self.effect()?,
            resource_type: self.take("resource_type")?,
            resource_id: self.take("resource_id")?,
            from: self.time("from")?,
            to: self.time("to")?,
            text: self.text()?,
        };
        if let (Some(from), Some(to)) = (filter.from, filter.to)
            && from >= to
        {
            return Err(Problem::invalid("to", "expected a time after `from`"));
        }
        Ok(filter)
    }

    pub(super) fn page(&mut self) -> Result<PageRequest, Problem> {
        let limit = self.take("limit")?.map(|text| text.parse::<u32>());
        let limit = limit.transpose().map_err(|_| Problem::invalid("limit", "expected a whole number"))?;
        PageQuery { limit, cursor: self.take("cursor")? }.try_into()
    }

    pub(super) fn format(&mut self) -> Result<Format, Problem> {
        match self.take("format")?.as_deref() {
            None | Some("jsonl") => Ok(Format::Jsonl),
            Some("csv") => Ok(Format::Csv),
            Some(_) => Err(Problem::invalid("format", "expected csv or jsonl")),
        }
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Problem::invalid(name, "no such parameter; /api/openapi.json lists them")),
        }
    }

    fn actor(&mut self) -> Result<Option<String>, Problem> {
        let actor = self.take("actor")?.map(|text| text.parse::<UserId>());
        let actor = actor.transpose().map_err(|_| Problem::invalid("actor", "expected a user's id"))?;
        Ok(actor.map(String::from))
    }

    fn effect(&mut self) -> Result<Option<String>, Problem> {
        let effect = self.take("effect")?;
        match effect.as_deref() {
            Some(text) if !EFFECTS.contains(&text) => {
                Err(Problem::invalid("effect", "expected allow, deny or ask"))
            }
            _ => Ok(effect),
        }
    }

    fn time(&mut self, name: &str) -> Result<Option<i64>, Problem> {
        let time = self.take(name)?.map(|text| text.parse::<jiff::Timestamp>());
        let time = time.transpose().map_err(|_| {
            Problem::invalid(name, "expected an RFC 3339 time with its offset, as in 2026-01-31T12:00:00Z")
        })?;
        Ok(time.map(|time| time.as_millisecond()))
    }

    fn text(&mut self) -> Result<Option<String>, Problem> {
        let text = self.take("q")?;
        if text.as_ref().is_some_and(|text| text.len() > TEXT_BYTES_MAX) {
            return Err(Problem::invalid("q", format!("expected at most {TEXT_BYTES_MAX} bytes")));
        }
        Ok(text.map(|text| text.to_ascii_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Filter, Parameters};

    fn filter(query: &str) -> Result<Filter, String> {
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        let mut parameters = Parameters(pairs.into_owned().collect());
        let filter = parameters.filter().map_err(|problem| problem.detail)?;
        parameters.end().map_err(|problem| problem.detail)?;
        Ok(filter)
    }

    #[test]
    fn what_is_wrong_in_a_search_is_named() {
        for (query, names) in [
            ("actor=ada", "actor:"),
            ("effect=perhaps", "effect:"),
            ("from=yesterday", "from:"),
            ("from=2026-01-31", "from:"),
            ("to=2026-01-31T12:00:00", "to:"),
            ("from=2026-01-31T12:00:00Z&to=2026-01-31T12:00:00Z", "to:"),
            ("tenant=other", "tenant:"),
            ("action=a&action=b", "action:"),
            (&format!("q={}", "x".repeat(201)), "q:"),
        ] {
            let refused = filter(query).unwrap_err();
            assert!(refused.starts_with(names), "{query}: {refused}");
        }
        let read = filter("q=Agent&from=2026-01-31T13:00:00.5%2B01:00&effect=deny&action=").unwrap();
        let expected = Filter {
            text: Some("agent".into()),
            from: Some(1_769_860_800_500),
            effect: Some("deny".into()),
            ..Filter::default()
        };
        assert_eq!(read, expected);
    }
}
