//! The SQL of runs.
//!
//! A query for open runs repeats the whole list of their states, as the index `runs_open` has it: only then is it used.

use contracts::{ConversationId, RunId, TenantId, engine::Start, model::Usage};
use platform::{
    database::{Error, Row, Sql, Tx},
    http::PageRequest,
    params,
};

use super::{
    super::journal::{NewRun, Run, RunState},
    branches::Place,
};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, tenant_id, conversation_id, parent_run_id, agent_id, user_id, impersonator_id, scopes, message_id, state, code, ",
            "error, input_tokens, output_tokens, cost_micros, context_cut, events_dropped, deadline, created_at, started_at, finished_at ",
            "FROM runs ",
            $rest
        )
    };
}

fn run(row: &Row) -> Result<Run, Error> {
    Ok(Run {
        id: row.parse("id")?,
        tenant: row.parse("tenant_id")?,
        conversation: row.parse("conversation_id")?,
        parent: row.parse_opt("parent_run_id")?,
        agent: row.parse("agent_id")?,
        user: row.parse("user_id")?,
        impersonator: row.parse_opt("impersonator_id")?,
        scopes: row.json("scopes")?,
        message: row.parse("message_id")?,
        state: row.parse("state")?,
        code: row.text_opt("code")?,
        error: row.text_opt("error")?,
        usage: Usage {
            input_tokens: row.int("input_tokens")?.unsigned_abs(),
            output_tokens: row.int("output_tokens")?.unsigned_abs(),
        },
        cost_micros: row.int("cost_micros")?.unsigned_abs(),
        context_cut: row.flag("context_cut")?,
        events_kept: !row.flag("events_dropped")?,
        deadline: row.int("deadline")?,
        created_at: row.int("created_at")?,
        started_at: row.int_opt("started_at")?,
        finished_at: row.int_opt("finished_at")?,
    })
}

/// Stores a run at its place, behind its parent.
pub(in super::super) async fn insert(
    tx: &Tx,
    new: &NewRun,
    parent: Option<RunId>,
    place: &Place,
) -> Result<(), Error> {
    let scopes = serde_json::to_string(&new.scopes).map_err(|error| Error::Corrupt(error.to_string()))?;
    let started_at = (new.state == RunState::Running).then_some(new.created_at);
    tx.run(
        "INSERT INTO runs (id, tenant_id, conversation_id, parent_run_id, branch_id, position, agent_id, user_id, scopes,
             message_id, state, deadline, created_at, started_at, impersonator_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        params![
            new.id, new.tenant, new.conversation, parent.map(|run| run.to_string()), place.branch, place.position,
            new.agent, new.user, scopes, new.message, new.state.as_str(), new.deadline, new.created_at, started_at,
            new.impersonator.map(String::from)
        ],
    )
    .await?;
    Ok(())
}

pub(in super::super) async fn find(connection: &impl Sql, id: RunId) -> Result<Option<Run>, Error> {
    connection.one(select!("WHERE id = $1"), params![id]).await?.as_ref().map(run).transpose()
}

pub(in super::super) async fn find_in(
    connection: &impl Sql,
    tenant: TenantId,
    id: RunId,
) -> Result<Option<Run>, Error> {
    let row = connection.one(select!("WHERE id = $1 AND tenant_id = $2"), params![id, tenant]).await?;
    row.as_ref().map(run).transpose()
}

/// A conversation's runs on all its branches, the last made first.
pub(in super::super) async fn page(
    connection: &impl Sql,
    conversation: ConversationId,
    page: &PageRequest,
) -> Result<Vec<Run>, Error> {
    let after = page.after.clone().unwrap_or_default();
    let rows = connection
        .all(
            select!(
                "WHERE conversation_id = $1 AND position < COALESCE(
                     (SELECT position FROM runs last WHERE last.id = $2 AND last.conversation_id = $1), $3)
                 ORDER BY position DESC LIMIT $4"
            ),
            params![conversation, after, i64::MAX, page.rows_wanted()],
        )
        .await?;
    rows.iter().map(run).collect()
}

/// Ids and states of a conversation's runs that have not ended.
pub(in super::super) async fn open(
    tx: &Tx,
    conversation: ConversationId,
) -> Result<Vec<(RunId, RunState)>, Error> {
    let rows = tx
        .all(
            "SELECT id, state FROM runs WHERE conversation_id = $1
               AND state IN ('queued', 'running', 'waiting', 'cancelling') ORDER BY position",
            params![conversation],
        )
        .await?;
    rows.iter().map(|row| Ok((row.parse("id")?, row.parse("state")?))).collect()
}

/// The runs of a tenant that have not ended, whether they wait or are at work.
pub(in super::super) async fn open_in_tenant(
    tx: &Tx,
    tenant: TenantId,
) -> Result<Vec<(RunId, RunState)>, Error> {
    let rows = tx
        .all(
            "SELECT id, state FROM runs WHERE state IN ('queued', 'running', 'waiting', 'cancelling')
               AND tenant_id = $1 ORDER BY id",
            params![tenant],
        )
        .await?;
    rows.iter().map(|row| Ok((row.parse("id")?, row.parse("state")?))).collect()
}

