//! The audit's routes.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use platform::{
    database::Error,
    durable::unix_ms,
    http::{Page, PageQuery, Problem, Timestamp},
};
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    chain::Record,
    export::{self, Format},
    query::{AuditQuery, ExportQuery, Parameters},
    service::{self, ServiceError},
    verify::{self, AuditVerification},
};
use crate::{App, identity::Authenticated};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(export)).routes(routes!(verify))
}

/// One decision that was acted on or that refused.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct AuditEntry {
    pub id: String,
    /// Its place in the tenant's chain, from 1 on, without gaps. 0 and less: from before entries were chained.
    pub sequence: i64,
    pub tenant_id: String,
    pub at: Timestamp,
    /// The user who acted, or as whom somebody acted.
    pub actor_id: String,
    /// Who really acted, where an administrator acted as somebody else.
    pub impersonator_id: Option<String>,
    pub action: String,
    pub resource_type: String,
    pub resource_id: Option<String>,
    /// `allow`, `deny` or `ask`.
    pub effect: String,
    pub reason: String,
    pub policy_revision: String,
    /// What changed, where something did.
    pub details: serde_json::Value,
    /// `hash` of the entry before it; 64 zeros for the first. Null, as `hash`, before entries were chained.
    pub previous_hash: Option<String>,
    /// SHA-256 of the entry without this member, in the canonical form of RFC 8785.
    pub hash: Option<String>,
}

impl AuditEntry {
    pub(super) fn read(record: Record) -> Result<Self, Error> {
        let details = serde_json::from_str(&record.details);
        Ok(Self {
            id: record.id,
            sequence: record.sequence,
            tenant_id: record.tenant,
            at: Timestamp(record.at),
            actor_id: record.actor,
            impersonator_id: record.impersonator,
            action: record.action,
            resource_type: record.resource_type,
            resource_id: record.resource_id,
            effect: record.effect,
            reason: record.reason,
            policy_revision: record.revision,
            details: details.map_err(|error| Error::Corrupt(format!("audit_entries.details: {error}")))?,
            previous_hash: record.previous_hash,
            hash: record.hash,
        })
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Denied(denied) => denied.into(),
            ServiceError::Busy => Self::unavailable("busy", error.to_string()),
            ServiceError::Store(error) => error.into(),
        }
    }
}

/// Lists audit entries that fit, newest first. A page that has looked at 4,000 entries ends there: it may be short,
/// or empty, and still have a `next_cursor`.
#[utoipa::path(get, path = "/api/v2/audit", tag = "audit", params(PageQuery, AuditQuery),
    extensions(("x-soma-action" = json!("audit:read"))),
    responses((status = 200, body = Page<AuditEntry>), (status = "default", body = Problem)))]
async fn list(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    mut parameters: Parameters,
) -> Result<Json<Page<AuditEntry>>, Problem> {
    let (page, filter) = (parameters.page()?, parameters.filter()?);
    parameters.end()?;
    Ok(Json(service::list(&app, &caller, &filter, &page).await?))
}

/// Exports audit entries that fit, in the order of the chain. JSON lines are in the form that is hashed. In CSV a text
/// that a spreadsheet would take for a formula has an apostrophe before it. The export is itself in the audit.
#[utoipa::path(get, path = "/api/v2/audit/export", tag = "audit", params(ExportQuery, AuditQuery),
    extensions(("x-soma-action" = json!("audit:export"))),
    responses((status = 200, content((String = "application/jsonl"), (String = "text/csv"))),
        (status = "default", body = Problem)))]
async fn export(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let (format, filter) = (parameters.format()?, parameters.filter()?);
    parameters.end()?;
    let pieces = export::export(app, &caller, filter, format).await?;
    Ok(file(format, Body::from_stream(pieces)))
}

fn file(format: Format, body: Body) -> Response {
    let day = Timestamp(unix_ms()).to_string();
    let name = format!("audit-{}.{}", day.split('T').next().unwrap_or_default(), format.as_str());
    let headers = [
        (header::CONTENT_TYPE, format.media_type().to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    (StatusCode::OK, headers, body).into_response()
}

/// Reads the tenant's whole chain and says whether an entry was changed, removed or put in between. One verification
/// runs at a time; while it does, others get 503.
#[utoipa::path(get, path = "/api/v2/audit/verify", tag = "audit",
    extensions(("x-soma-action" = json!("audit:read"))),
    responses((status = 200, body = AuditVerification), (status = "default", body = Problem)))]
async fn verify(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
) -> Result<Json<AuditVerification>, Problem> {
    Ok(Json(verify::for_caller(&app, &caller).await?))
}
