//! The SQL of approvals.

use contracts::{ApprovalId, RunId, TenantId, UserId};
use platform::{
    database::{Error, Migration, Row, Sql, Tx},
    http::PageRequest,
    params,
};

use super::{Approval, NewApproval, State};

pub(super) const MIGRATIONS: &[Migration] = &[Migration {
    name: "approvals_0001_approvals",
    postgres: None,
    statements: &[
        "CREATE TABLE approvals (
            id TEXT PRIMARY KEY,
            tenant_id TEXT NOT NULL,
            run_id TEXT NOT NULL,
            conversation_id TEXT NOT NULL,
            agent_id TEXT NOT NULL,
            call_id TEXT NOT NULL UNIQUE,
            tool TEXT NOT NULL,
            arguments TEXT NOT NULL,
            arguments_hash TEXT NOT NULL,
            reason TEXT NOT NULL,
            state TEXT NOT NULL,
            requested_by TEXT NOT NULL,
            requested_at BIGINT NOT NULL,
            expires_at BIGINT NOT NULL,
            decided_by TEXT,
            decided_at BIGINT,
            decision_reason TEXT,
            approved_arguments TEXT,
            approved_hash TEXT,
            used_at BIGINT
        )",
        "CREATE INDEX approvals_tenant ON approvals (tenant_id, id)",
        "CREATE INDEX approvals_run ON approvals (run_id)",
        "CREATE INDEX approvals_pending ON approvals (expires_at) WHERE state = 'pending'",
        // Decided, and the call is not made yet: few, and soon none.
        "CREATE INDEX approvals_unused ON approvals (decided_at) WHERE decided_at IS NOT NULL AND used_at IS NULL",
    ],
}];

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, run_id, conversation_id, agent_id, call_id, tool, arguments, arguments_hash, reason, ",
            "state, requested_by, requested_at, expires_at, decided_by, decided_at, decision_reason, ",
            "approved_arguments, approved_hash FROM approvals ",
            $rest
        )
    };
}

fn approval(row: &Row) -> Result<Approval, Error> {
    Ok(Approval {
        id: row.parse("id")?,
        run: row.parse("run_id")?,
        conversation: row.parse("conversation_id")?,
        agent: row.parse("agent_id")?,
        call: row.parse("call_id")?,
        tool: row.text("tool")?,
        arguments: row.text("arguments")?,
        arguments_hash: row.text("arguments_hash")?,
        reason: row.text("reason")?,
        state: row.parse("state")?,
        requested_by: row.parse("requested_by")?,
        requested_at: row.int("requested_at")?,
        expires_at: row.int("expires_at")?,
        decided_by: row.parse_opt("decided_by")?,
        decided_at: row.int_opt("decided_at")?,
        decision_reason: row.text_opt("decision_reason")?,
        approved_arguments: row.text_opt("approved_arguments")?,
        approved_hash: row.text_opt("approved_hash")?,
    })
}

pub(super) async fn insert(tx: &Tx, new: &NewApproval, hash: &str) -> Result<(), Error> {
    tx.run(
        "INSERT INTO approvals (id, tenant_id, run_id, conversation_id, agent_id, call_id, tool, arguments,
             arguments_hash, reason, state, requested_by, requested_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'pending', $11, $12, $13)",
        params![
            new.id,
            new.tenant,
            new.run,
            new.conversation,
            new.agent,
            new.call,
            new.tool.as_str(),
            new.arguments.as_str(),
            hash,
            new.reason.as_str(),
            new.requested_by,
            new.requested_at,
            new.expires_at
        ],
    )
    .await?;
    Ok(())
}

pub(super) async fn find(connection: &impl Sql, id: ApprovalId) -> Result<Option<Approval>, Error> {
    connection.one(select!("WHERE id = $1"), params![id]).await?.as_ref().map(approval).transpose()
}

pub(super) async fn find_in(
    connection: &impl Sql,
    tenant: TenantId,
    id: ApprovalId,
) -> Result<Option<Approval>, Error> {
    let row = connection.one(select!("WHERE id = $1 AND tenant_id = $2"), params![id, tenant]).await?;
    row.as_ref().map(approval).transpose()
}

