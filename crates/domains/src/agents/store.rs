//! The SQL of agents and of the tool calls of their turns.

use contracts::{AgentId, RunId, TenantId, ToolCallId, UserId};
use platform::{
    database::{Error, Migration, Row, Sql, Tx},
    http::{PageRequest, Timestamp},
    params,
};

use super::api::{Agent, AgentVersion};

pub(super) const MIGRATIONS: &[Migration] = &[AGENTS, VERSIONS];

const AGENTS: Migration = Migration {
    name: "agents_0001_agents",
    postgres: None,
    statements: &[
        "CREATE TABLE agents (
            id TEXT PRIMARY KEY,
            tenant_id TEXT NOT NULL,
            slug TEXT NOT NULL,
            name TEXT NOT NULL,
            prompt TEXT NOT NULL,
            tools TEXT NOT NULL,
            limits TEXT NOT NULL,
            created_at BIGINT NOT NULL,
            updated_at BIGINT NOT NULL,
            UNIQUE (tenant_id, slug)
        )",
        "CREATE TABLE tool_calls (
            id TEXT PRIMARY KEY,
            tenant_id TEXT NOT NULL,
            run_id TEXT NOT NULL,
            model_call_id TEXT NOT NULL,
            tool TEXT NOT NULL,
            arguments TEXT NOT NULL,
            status TEXT,
            duration_ms BIGINT
        )",
        "CREATE INDEX tool_calls_run ON tool_calls (run_id, id)",
    ],
};

const VERSIONS: Migration = Migration {
    name: "agents_0002_versions",
    postgres: None,
    statements: &[
        "ALTER TABLE agents ADD COLUMN tools_ask TEXT NOT NULL DEFAULT '[]'",
        "ALTER TABLE agents ADD COLUMN model TEXT",
        "ALTER TABLE agents ADD COLUMN version BIGINT NOT NULL DEFAULT 1",
        "ALTER TABLE agents ADD COLUMN archived BIGINT NOT NULL DEFAULT 0",
        "CREATE TABLE agent_versions (
            agent_id TEXT NOT NULL,
            version BIGINT NOT NULL,
            author_id TEXT,
            created_at BIGINT NOT NULL,
            name TEXT NOT NULL,
            prompt TEXT NOT NULL,
            tools TEXT NOT NULL,
            tools_ask TEXT NOT NULL,
            limits TEXT NOT NULL,
            model TEXT,
            PRIMARY KEY (agent_id, version)
        )",
        "INSERT INTO agent_versions (agent_id, version, created_at, name, prompt, tools, tools_ask, limits)
         SELECT id, 1, updated_at, name, prompt, tools, '[]', limits FROM agents",
    ],
};

/// A call that a model asked for.
#[derive(Debug, Clone)]
pub(super) struct ToolCall {
    pub id: ToolCallId,
    pub tenant: TenantId,
    pub run: RunId,
    /// The model's own name for it.
    pub model_call_id: String,
    pub tool: String,
    pub arguments: String,
}

fn agent(row: &Row) -> Result<Agent, Error> {
    Ok(Agent {
        id: row.parse("id")?,
        slug: row.text("slug")?,
        name: row.text("name")?,
        prompt: row.text("prompt")?,
        tools: row.json("tools")?,
        tools_ask: row.json("tools_ask")?,
        limits: row.json("limits")?,
        model: row.text_opt("model")?,
        version: row.int("version")?,
        archived: row.flag("archived")?,
        created_at: Timestamp(row.int("created_at")?),
        updated_at: Timestamp(row.int("updated_at")?),
    })
}

fn text(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Corrupt(error.to_string()))
}

/// A new agent, and its first version.
pub(super) async fn insert(
    tx: &Tx,
    tenant: TenantId,
    agent: &Agent,
    author: Option<UserId>,
) -> Result<(), Error> {
    tx.run(
        "INSERT INTO agents (id, tenant_id, slug, name, prompt, tools, limits, created_at, updated_at, tools_ask,
             model, version, archived)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        params![
            agent.id,
            tenant,
            agent.slug.as_str(),
            agent.name.as_str(),
            agent.prompt.as_str(),
            text(&agent.tools)?,
            text(&agent.limits)?,
            agent.created_at.0,
            agent.updated_at.0,
            text(&agent.tools_ask)?,
            agent.model.clone(),
            agent.version,
            agent.archived
        ],
    )
    .await?;
    keep_version(tx, agent, author).await
}

