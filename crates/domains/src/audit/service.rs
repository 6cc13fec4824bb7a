//! Writing and reading the audit.

use contracts::{
    Caller,
    policy::{Decision, Request, Resource},
};
use platform::{
    database::{Error, Tx},
    durable::unix_ms,
    http::{Page, PageRequest},
};
use serde_json::Value;

use super::{api::AuditEntry, store};
use crate::{
    App,
    authority::{self, Denied},
};

/// A row to be.
#[derive(Debug, Clone)]
pub struct Entry {
    pub(super) id: uuid::Uuid,
    pub(super) at: i64,
    pub(super) tenant: String,
    pub(super) actor: String,
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

/// Adds a row within a change.
pub(crate) async fn add(tx: &Tx, entry: &Entry) -> Result<(), Error> {
    store::insert(tx, entry).await
}

/// Adds a row of its own.
pub(crate) async fn write(app: &App, entry: Entry) -> Result<(), Error> {
    app.database.write(move |tx| Box::pin(async move { store::insert(tx, &entry).await })).await
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ListError {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error(transparent)]
    Store(#[from] Error),
}

pub(super) async fn list(
    app: &App,
    caller: &Caller,
    page: &PageRequest,
) -> Result<Page<AuditEntry>, ListError> {
    authority::require(app, caller, "audit:read", Resource::any("audit")).await?;
    let rows = store::page(app.database.read(), caller.tenant, page).await?;
    Ok(page.page(rows, |entry| entry.id.clone()))
}