/// Newest first: those that are pending, those that are not, or all; `without` those of some agents, as JSON.
pub(super) async fn page(
    connection: &impl Sql,
    tenant: TenantId,
    pending: Option<bool>,
    page: &PageRequest,
    without: &str,
) -> Result<Vec<Approval>, Error> {
    // Ids are hexadecimal, so `g` is after them all.
    let before = page.after.clone().unwrap_or_else(|| "g".into());
    let sql = select!(
        "WHERE tenant_id = $1 AND id < $2 AND ($3 IS NULL OR (state = 'pending') = ($3 = 1))
           AND $5 NOT LIKE '%\"' || agent_id || '\"%' ORDER BY id DESC LIMIT $4"
    );
    let values = params![tenant, before, pending.map(i64::from), page.rows_wanted(), without];
    connection.all(sql, values).await?.iter().map(approval).collect()
}

/// How somebody, or nobody, decided.
pub(super) struct Verdict<'a> {
    pub state: State,
    pub by: Option<UserId>,
    pub reason: Option<&'a str>,
    /// The arguments to call with, and their hash.
    pub arguments: Option<(&'a str, &'a str)>,
    pub now: i64,
}

/// Writes a verdict, once. `None` when there is one already.
pub(super) async fn decide(
    tx: &Tx,
    id: ApprovalId,
    verdict: &Verdict<'_>,
) -> Result<Option<Approval>, Error> {
    let changed = tx
        .run(
            "UPDATE approvals SET state = $1, decided_by = $2, decided_at = $3, decision_reason = $4,
                 approved_arguments = $5, approved_hash = $6
             WHERE id = $7 AND state = 'pending'",
            params![
                verdict.state.as_str(),
                verdict.by.map(|user| user.to_string()),
                verdict.now,
                verdict.reason,
                verdict.arguments.map(|(arguments, _)| arguments),
                verdict.arguments.map(|(_, hash)| hash),
                id
            ],
        )
        .await?;
    if changed == 1 { find(tx, id).await } else { Ok(None) }
}

/// Marks a decided approval as used. False when it is not decided, or was used before.
pub(super) async fn take(tx: &Tx, id: ApprovalId, now: i64) -> Result<bool, Error> {
    let sql =
        "UPDATE approvals SET used_at = $1 WHERE id = $2 AND decided_at IS NOT NULL AND used_at IS NULL";
    Ok(tx.run(sql, params![now, id]).await? == 1)
}

/// Marks all decided approvals of a run as used.
pub(super) async fn take_all(tx: &Tx, run: RunId, now: i64) -> Result<(), Error> {
    let sql =
        "UPDATE approvals SET used_at = $1 WHERE run_id = $2 AND decided_at IS NOT NULL AND used_at IS NULL";
    tx.run(sql, params![now, run]).await?;
    Ok(())
}

/// Those of a run that nobody has decided.
pub(super) async fn pending_of(tx: &Tx, run: RunId) -> Result<Vec<ApprovalId>, Error> {
    let sql = "SELECT id FROM approvals WHERE run_id = $1 AND state = 'pending'";
    tx.all(sql, params![run]).await?.iter().map(|row| row.parse("id")).collect()
}

pub(super) async fn overdue(connection: &impl Sql, now: i64) -> Result<Vec<ApprovalId>, Error> {
    let sql =
        "SELECT id FROM approvals WHERE state = 'pending' AND expires_at <= $1 ORDER BY expires_at LIMIT 100";
    connection.all(sql, params![now]).await?.iter().map(|row| row.parse("id")).collect()
}

/// Decided before `before`, and still not used: their runs may not have been told.
pub(super) async fn untold(connection: &impl Sql, before: i64) -> Result<Vec<(ApprovalId, RunId)>, Error> {
    let rows = connection
        .all(
            "SELECT id, run_id FROM approvals
             WHERE decided_at IS NOT NULL AND used_at IS NULL AND decided_at < $1 ORDER BY decided_at LIMIT 100",
            params![before],
        )
        .await?;
    rows.iter().map(|row| Ok((row.parse("id")?, row.parse("run_id")?))).collect()
}

/// Removes a run's approvals, with the arguments that they show.
pub(super) async fn remove(tx: &Tx, run: RunId) -> Result<(), Error> {
    tx.run("DELETE FROM approvals WHERE run_id = $1", params![run]).await?;
    Ok(())
}
