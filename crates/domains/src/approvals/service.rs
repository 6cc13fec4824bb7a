//! Asking, deciding, expiring.

use std::{sync::Arc, time::Duration};

use contracts::{
    AgentId, ApprovalId, Caller, ConversationId, RunId, TenantId, ToolCallId, UserId, policy::Resource,
};
use platform::{
    database::{Error as StoreError, Sql, Tx},
    durable::{self, unix_ms},
    faults,
    http::{Page, PageRequest},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::{
    REASON_CHARS_MAX, State,
    api::{ApprovalInfo, Choice, Decide},
    store::{self, Verdict},
};
use crate::{
    App, audit,
    authority::{self, Denied},
    conversations::{self, journal},
    tools::NoTools,
};

/// How often overdue approvals, and runs that were not told of a decision, are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(2);
/// Deciding, and seeing what there is to decide.
const ACTION: &str = "tool:approve";
/// A decision is told by whoever made it; the sweep tells those that were left for this long.
const LEFT_MS: i64 = 5_000;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("no such approval")]
    NotFound,
    #[error("this was decided already; the first decision counts")]
    Decided,
    #[error("the time to decide is over, and the call is not made")]
    Expired,
    #[error("the hash is not that of the arguments: read the approval again and decide on what it shows")]
    OtherArguments,
    #[error("{0}: {1}")]
    Invalid(&'static str, String),
    #[error(transparent)]
    NoTools(#[from] NoTools),
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug, Clone)]
pub(crate) struct Approval {
    pub id: ApprovalId,
    pub run: RunId,
    pub conversation: ConversationId,
    pub agent: AgentId,
    pub call: ToolCallId,
    pub tool: String,
    /// JSON text.
    pub arguments: String,
    pub arguments_hash: String,
    pub reason: String,
    pub state: State,
    pub requested_by: UserId,
    pub requested_at: i64,
    pub expires_at: i64,
    pub decided_by: Option<UserId>,
    pub decided_at: Option<i64>,
    pub decision_reason: Option<String>,
    pub approved_arguments: Option<String>,
    pub approved_hash: Option<String>,
}

/// A question to be asked.
#[derive(Debug, Clone)]
pub(crate) struct NewApproval {
    pub id: ApprovalId,
    pub tenant: TenantId,
    pub run: RunId,
    pub conversation: ConversationId,
    pub agent: AgentId,
    pub call: ToolCallId,
    pub tool: String,
    pub arguments: String,
    pub reason: String,
    pub requested_by: UserId,
    pub requested_at: i64,
    pub expires_at: i64,
}

impl Approval {
    /// What the call is made with, if it was approved and nothing was changed since.
    pub(crate) fn approved(&self) -> Option<&str> {
        let arguments = self.approved_arguments.as_deref()?;
        let untouched = self.approved_hash.as_deref() == Some(hash_of(arguments).as_str());
        (self.state == State::Approved && untouched).then_some(arguments)
    }

    /// Whether a person changed the arguments.
    pub(crate) fn edited(&self) -> bool {
        self.approved_hash.as_ref().is_some_and(|hash| *hash != self.arguments_hash)
    }
}

fn hash_of(arguments: &str) -> String {
    hex::encode(Sha256::digest(arguments))
}

/// Arguments as JSON; what is none is shown as the text it is.
pub(super) fn shown(arguments: &str) -> Value {
    serde_json::from_str(arguments).unwrap_or_else(|_| json!(arguments))
}

/// Asks, as part of the change that ends the step: the run waits from here on.
pub(crate) async fn request(tx: &Tx, new: &NewApproval) -> Result<(), StoreError> {
    let hash = hash_of(&new.arguments);
    store::insert(tx, new, &hash).await?;
    journal::wait(tx, new.run).await?;
    let frame = json!({
        "approval_id": new.id,
        "call_id": new.call,
        "tool": new.tool,
        "arguments": shown(&new.arguments),
        "arguments_hash": hash,
        "expires_at": platform::http::Timestamp(new.expires_at),
    });
    journal::emit(tx, new.run, "approval.requested", &frame).await
}

