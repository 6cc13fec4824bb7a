//! The SQL of what a run was told beside its message, and of conversations that nobody keeps.

use contracts::{ConversationId, RunId, TenantId};
use platform::{
    database::{Error, Migration, Sql, Tx},
    params,
};

use super::super::{api::Conversation, journal::Brief};

pub(in super::super) const MIGRATION: Migration = Migration {
    name: "conversations_0004_asks",
    postgres: None,
    statements: &[
        "ALTER TABLE conversations ADD COLUMN ephemeral BIGINT NOT NULL DEFAULT 0",
        // There are only as many as requests under way.
        "CREATE INDEX conversations_ephemeral ON conversations (id) WHERE ephemeral = 1",
        "CREATE TABLE run_briefs (
            run_id TEXT PRIMARY KEY,
            brief TEXT NOT NULL
        )",
    ],
};

/// A conversation that is never shown and that is forgotten after its run: it is made as a deleted one, and can't be
/// restored.
pub(in super::super) async fn insert_ephemeral(
    tx: &Tx,
    tenant: TenantId,
    new: &Conversation,
) -> Result<(), Error> {
    tx.run(
        "INSERT INTO conversations (id, tenant_id, agent_id, user_id, created_at, updated_at, deleted_at, ephemeral)
         VALUES ($1, $2, $3, $4, $5, $6, $5, 1)",
        params![new.id, tenant, new.agent_id, new.user_id, new.created_at.0, new.updated_at.0],
    )
    .await?;
    Ok(())
}

pub(in super::super) async fn insert_brief(tx: &Tx, run: RunId, brief: &Brief) -> Result<(), Error> {
    let text = serde_json::to_string(brief).map_err(|error| Error::Corrupt(error.to_string()))?;
    tx.run("INSERT INTO run_briefs (run_id, brief) VALUES ($1, $2)", params![run, text]).await?;
    Ok(())
}

pub(in super::super) async fn brief(connection: &impl Sql, run: RunId) -> Result<Option<Brief>, Error> {
    let row = connection.one("SELECT brief FROM run_briefs WHERE run_id = $1", params![run]).await?;
    row.map(|row| row.json("brief")).transpose()
}

/// Ephemeral conversations in which nothing is at work, and nothing was since then: whoever asked may still be reading.
pub(in super::super) async fn left(
    connection: &impl Sql,
    before: i64,
) -> Result<Vec<(TenantId, ConversationId)>, Error> {
    let rows = connection
        .all(
            "SELECT tenant_id, id FROM conversations WHERE ephemeral = 1 AND created_at < $1
               AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.conversation_id = conversations.id
                   AND (runs.state IN ('queued', 'running', 'waiting', 'cancelling') OR runs.finished_at >= $1))",
            params![before],
        )
        .await?;
    rows.iter().map(|row| Ok((row.parse("tenant_id")?, row.parse("id")?))).collect()
}

/// Runs at work in ephemeral conversations.
pub(in super::super) async fn at_work(connection: &impl Sql) -> Result<Vec<RunId>, Error> {
    let rows = connection
        .all(
            "SELECT runs.id AS id FROM conversations JOIN runs ON runs.conversation_id = conversations.id
             WHERE conversations.ephemeral = 1 AND runs.state IN ('queued', 'running', 'waiting', 'cancelling')",
            params![],
        )
        .await?;
    rows.iter().map(|row| row.parse("id")).collect()
}

/// The runs of an ephemeral conversation.
pub(in super::super) async fn runs(tx: &Tx, conversation: ConversationId) -> Result<Vec<RunId>, Error> {
    let sql = "SELECT id FROM runs WHERE conversation_id = $1";
    tx.all(sql, params![conversation]).await?.iter().map(|row| row.parse("id")).collect()
}

/// Removes a run's events and what it was told.
pub(in super::super) async fn remove_run(tx: &Tx, run: RunId) -> Result<(), Error> {
    tx.run("DELETE FROM run_events WHERE run_id = $1", params![run]).await?;
    tx.run("DELETE FROM run_briefs WHERE run_id = $1", params![run]).await?;
    Ok(())
}

/// Removes an ephemeral conversation with its messages, and what its runs say; a kept one is left as it is.
pub(in super::super) async fn remove(tx: &Tx, conversation: ConversationId) -> Result<(), Error> {
    let removed =
        tx.run("DELETE FROM conversations WHERE id = $1 AND ephemeral = 1", params![conversation]).await?;
    if removed == 1 {
        tx.run("DELETE FROM messages WHERE conversation_id = $1", params![conversation]).await?;
        // What they took is part of the tenant's usage; what went wrong may quote what was said.
        tx.run("UPDATE runs SET error = NULL WHERE conversation_id = $1", params![conversation]).await?;
    }
    Ok(())
}
