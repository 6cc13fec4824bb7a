//! The whole audit of a tenant as a file, in the chain's order, read a few entries at a time while it is sent.
//!
//! The export is in the audit, and is itself the last entry of what it gives.

use std::{fmt::Write, sync::Arc};

use axum::body::Bytes;
use contracts::{Caller, policy::Resource};
use futures::Stream;
use platform::{database::Error, http::Timestamp};
use serde_json::json;

use super::{
    chain::Record,
    csv::{self, Field},
    query::Filter,
    service::{self, ServiceError},
    store,
};
use crate::{App, authority};

/// Entries read, and held in memory, at a time.
const ROWS: i64 = 500;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// For a spreadsheet.
    Csv,
    /// An entry a line, in the form that is hashed: for whoever checks the chain.
    Jsonl,
}

impl Format {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
        }
    }

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Jsonl => "application/jsonl",
        }
    }

    fn header(self) -> String {
        let mut text = String::new();
        if self == Self::Csv {
            csv::line(&mut text, COLUMNS.map(Field::Text));
        }
        text
    }

    fn add(self, text: &mut String, record: &Record) {
        match self {
            Self::Csv => csv::line(text, fields(record, &Timestamp(record.at).to_string())),
            // Writing to a string does not fail.
            Self::Jsonl => drop(writeln!(text, "{}", record.canonical())),
        }
    }
}

const COLUMNS: [&str; 15] = [
    "sequence",
    "at",
    "id",
    "tenant_id",
    "actor_id",
    "impersonator_id",
    "action",
    "resource_type",
    "resource_id",
    "effect",
    "reason",
    "policy_revision",
    "details",
    "previous_hash",
    "hash",
];

fn fields<'a>(record: &'a Record, at: &'a str) -> [Field<'a>; COLUMNS.len()] {
    let optional = |value: &'a Option<String>| Field::Text(value.as_deref().unwrap_or_default());
    [
        Field::Number(record.sequence),
        Field::Text(at),
        Field::Text(&record.id),
        Field::Text(&record.tenant),
        Field::Text(&record.actor),
        optional(&record.impersonator),
        Field::Text(&record.action),
        Field::Text(&record.resource_type),
        optional(&record.resource_id),
        Field::Text(&record.effect),
        Field::Text(&record.reason),
        Field::Text(&record.revision),
        Field::Text(&record.details),
        optional(&record.previous_hash),
        optional(&record.hash),
    ]
}

/// Notes the export, then gives it piece by piece. A piece that can't be read ends the stream in an error, so that
/// nobody takes a part for the whole.
pub(super) async fn export(
    app: Arc<App>,
    caller: &Caller,
    filter: Filter,
    format: Format,
) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + use<>, ServiceError> {
    let permit = authority::require(&app, caller, "audit:export", Resource::any("audit")).await?;
    service::write(&app, permit.entry(json!({ "format": format.as_str(), "filter": filter }))).await?;
    let tenant = caller.tenant.to_string();
    let end = store::head(app.database.read(), &tenant).await?.sequence;
    Ok(async_stream::try_stream! {
        yield Bytes::from(format.header());
        let mut last = None;
        while last.is_none_or(|last| last < end) {
            let records = store::after(app.database.read(), &tenant, last, ROWS).await?;
            let Some(newest) = records.last() else { break };
            last = Some(newest.sequence);
            let mut text = String::new();
            let wanted = records.iter().filter(|record| record.sequence <= end && filter.fits(record));
            wanted.for_each(|record| format.add(&mut text, record));
            if !text.is_empty() {
                yield Bytes::from(text);
            }
        }
    })
}
