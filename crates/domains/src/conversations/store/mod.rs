//! The SQL of conversations and messages; runs and their events have files of their own.

pub(super) mod events;
pub(super) mod runs;

use contracts::{
    ConversationId, RunId, TenantId,
    model::{Role, ToolRequest},
};
use platform::{
    database::{Error, Migration, Row, Sql, Tx},
    http::{PageRequest, Timestamp},
    params,
};

use super::{
    api::{Conversation, Message},
    journal::NewMessage,
};

pub(super) const MIGRATIONS: &[Migration] = &[Migration {
    name: "conversations_0001_conversations",
    statements: &[
        "CREATE TABLE conversations (
            id TEXT PRIMARY KEY,
            tenant_id TEXT NOT NULL,
            agent_id TEXT NOT NULL,
            user_id TEXT NOT NULL,
            title TEXT,
            created_at BIGINT NOT NULL
        )",
        "CREATE INDEX conversations_tenant ON conversations (tenant_id, id)",
        "CREATE TABLE messages (
            id TEXT PRIMARY KEY,
            tenant_id TEXT NOT NULL,
            conversation_id TEXT NOT NULL,
            run_id TEXT NOT NULL,
            role TEXT NOT NULL,
            content TEXT NOT NULL,
            tool_calls TEXT NOT NULL,
            tool_call_id TEXT,
            created_at BIGINT NOT NULL
        )",
        // A run's messages lie together, in the order of the runs: a message that waits is not before the answer
        // to the one ahead of it.
        "CREATE INDEX messages_conversation ON messages (conversation_id, run_id, id)",
        "CREATE TABLE runs (
            id TEXT PRIMARY KEY,
            tenant_id TEXT NOT NULL,
            conversation_id TEXT NOT NULL,
            agent_id TEXT NOT NULL,
            user_id TEXT NOT NULL,
            scopes TEXT NOT NULL,
            message_id TEXT NOT NULL,
            state TEXT NOT NULL,
            code TEXT,
            error TEXT,
            input_tokens BIGINT NOT NULL DEFAULT 0,
            output_tokens BIGINT NOT NULL DEFAULT 0,
            cost_micros BIGINT NOT NULL DEFAULT 0,
            context_cut BIGINT NOT NULL DEFAULT 0,
            deadline BIGINT NOT NULL,
            created_at BIGINT NOT NULL,
            started_at BIGINT,
            finished_at BIGINT
        )",
        "CREATE INDEX runs_conversation ON runs (conversation_id, id)",
        // Only unfinished runs are ever looked for by state, and they are few.
        "CREATE INDEX runs_unfinished ON runs (state, conversation_id)
             WHERE state IN ('queued', 'running', 'waiting', 'cancelling')",
        "CREATE TABLE run_events (
            run_id TEXT NOT NULL,
            sequence BIGINT NOT NULL,
            kind TEXT NOT NULL,
            payload TEXT NOT NULL,
            created_at BIGINT NOT NULL,
            PRIMARY KEY (run_id, sequence)
        )",
    ],
}];

fn conversation(row: &Row) -> Result<Conversation, Error> {
    Ok(Conversation {
        id: row.parse("id")?,
        agent_id: row.parse("agent_id")?,
        user_id: row.parse("user_id")?,
        title: row.text_opt("title")?,
        created_at: Timestamp(row.int("created_at")?),
    })
}

pub(super) async fn insert(tx: &Tx, tenant: TenantId, new: &Conversation) -> Result<(), Error> {
    tx.run(
        "INSERT INTO conversations (id, tenant_id, agent_id, user_id, created_at) VALUES ($1, $2, $3, $4, $5)",
        params![new.id, tenant, new.agent_id, new.user_id, new.created_at.0],
    )
    .await?;
    Ok(())
}

pub(super) async fn find(
    connection: &impl Sql,
    tenant: TenantId,
    id: ConversationId,
) -> Result<Option<Conversation>, Error> {
    let row = connection
        .one(
            "SELECT id, agent_id, user_id, title, created_at FROM conversations WHERE id = $1 AND tenant_id = $2",
            params![id, tenant],
        )
        .await?;
    row.as_ref().map(conversation).transpose()
}

/// Newest first.
pub(super) async fn page(
    connection: &impl Sql,
    tenant: TenantId,
    page: &PageRequest,
) -> Result<Vec<Conversation>, Error> {
    // Ids are hexadecimal, so `g` is after them all.
    let before = page.after.clone().unwrap_or_else(|| "g".into());
    let rows = connection
        .all(
            "SELECT id, agent_id, user_id, title, created_at FROM conversations
             WHERE tenant_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
            params![tenant, before, page.rows_wanted()],
        )
        .await?;
    rows.iter().map(conversation).collect()
}

pub(super) async fn insert_message(tx: &Tx, message: &NewMessage, now: i64) -> Result<(), Error> {
    let tool_calls =
        serde_json::to_string(&message.tool_calls).map_err(|error| Error::Corrupt(error.to_string()))?;
    tx.run(
        "INSERT INTO messages (id, tenant_id, conversation_id, run_id, role, content, tool_calls, tool_call_id, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        params![
            message.id, message.tenant, message.conversation, message.run, message.role.as_str(),
            message.content.as_str(), tool_calls, message.tool_call_id.clone(), now
        ],
    )
    .await?;
    Ok(())
}

fn role(text: &str) -> Result<Role, Error> {
    let all = [Role::System, Role::User, Role::Assistant, Role::Tool];
    all.into_iter().find(|role| role.as_str() == text).ok_or_else(|| Error::Corrupt("messages.role".into()))
}

fn message(row: &Row) -> Result<Message, Error> {
    Ok(Message {
        id: row.parse("id")?,
        run_id: row.parse("run_id")?,
        role: role(&row.text("role")?)?,
        content: row.text("content")?,
        tool_calls: row.json::<Vec<ToolRequest>>("tool_calls")?,
        tool_call_id: row.text_opt("tool_call_id")?,
        created_at: Timestamp(row.int("created_at")?),
    })
}

/// A page of messages in the order in which they were said.
pub(super) async fn messages(
    connection: &impl Sql,
    conversation: ConversationId,
    page: &PageRequest,
) -> Result<Vec<Message>, Error> {
    let after = page.after.clone().unwrap_or_default();
    let rows = connection
        .all(
            "SELECT id, run_id, role, content, tool_calls, tool_call_id, created_at FROM messages
             WHERE conversation_id = $1
               AND (run_id, id) > (COALESCE((SELECT run_id FROM messages WHERE id = $2), ''), $2)
             ORDER BY run_id, id LIMIT $3",
            params![conversation, after, page.rows_wanted()],
        )
        .await?;
    rows.iter().map(message).collect()
}

/// The last messages up to and with a run's own, oldest first.
pub(super) async fn transcript(
    connection: &impl Sql,
    conversation: ConversationId,
    run: RunId,
    limit: i64,
) -> Result<Vec<Message>, Error> {
    let rows = connection
        .all(
            "SELECT id, run_id, role, content, tool_calls, tool_call_id, created_at FROM messages
             WHERE conversation_id = $1 AND run_id <= $2 ORDER BY run_id DESC, id DESC LIMIT $3",
            params![conversation, run, limit],
        )
        .await?;
    rows.iter().rev().map(message).collect()
}