/// Writes a change that makes version `agent.version`. False when somebody else made that version first.
pub(super) async fn update(
    tx: &Tx,
    tenant: TenantId,
    agent: &Agent,
    author: Option<UserId>,
) -> Result<bool, Error> {
    let changed = tx.run(
        "UPDATE agents SET name = $1, prompt = $2, tools = $3, limits = $4, updated_at = $5, tools_ask = $6,
             model = $7, version = $8
         WHERE id = $9 AND tenant_id = $10 AND version = $8 - 1",
        params![
            agent.name.as_str(),
            agent.prompt.as_str(),
            text(&agent.tools)?,
            text(&agent.limits)?,
            agent.updated_at.0,
            text(&agent.tools_ask)?,
            agent.model.clone(),
            agent.version,
            agent.id,
            tenant
        ],
    )
    .await?;
    if changed == 1 {
        keep_version(tx, agent, author).await?;
    }
    Ok(changed == 1)
}

pub(super) async fn set_archived(tx: &Tx, tenant: TenantId, agent: &Agent) -> Result<(), Error> {
    let sql = "UPDATE agents SET archived = $1, updated_at = $2 WHERE id = $3 AND tenant_id = $4";
    tx.run(sql, params![agent.archived, agent.updated_at.0, agent.id, tenant]).await?;
    Ok(())
}

async fn keep_version(tx: &Tx, agent: &Agent, author: Option<UserId>) -> Result<(), Error> {
    tx.run(
        "INSERT INTO agent_versions (agent_id, version, author_id, created_at, name, prompt, tools, tools_ask,
             limits, model)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        params![
            agent.id,
            agent.version,
            author.map(|author| author.to_string()),
            agent.updated_at.0,
            agent.name.as_str(),
            agent.prompt.as_str(),
            text(&agent.tools)?,
            text(&agent.tools_ask)?,
            text(&agent.limits)?,
            agent.model.clone()
        ],
    )
    .await?;
    Ok(())
}

macro_rules! select_version {
    ($rest:literal) => {
        concat!(
            "SELECT version, author_id, created_at, name, prompt, tools, tools_ask, limits, model FROM agent_versions ",
            $rest
        )
    };
}

fn version(row: &Row) -> Result<AgentVersion, Error> {
    Ok(AgentVersion {
        version: row.int("version")?,
        author_id: row.parse_opt("author_id")?,
        created_at: Timestamp(row.int("created_at")?),
        name: row.text("name")?,
        prompt: row.text("prompt")?,
        tools: row.json("tools")?,
        tools_ask: row.json("tools_ask")?,
        limits: row.json("limits")?,
        model: row.text_opt("model")?,
    })
}

pub(super) async fn find_version(
    connection: &impl Sql,
    agent: AgentId,
    number: i64,
) -> Result<Option<AgentVersion>, Error> {
    let sql = select_version!("WHERE agent_id = $1 AND version = $2");
    connection.one(sql, params![agent, number]).await?.as_ref().map(version).transpose()
}

/// Versions before `before`, newest first.
pub(super) async fn versions(
    connection: &impl Sql,
    agent: AgentId,
    before: i64,
    limit: i64,
) -> Result<Vec<AgentVersion>, Error> {
    let sql = select_version!("WHERE agent_id = $1 AND version < $2 ORDER BY version DESC LIMIT $3");
    connection.all(sql, params![agent, before, limit]).await?.iter().map(version).collect()
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, slug, name, prompt, tools, tools_ask, limits, model, version, archived, created_at, updated_at ",
            "FROM agents ",
            $rest
        )
    };
}

pub(super) async fn by_slug(
    connection: &impl Sql,
    tenant: TenantId,
    slug: &str,
) -> Result<Option<Agent>, Error> {
    let row = connection.one(select!("WHERE tenant_id = $1 AND slug = $2"), params![tenant, slug]).await?;
    row.as_ref().map(agent).transpose()
}

pub(super) async fn by_id(
    connection: &impl Sql,
    tenant: TenantId,
    id: AgentId,
) -> Result<Option<Agent>, Error> {
    let row = connection.one(select!("WHERE tenant_id = $1 AND id = $2"), params![tenant, id]).await?;
    row.as_ref().map(agent).transpose()
}