/// Whether a message waits in a conversation.
pub(in super::super) async fn waiting(
    connection: &impl Sql,
    conversation: ConversationId,
) -> Result<bool, Error> {
    let sql = "SELECT 1 AS one FROM runs WHERE conversation_id = $1
                   AND state IN ('queued', 'running', 'waiting', 'cancelling') AND state = 'queued' LIMIT 1";
    Ok(connection.one(sql, params![conversation]).await?.is_some())
}

/// Takes the oldest waiting run of a conversation in which none is at work.
pub(in super::super) async fn claim_next(
    tx: &Tx,
    conversation: ConversationId,
    now: i64,
) -> Result<Option<Start>, Error> {
    let row = tx
        .one(
            "UPDATE runs SET state = 'running', started_at = $2
             WHERE id = (SELECT id FROM runs WHERE conversation_id = $1
                   AND state IN ('queued', 'running', 'waiting', 'cancelling') AND state = 'queued'
                   ORDER BY position LIMIT 1)
               AND NOT EXISTS (SELECT 1 FROM runs busy WHERE busy.conversation_id = $1
                   AND busy.state IN ('queued', 'running', 'waiting', 'cancelling') AND busy.state <> 'queued')
             RETURNING id, tenant_id, agent_id",
            params![conversation, now],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Start { run: row.parse("id")?, tenant: row.parse("tenant_id")?, agent: row.parse("agent_id")? }))
}

/// Runs that are at work as far as the database knows.
pub(in super::super) async fn at_work(connection: &impl Sql) -> Result<Vec<Run>, Error> {
    let rows = connection
        .all(
            select!(
                "WHERE state IN ('queued', 'running', 'waiting', 'cancelling') AND state <> 'queued'
                 ORDER BY conversation_id, position"
            ),
            params![],
        )
        .await?;
    rows.iter().map(run).collect()
}

/// Conversations with a waiting run and none at work.
pub(in super::super) async fn idle_with_queue(connection: &impl Sql) -> Result<Vec<ConversationId>, Error> {
    let rows = connection
        .all(
            "SELECT DISTINCT conversation_id FROM runs waiting
             WHERE state IN ('queued', 'running', 'waiting', 'cancelling') AND state = 'queued'
               AND NOT EXISTS (SELECT 1 FROM runs busy WHERE busy.conversation_id = waiting.conversation_id
                   AND busy.state IN ('queued', 'running', 'waiting', 'cancelling') AND busy.state <> 'queued')",
            params![],
        )
        .await?;
    rows.iter().map(|row| row.parse("conversation_id")).collect()
}

/// Marks a run at work as being cancelled; false when it is not at work.
pub(in super::super) async fn set_cancelling(tx: &Tx, id: RunId) -> Result<bool, Error> {
    let sql = "UPDATE runs SET state = 'cancelling' WHERE id = $1 AND state IN ('running', 'waiting')";
    Ok(tx.run(sql, params![id]).await? == 1)
}

/// Marks a run at work as waiting. One that is being cancelled stays so.
pub(in super::super) async fn set_waiting(tx: &Tx, id: RunId) -> Result<(), Error> {
    tx.run("UPDATE runs SET state = 'waiting' WHERE id = $1 AND state = 'running'", params![id]).await?;
    Ok(())
}

/// Marks a waiting run as being at work again, and moves its deadline.
pub(in super::super) async fn set_running(tx: &Tx, id: RunId, waited_ms: i64) -> Result<(), Error> {
    tx.run(
        "UPDATE runs SET state = CASE WHEN state = 'waiting' THEN 'running' ELSE state END, deadline = deadline + $1
         WHERE id = $2 AND state IN ('waiting', 'cancelling')",
        params![waited_ms, id],
    )
    .await?;
    Ok(())
}

/// Writes a final state, once.
pub(in super::super) async fn finish(
    tx: &Tx,
    id: RunId,
    state: RunState,
    problem: Option<(&str, &str)>,
    now: i64,
) -> Result<Option<Run>, Error> {
    let row = tx
        .one(
            "UPDATE runs SET state = $1, code = $2, error = $3, finished_at = $4
             WHERE id = $5 AND state IN ('queued', 'running', 'waiting', 'cancelling')
             RETURNING id, tenant_id, conversation_id, parent_run_id, agent_id, user_id, impersonator_id, scopes, message_id,
                 state, code, error, input_tokens, output_tokens, cost_micros, context_cut, events_dropped, deadline, created_at, started_at,
                 finished_at",
            params![state.as_str(), problem.map(|(code, _)| code), problem.map(|(_, error)| error), now, id],
        )
        .await?;
    row.as_ref().map(run).transpose()
}

pub(in super::super) async fn add_usage(
    tx: &Tx,
    id: RunId,
    usage: Usage,
    cost: u64,
    context_cut: bool,
    model: Option<&str>,
) -> Result<(), Error> {
    tx.run(
        "UPDATE runs SET input_tokens = input_tokens + $1, output_tokens = output_tokens + $2,
             cost_micros = cost_micros + $3, context_cut = CASE WHEN $4 = 1 THEN 1 ELSE context_cut END,
             model = COALESCE($6, model) WHERE id = $5",
        params![usage.input_tokens, usage.output_tokens, cost, context_cut, id, model],
    )
    .await?;
    Ok(())
}