pub(crate) async fn find(connection: &impl Sql, id: ApprovalId) -> Result<Option<Approval>, StoreError> {
    store::find(connection, id).await
}

/// Uses an approval up, as part of the change that starts its call. False when it was used before.
pub(crate) async fn take(tx: &Tx, id: ApprovalId) -> Result<bool, StoreError> {
    store::take(tx, id, unix_ms()).await
}

/// Withdraws a run's open questions and uses up its answers: the run ends.
pub(crate) async fn cancel_open(tx: &Tx, run: RunId) -> Result<(), StoreError> {
    for id in store::pending_of(tx, run).await? {
        settle(tx, id, State::Cancelled).await?;
    }
    store::take_all(tx, run, unix_ms()).await
}

/// Closes a question without anybody's decision.
async fn settle(tx: &Tx, id: ApprovalId, state: State) -> Result<Option<Approval>, StoreError> {
    let verdict = Verdict { state, by: None, reason: None, arguments: None, now: unix_ms() };
    let Some(approval) = store::decide(tx, id, &verdict).await? else { return Ok(None) };
    tell(tx, &approval).await?;
    Ok(Some(approval))
}

/// Tells the stream and the run, in the commit of the decision.
async fn tell(tx: &Tx, approval: &Approval) -> Result<(), StoreError> {
    let now = unix_ms();
    let frame = json!({
        "approval_id": approval.id,
        "call_id": approval.call,
        "decision": approval.state,
        "decided_by": approval.decided_by,
        "reason": approval.decision_reason,
        "arguments": approval.approved_arguments.as_deref().map(shown),
    });
    journal::emit(tx, approval.run, "approval.decided", &frame).await?;
    // The time that people took is not the turn's.
    journal::go_on(tx, approval.run, now.saturating_sub(approval.requested_at)).await?;
    durable::signal(tx, approval.run, &approval.id.to_string(), now).await
}

/// Removes what is kept of the approvals of a run that is not kept.
pub(crate) async fn forget_run(tx: &Tx, run: RunId) -> Result<(), StoreError> {
    store::remove(tx, run).await
}

pub(super) async fn list(
    app: &App,
    caller: &Caller,
    pending: Option<bool>,
    page: &PageRequest,
) -> Result<Page<ApprovalInfo>, Error> {
    authority::require(app, caller, ACTION, Resource::any("approval")).await?;
    let without = authority::denied_agents(app, caller, ACTION, "approval").await;
    let rows = store::page(app.database.read(), caller.tenant, pending, page, &without).await?;
    let rows = rows.into_iter().map(ApprovalInfo::from).collect();
    Ok(page.page(rows, |approval: &ApprovalInfo| approval.id.to_string()))
}

pub(super) async fn get(app: &App, caller: &Caller, id: ApprovalId) -> Result<Approval, Error> {
    Ok(allowed(app, caller, id).await?.0)
}

/// The approval, if the caller may decide it. The policy is asked about one that is not there as well, so that who may
/// do nothing learns nothing.
async fn allowed(app: &App, caller: &Caller, id: ApprovalId) -> Result<(Approval, authority::Permit), Error> {
    let found = store::find_in(app.database.read(), caller.tenant, id).await?;
    let mut resource = Resource::new("approval", id);
    if let Some(found) = &found {
        resource = resource.of_agent(found.agent);
    }
    let permit = authority::require(app, caller, ACTION, resource).await?;
    Ok((found.ok_or(Error::NotFound)?, permit))
}

