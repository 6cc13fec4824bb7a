//! The SQL of conversations and their messages; branches, runs and events have files of their own.

pub(super) mod asks;
pub(super) mod branches;
pub(super) mod events;
mod migrations;
pub(super) mod runs;
pub(super) mod search;
pub(super) mod step_usage;
#[cfg(test)]
mod tests;
pub(super) mod usage;

use contracts::{
    AgentId, ConversationId, MessageId, TenantId,
    model::{Role, ToolRequest},
};
use platform::{
    database::{Error, Row, Sql, Tx},
    http::Timestamp,
    params,
};

pub(super) use migrations::MIGRATIONS;

use super::{
    api::{Conversation, Message},
    journal::NewMessage,
};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, agent_id, user_id, title, archived, created_at, updated_at, (SELECT state FROM runs ",
            "WHERE runs.conversation_id = conversations.id ORDER BY position DESC LIMIT 1) AS last_run_state ",
            "FROM conversations ",
            $rest
        )
    };
}

fn conversation(row: &Row) -> Result<Conversation, Error> {
    Ok(Conversation {
        id: row.parse("id")?,
        agent_id: row.parse("agent_id")?,
        user_id: row.parse("user_id")?,
        title: row.text_opt("title")?,
        archived: row.flag("archived")?,
        last_run_state: row.parse_opt("last_run_state")?,
        created_at: Timestamp(row.int("created_at")?),
        updated_at: Timestamp(row.int("updated_at")?),
    })
}

pub(super) async fn insert(tx: &Tx, tenant: TenantId, new: &Conversation) -> Result<(), Error> {
    tx.run(
        "INSERT INTO conversations (id, tenant_id, agent_id, user_id, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        params![new.id, tenant, new.agent_id, new.user_id, new.created_at.0, new.updated_at.0],
    )
    .await?;
    Ok(())
}

/// A conversation that is not deleted.
pub(super) async fn find(
    connection: &impl Sql,
    tenant: TenantId,
    id: ConversationId,
) -> Result<Option<Conversation>, Error> {
    let sql = select!("WHERE id = $1 AND tenant_id = $2 AND deleted_at IS NULL");
    connection.one(sql, params![id, tenant]).await?.as_ref().map(conversation).transpose()
}

/// A conversation that is deleted.
pub(super) async fn find_deleted(
    connection: &impl Sql,
    tenant: TenantId,
    id: ConversationId,
) -> Result<Option<Conversation>, Error> {
    let sql = select!("WHERE id = $1 AND tenant_id = $2 AND deleted_at IS NOT NULL AND ephemeral = 0");
    connection.one(sql, params![id, tenant]).await?.as_ref().map(conversation).transpose()
}

/// Which conversations a list has, and where its page begins.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    pub tenant: TenantId,
    pub archived: bool,
    pub agent: Option<AgentId>,
    /// Agents whose conversations are left out, as JSON.
    pub without: String,
    /// When the last one seen was updated, and its id.
    pub after: Option<(i64, ConversationId)>,
    pub limit: i64,
}

/// The last updated first.
pub(super) async fn page(connection: &impl Sql, shelf: &Shelf) -> Result<Vec<Conversation>, Error> {
    // Ids are hexadecimal, so `g` is after them all.
    let (at, id) = shelf.after.map_or((i64::MAX, "g".to_owned()), |(at, id)| (at, id.to_string()));
    let rows = match shelf.agent {
        None => {
            let sql = select!(
                "WHERE tenant_id = $1 AND archived = $2 AND deleted_at IS NULL AND (updated_at, id) < ($3, $4)
                   AND $6 NOT LIKE '%\"' || agent_id || '\"%'
                 ORDER BY updated_at DESC, id DESC LIMIT $5"
            );
            let without = shelf.without.as_str();
            connection.all(sql, params![shelf.tenant, shelf.archived, at, id, shelf.limit, without]).await?
        }
        Some(agent) => {
            let sql = select!(
                "WHERE tenant_id = $1 AND agent_id = $2 AND archived = $3 AND deleted_at IS NULL
                   AND (updated_at, id) < ($4, $5) ORDER BY updated_at DESC, id DESC LIMIT $6"
            );
            connection.all(sql, params![shelf.tenant, agent, shelf.archived, at, id, shelf.limit]).await?
        }
    };
    rows.iter().map(conversation).collect()
}

/// Gives a conversation a title, or puts it on the other shelf; what is absent stays.
pub(super) async fn update(
    tx: &Tx,
    tenant: TenantId,
    id: ConversationId,
    title: Option<&str>,
    archived: Option<bool>,
) -> Result<u64, Error> {
    tx.run(
        "UPDATE conversations SET title = COALESCE($1, title), archived = COALESCE($2, archived)
         WHERE id = $3 AND tenant_id = $4 AND deleted_at IS NULL",
        params![title, archived.map(i64::from), id, tenant],
    )
    .await
}

/// Gives a title to a conversation that has none; false when it has.
pub(super) async fn set_first_title(tx: &Tx, id: ConversationId, title: &str) -> Result<bool, Error> {
    let sql = "UPDATE conversations SET title = $1 WHERE id = $2 AND title IS NULL";
    Ok(tx.run(sql, params![title, id]).await? == 1)
}

/// Notes that something was said; false when the conversation is gone or deleted.
pub(super) async fn touch(tx: &Tx, id: ConversationId, now: i64) -> Result<bool, Error> {
    let sql = "UPDATE conversations SET updated_at = $1 WHERE id = $2 AND deleted_at IS NULL";
    Ok(tx.run(sql, params![now, id]).await? == 1)
}

/// Deletes, or with `None` restores; 0 when there was nothing to do.
pub(super) async fn set_deleted(
    tx: &Tx,
    tenant: TenantId,
    id: ConversationId,
    at: Option<i64>,
) -> Result<u64, Error> {
    let sql = "UPDATE conversations SET deleted_at = $1
               WHERE id = $2 AND tenant_id = $3 AND (deleted_at IS NULL) = ($1 IS NOT NULL)";
    tx.run(sql, params![at, id, tenant]).await
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

/// Whether there is a conversation, deleted or not.
pub(super) async fn any(connection: &impl Sql, tenant: TenantId) -> Result<bool, Error> {
    let sql = "SELECT 1 AS one FROM conversations WHERE tenant_id = $1 LIMIT 1";
    Ok(connection.one(sql, params![tenant]).await?.is_some())
}

/// What a message says.
pub(super) async fn content_of(connection: &impl Sql, id: MessageId) -> Result<Option<String>, Error> {
    let sql = "SELECT content FROM messages WHERE id = $1";
    connection.one(sql, params![id]).await?.map(|row| row.text("content")).transpose()
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
