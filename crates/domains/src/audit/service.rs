//! Writing and reading the audit.

use std::collections::BTreeMap;

use contracts::{
    Caller, TenantId,
    events::{About, Event, Topic},
    policy::{Decision, Effect, Request, Resource},
};
use platform::{
    database::{Error, Tx},
    durable::unix_ms,
    http::{Page, PageRequest},
    outbox,
};
use serde_json::{Value, json};

use super::{
    api::AuditEntry,
    chain::{self, Record},
    query::Filter,
    store,
};
use crate::{
    App,
    authority::{self, Denied},
    events,
};

/// A row to be.
#[derive(Debug, Clone)]
pub struct Entry {
    pub(super) id: uuid::Uuid,
    pub(super) at: i64,
    pub(super) tenant: String,
    pub(super) actor: String,
    pub(super) impersonator: Option<String>,
    pub(super) action: String,
    pub(super) resource_type: String,
    pub(super) resource_id: Option<String>,
    pub(super) effect: &'static str,
    pub(super) reason: String,
    pub(super) revision: String,
    pub(super) details: Value,
}

impl Entry {
    pub(crate) fn new(request: &Request, decision: &Decision, details: Value) -> Self {
        Self {
            id: uuid::Uuid::now_v7(),
            at: unix_ms(),
            tenant: request.tenant.to_string(),
            actor: request.subject.user_id.to_string(),
            impersonator: request.subject.impersonator.map(String::from),
            action: request.action.clone(),
            resource_type: request.resource.kind.clone(),
            resource_id: request.resource.id.clone(),
            effect: decision.effect.as_str(),
            reason: decision.reason.clone(),
            revision: decision.revision.clone(),
            details,
        }
    }
}

/// Who acts, and by what right, where an operator does at the command line.
const OPERATOR: &str = "operator";

impl Entry {
    /// An operator's act in a tenant, which asks no policy.
    pub(crate) fn of_operator(
        tenant: TenantId,
        action: &str,
        resource: (&str, String),
        details: Value,
    ) -> Self {
        let (kind, id) = resource;
        Self {
            id: uuid::Uuid::now_v7(),
            at: unix_ms(),
            tenant: tenant.to_string(),
            actor: OPERATOR.to_owned(),
            impersonator: None,
            action: action.to_owned(),
            resource_type: kind.to_owned(),
            resource_id: Some(id),
            effect: Effect::Allow.as_str(),
            reason: OPERATOR.to_owned(),
            revision: String::new(),
            details,
        }
    }
}

/// Times that a head may turn out to be behind. In a transaction nobody else writes, so the one that is read is the
/// last.
const PLACES_TRIED: usize = 2;

/// Adds a row within a change, as the next of its tenant's chain. When it can't be added the change must not be made.
pub(crate) async fn add(tx: &Tx, entry: &Entry) -> Result<(), Error> {
    add_all(tx, std::iter::once(entry)).await
}

/// Adds rows within a change, one after the other: those of a tenant in one statement, which is most of their cost.
pub(crate) async fn add_all(tx: &Tx, entries: impl Iterator<Item = &Entry>) -> Result<(), Error> {
    let mut by_tenant: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        by_tenant.entry(&entry.tenant).or_default().push(entry);
    }
    for (tenant, entries) in by_tenant {
        match place(tx, tenant, &entries).await {
            // Not the change's own fault, and no other try would find another answer: the audit takes no rows.
            Err(Error::Query(cause)) => {
                return Err(Error::Stopped(format!("the audit takes no entries: {cause}")));
            }
            other => other?,
        }
    }
    Ok(())
}

/// Puts entries at the end of their tenant's chain.
async fn place(tx: &Tx, tenant: &str, entries: &[&Entry]) -> Result<(), Error> {
    let mut head = match chain::remembered(tenant) {
        Some(head) => head,
        None => store::head(tx, tenant).await?,
    };
    for _ in 0..PLACES_TRIED {
        let records = Record::after_each_other(&head, entries);
        if store::insert(tx, &records).await? {
            records.last().into_iter().for_each(chain::remember);
            records.iter().for_each(|record| tell(tx, record));
            return Ok(());
        }
        head = store::head(tx, tenant).await?;
    }
    Err(Error::Corrupt("audit_heads does not name the last entry; run `soma audit verify`".into()))
}

/// Tells outside of an entry, under the entry's own id.
fn tell(tx: &Tx, record: &Record) {
    let Ok(tenant) = record.tenant.parse() else { return };
    outbox::put(tx, || Event {
        id: record.id.clone(),
        topic: Topic::AuditEvents,
        kind: events::AUDIT_ENTRY,
        tenant,
        about: About::default(),
        at: record.at,
        body: json!({ "entry": serde_json::from_str(&record.canonical()).unwrap_or(Value::Null) }),
    });
}

/// Adds a row of its own.
pub(crate) async fn write(app: &App, entry: Entry) -> Result<(), Error> {
    app.database.write(move |tx| Box::pin(async move { add(tx, &entry).await })).await
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ServiceError {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("another verification is under way; ask again in a few seconds")]
    Busy,
    #[error(transparent)]
    Store(#[from] Error),
}

/// A page of what fits, newest first. A search that finds little stops after a while: then the page is short, and its
/// cursor goes on from there.
pub(super) async fn list(
    app: &App,
    caller: &Caller,
    filter: &Filter,
    page: &PageRequest,
) -> Result<Page<AuditEntry>, ServiceError> {
    authority::require(app, caller, "audit:read", Resource::any("audit")).await?;
    let found = store::search(app.database.read(), caller.tenant, filter, page).await?;
    let entries = found.records.into_iter().map(AuditEntry::read).collect::<Result<Vec<_>, _>>()?;
    let mut page = page.page(entries, |entry| entry.id.clone());
    if page.next_cursor.is_none() {
        page.next_cursor = found.goes_on_at;
    }
    Ok(page)
}