/// `without` are agents that are left out, as JSON.
pub(super) async fn page(
    connection: &impl Sql,
    tenant: TenantId,
    page: &PageRequest,
    without: &str,
) -> Result<Vec<Agent>, Error> {
    let after = page.after.clone().unwrap_or_default();
    let sql =
        select!("WHERE tenant_id = $1 AND id > $2 AND $4 NOT LIKE '%\"' || id || '\"%' ORDER BY id LIMIT $3");
    let values = params![tenant, after, page.rows_wanted(), without];
    connection.all(sql, values).await?.iter().map(agent).collect()
}

pub(super) async fn insert_call(tx: &Tx, call: &ToolCall) -> Result<(), Error> {
    tx.run(
        "INSERT INTO tool_calls (id, tenant_id, run_id, model_call_id, tool, arguments) VALUES ($1, $2, $3, $4, $5, $6)",
        params![
            call.id, call.tenant, call.run, call.model_call_id.as_str(), call.tool.as_str(), call.arguments.as_str()
        ],
    )
    .await?;
    Ok(())
}

/// A call as it is shown to people.
#[derive(Debug, Clone)]
pub(crate) struct CallRecord {
    pub id: ToolCallId,
    pub tool: String,
    /// As in `success`; none before it began, and `started` until it ends.
    pub status: Option<String>,
    pub duration_ms: Option<i64>,
}

macro_rules! select_call {
    ($rest:literal) => {
        concat!("SELECT id, tenant_id, run_id, model_call_id, tool, arguments FROM tool_calls ", $rest)
    };
}

fn call(row: &Row) -> Result<ToolCall, Error> {
    Ok(ToolCall {
        id: row.parse("id")?,
        tenant: row.parse("tenant_id")?,
        run: row.parse("run_id")?,
        model_call_id: row.text("model_call_id")?,
        tool: row.text("tool")?,
        arguments: row.text("arguments")?,
    })
}

/// Marks a call as begun: from here on it may have had its effect.
pub(super) async fn start_call(tx: &Tx, id: ToolCallId) -> Result<(), Error> {
    tx.run("UPDATE tool_calls SET status = 'started' WHERE id = $1", params![id]).await?;
    Ok(())
}

/// Calls of a run that began and have no result.
pub(super) async fn open_calls(tx: &Tx, run: RunId) -> Result<Vec<ToolCall>, Error> {
    let sql = select_call!("WHERE run_id = $1 AND status = 'started' ORDER BY id");
    tx.all(sql, params![run]).await?.iter().map(call).collect()
}

/// What became of a run's calls, in the order in which the model asked for them.
pub(super) async fn ended_calls(connection: &impl Sql, run: RunId) -> Result<Vec<CallRecord>, Error> {
    let sql = "SELECT id, tool, status, duration_ms FROM tool_calls WHERE run_id = $1 ORDER BY id";
    let rows = connection.all(sql, params![run]).await?;
    rows.iter()
        .map(|row| {
            Ok(CallRecord {
                id: row.parse("id")?,
                tool: row.text("tool")?,
                status: row.text_opt("status")?,
                duration_ms: row.int_opt("duration_ms")?,
            })
        })
        .collect()
}

pub(super) async fn find_call(
    connection: &impl Sql,
    run: RunId,
    id: ToolCallId,
) -> Result<Option<ToolCall>, Error> {
    let row = connection.one(select_call!("WHERE id = $1 AND run_id = $2"), params![id, run]).await?;
    row.as_ref().map(call).transpose()
}

pub(super) async fn finish_call(
    tx: &Tx,
    id: ToolCallId,
    status: &str,
    duration_ms: i64,
) -> Result<(), Error> {
    let sql = "UPDATE tool_calls SET status = $1, duration_ms = $2 WHERE id = $3";
    tx.run(sql, params![status, duration_ms, id]).await?;
    Ok(())
}

/// Removes a run's calls, with their arguments.
pub(super) async fn remove_calls(tx: &Tx, run: RunId) -> Result<(), Error> {
    tx.run("DELETE FROM tool_calls WHERE run_id = $1", params![run]).await?;
    Ok(())
}