/// Decides, once. The run goes on from the commit of the decision.
pub(super) async fn decide(
    app: &App,
    caller: &Caller,
    id: ApprovalId,
    decide: Decide,
) -> Result<Approval, Error> {
    let (approval, permit) = allowed(app, caller, id).await?;
    let reason = checked_reason(&decide)?;
    if decide.arguments_hash != approval.arguments_hash {
        return Err(Error::OtherArguments);
    }
    let arguments = arguments_of(app, &approval, &decide).await?;
    let hash = arguments.as_deref().map(hash_of);
    let state = if arguments.is_some() { State::Approved } else { State::Rejected };
    let entry = permit.entry(json!({
        "decision": state,
        "run_id": approval.run,
        "call_id": approval.call,
        "tool": approval.tool,
        "arguments_hash": approval.arguments_hash,
        "approved_hash": hash,
        "reason": reason,
    }));
    let by = caller.user;
    let decided = app
        .database
        .write(move |tx| {
            Box::pin(async move {
                let now = unix_ms();
                if now >= approval.expires_at {
                    return Err(Error::Expired);
                }
                let verdict = Verdict {
                    state,
                    by: Some(by),
                    reason: reason.as_deref(),
                    arguments: arguments.as_deref().zip(hash.as_deref()),
                    now,
                };
                let decided = store::decide(tx, id, &verdict).await?.ok_or(Error::Decided)?;
                tell(tx, &decided).await?;
                audit::add(tx, &entry).await?;
                faults::point("decision_before_commit");
                Ok(decided)
            })
        })
        .await?;
    faults::point("decision_committed");
    wake(app, decided.run, id).await;
    Ok(decided)
}

fn checked_reason(decide: &Decide) -> Result<Option<String>, Error> {
    let reason = decide.reason.as_deref().map(str::trim).filter(|reason| !reason.is_empty());
    if reason.is_some_and(|reason| reason.chars().count() > REASON_CHARS_MAX) {
        return Err(Error::Invalid("reason", format!("expected at most {REASON_CHARS_MAX} characters")));
    }
    if decide.decision == Choice::Reject && reason.is_none() {
        return Err(Error::Invalid("reason", "say why: the model is told and may find another way".into()));
    }
    Ok(reason.map(str::to_owned))
}

/// What the call is to be made with; `None` when it is rejected.
async fn arguments_of(app: &App, approval: &Approval, decide: &Decide) -> Result<Option<String>, Error> {
    match (decide.decision, &decide.arguments) {
        (Choice::Reject, Some(_)) => {
            Err(Error::Invalid("arguments", "a rejected call is made with no arguments at all".into()))
        }
        (Choice::Reject, None) => Ok(None),
        (Choice::Approve, None) => Ok(Some(approval.arguments.clone())),
        (Choice::Approve, Some(arguments)) => {
            let text = Value::Object(arguments.clone()).to_string();
            let toolbox = app.tools.get().await?;
            toolbox.check(&approval.tool, &text).map_err(|problem| Error::Invalid("arguments", problem))?;
            Ok(Some(text))
        }
    }
}

/// Wakes whoever reads the run's events, and the run.
async fn wake(app: &App, run: RunId, id: ApprovalId) {
    app.hub.wake(run);
    conversations::signal(app, run, &id.to_string()).await;
}

/// Closes approvals whose time is over, and tells runs that were left untold, until `stop`.
pub async fn sweep(app: Arc<App>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(SWEEP_EVERY)).await.is_some() {
        if let Err(error) = look(&app).await {
            tracing::error!(%error, "approvals can't be looked after");
        }
    }
}

async fn look(app: &App) -> Result<(), StoreError> {
    let now = unix_ms();
    for id in store::overdue(app.database.read(), now).await? {
        let expired = app
            .database
            .write(move |tx| Box::pin(async move { settle(tx, id, State::Expired).await }))
            .await?;
        if let Some(approval) = expired {
            wake(app, approval.run, id).await;
        }
    }
    for (id, run) in store::untold(app.database.read(), now.saturating_sub(LEFT_MS)).await? {
        wake(app, run, id).await;
    }
    Ok(())
}
