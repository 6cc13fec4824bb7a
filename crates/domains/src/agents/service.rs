//! Making, finding and changing agents.

use contracts::{AgentId, Caller, RunId, TenantId, policy::Resource};
use platform::{
    config::ModelChoice,
    database::{Database, Error as StoreError, Sql, Tx},
    durable::unix_ms,
    http::{Page, PageRequest, Timestamp},
};
use serde_json::json;

use super::{
    api::{Agent, AgentChange, AgentVersion, Limits, NewAgent},
    store,
};
use crate::{
    App, audit,
    authority::{self, Denied, Permit},
    tools::NoTools,
};

const DEFAULT_SLUG: &str = "default";
const DEFAULT_PROMPT: &str = include_str!("../../../../prompts/default.md");
/// The default agent's tools.
const DEFAULT_TOOLS: [&str; 6] =
    ["code_execute", "file_list", "file_read", "file_write", "http_fetch", "timestamp"];

/// Agents in a list without pages.
const LISTED_MAX: u32 = 1000;
const SLUG_CHARS_MAX: usize = 64;
const NAME_CHARS_MAX: usize = 200;
const PROMPT_BYTES_MAX: usize = 64 * 1024;
const MODEL_CHARS_MAX: usize = 200;
const STEPS_MAX: u32 = 100;
const WALL_CLOCK_S_MAX: u32 = 86_400;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("no such agent")]
    NotFound,
    #[error("the agent has no such version")]
    NoSuchVersion,
    #[error("another agent has this slug")]
    SlugTaken,
    #[error("somebody else changed this agent just now: read it again, then make your change")]
    Overtaken,
    #[error("{0}: {1}")]
    Invalid(&'static str, String),
    #[error(transparent)]
    NoTools(#[from] NoTools),
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Finds an agent by slug or id.
pub(crate) async fn find(
    connection: &impl Sql,
    tenant: TenantId,
    agent: &str,
) -> Result<Option<Agent>, StoreError> {
    match agent.parse() {
        Ok(id) => get(connection, tenant, id).await,
        Err(_) => store::by_slug(connection, tenant, agent).await,
    }
}

/// Removes what is kept of the tool calls of a run that is not kept.
pub(crate) async fn forget_run(tx: &Tx, run: RunId) -> Result<(), StoreError> {
    store::remove_calls(tx, run).await
}

/// A tenant's agents, at most so many as a list without pages can show.
pub(crate) async fn every(connection: &impl Sql, tenant: TenantId) -> Result<Vec<Agent>, StoreError> {
    store::page(connection, tenant, &PageRequest { limit: LISTED_MAX, after: None }, "[]").await
}

pub(crate) async fn get(
    connection: &impl Sql,
    tenant: TenantId,
    id: AgentId,
) -> Result<Option<Agent>, StoreError> {
    store::by_id(connection, tenant, id).await
}

/// Makes a tenant's agent `default`, unless it is there.
pub async fn ensure_default(database: &Database, tenant: TenantId) -> Result<(), StoreError> {
    if store::by_slug(database.read(), tenant, DEFAULT_SLUG).await?.is_some() {
        return Ok(());
    }
    database.write(move |tx| Box::pin(async move { add_default(tx, tenant).await })).await
}

/// Makes a new tenant's agent `default` within its own change.
pub(crate) async fn add_default(tx: &Tx, tenant: TenantId) -> Result<(), StoreError> {
    let now = Timestamp(unix_ms());
    #[cfg_attr(not(feature = "faults"), expect(unused_mut, reason = "a test build adds its tools"))]
    let mut tools = DEFAULT_TOOLS.map(str::to_owned).to_vec();
    #[cfg(feature = "faults")]
    tools
        .extend(["fx_repeatable", "fx_transactional", "fx_idempotent", "fx_at_most_once"].map(str::to_owned));
    let agent = Agent {
        id: AgentId::new(),
        slug: DEFAULT_SLUG.into(),
        name: "Assistant".into(),
        prompt: DEFAULT_PROMPT.trim().to_owned(),
        tools,
        tools_ask: Vec::new(),
        limits: Limits::default(),
        model: None,
        version: 1,
        archived: false,
        created_at: now,
        updated_at: now,
    };
    store::insert(tx, tenant, &agent, None).await?;
    Ok(())
}

pub(super) async fn list(app: &App, caller: &Caller, page: &PageRequest) -> Result<Page<Agent>, Error> {
    authority::require(app, caller, "agent:read", Resource::any("agent")).await?;
    let without = authority::denied_agents(app, caller, "agent:read", "agent").await;
    let rows = store::page(app.database.read(), caller.tenant, page, &without).await?;
    Ok(page.page(rows, |agent| agent.id.to_string()))
}

/// The agent, if the caller may do this to it. The policy is asked about one that is not there as well, so that who may
/// do nothing learns nothing.
async fn allowed(
    app: &App,
    caller: &Caller,
    action: &str,
    agent: &str,
) -> Result<(Agent, authority::Permit), Error> {
    let found = find(app.database.read(), caller.tenant, agent).await?;
    let mut resource = Resource::new("agent", agent);
    if let Some(found) = &found {
        resource = resource.of_agent(found.id);
    }
    let permit = authority::require(app, caller, action, resource).await?;
    Ok((found.ok_or(Error::NotFound)?, permit))
}

pub(super) async fn show(app: &App, caller: &Caller, agent: &str) -> Result<Agent, Error> {
    Ok(allowed(app, caller, "agent:read", agent).await?.0)
}

pub(super) async fn create(app: &App, caller: &Caller, new: NewAgent) -> Result<Agent, Error> {
    let permit = authority::require(app, caller, "agent:create", Resource::any("agent")).await?;
    let good_slug = (1..=SLUG_CHARS_MAX).contains(&new.slug.len())
        && new.slug.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
    if !good_slug || new.slug.parse::<AgentId>().is_ok() {
        let expected = format!("expected 1 to {SLUG_CHARS_MAX} lower-case letters, digits and hyphens");
        return Err(Error::Invalid("slug", expected));
    }
    let now = Timestamp(unix_ms());
    let agent = Agent {
        id: AgentId::new(),
        slug: new.slug,
        name: new.name,
        prompt: new.prompt,
        tools: new.tools,
        tools_ask: new.tools_ask,
        limits: new.limits,
        model: new.model,
        version: 1,
        archived: false,
        created_at: now,
        updated_at: now,
    };
    check(app, &agent).await?;
    let entry = permit.entry(json!({ "id": agent.id, "slug": agent.slug, "tools": agent.tools }));
    let (tenant, author) = (caller.tenant, Some(caller.user));
    app.database
        .write(move |tx| {
            Box::pin(async move {
                if store::by_slug(tx, tenant, &agent.slug).await?.is_some() {
                    return Err(Error::SlugTaken);
                }
                store::insert(tx, tenant, &agent, author).await?;
                audit::add(tx, &entry).await?;
                Ok(agent)
            })
        })
        .await
}

pub(super) async fn update(
    app: &App,
    caller: &Caller,
    agent: &str,
    change: AgentChange,
) -> Result<Agent, Error> {
    let (mut agent, permit) = allowed(app, caller, "agent:update", agent).await?;
    let before = agent.clone();
    agent.name = change.name.unwrap_or(agent.name);
    agent.prompt = change.prompt.unwrap_or(agent.prompt);
    agent.tools = change.tools.unwrap_or(agent.tools);
    agent.tools_ask = change.tools_ask.unwrap_or(agent.tools_ask);
    agent.limits = change.limits.unwrap_or(agent.limits);
    agent.model = change.model.unwrap_or(agent.model);
    agent.archived = change.archived.unwrap_or(agent.archived);
    write(app, caller, permit, before, agent).await
}

/// Archives an agent. One that is archived already stays so.
pub(super) async fn archive(app: &App, caller: &Caller, agent: &str) -> Result<(), Error> {
    let (before, permit) = allowed(app, caller, "agent:delete", agent).await?;
    let agent = Agent { archived: true, ..before.clone() };
    write(app, caller, permit, before, agent).await.map(drop)
}

pub(super) async fn versions(
    app: &App,
    caller: &Caller,
    agent: &str,
    before: Option<i64>,
    page: &PageRequest,
) -> Result<Page<AgentVersion>, Error> {
    let (agent, _) = allowed(app, caller, "agent:read", agent).await?;
    let before = before.unwrap_or(i64::MAX);
    let rows = store::versions(app.database.read(), agent.id, before, page.rows_wanted()).await?;
    Ok(page.page(rows, |version| version.version.to_string()))
}

pub(super) async fn restore(app: &App, caller: &Caller, agent: &str, version: i64) -> Result<Agent, Error> {
    let (before, permit) = allowed(app, caller, "agent:update", agent).await?;
    let earlier = store::find_version(app.database.read(), before.id, version).await?;
    let earlier = earlier.ok_or(Error::NoSuchVersion)?;
    let agent = Agent {
        name: earlier.name,
        prompt: earlier.prompt,
        tools: earlier.tools,
        tools_ask: earlier.tools_ask,
        limits: earlier.limits,
        model: earlier.model,
        ..before.clone()
    };
    write(app, caller, permit, before, agent).await
}

/// Writes a change, as a new version where it is one of what the agent says and may do.
async fn write(
    app: &App,
    caller: &Caller,
    permit: Permit,
    before: Agent,
    mut agent: Agent,
) -> Result<Agent, Error> {
    if agent == before {
        return Ok(agent);
    }
    let renewed = Agent { archived: before.archived, ..agent.clone() } != before;
    if renewed {
        check(app, &agent).await?;
        agent.version += 1;
    }
    agent.updated_at = Timestamp(unix_ms());
    let entry = permit.entry(json!({
        "id": agent.id, "version": agent.version, "archived": agent.archived,
        "tools": agent.tools, "tools_ask": agent.tools_ask, "limits": agent.limits, "model": agent.model,
    }));
    let (tenant, author) = (caller.tenant, Some(caller.user));
    app.database
        .write(move |tx| {
            Box::pin(async move {
                if renewed && !store::update(tx, tenant, &agent, author).await? {
                    return Err(Error::Overtaken);
                }
                if agent.archived != before.archived {
                    store::set_archived(tx, tenant, &agent).await?;
                }
                audit::add(tx, &entry).await?;
                Ok(agent)
            })
        })
        .await
}

async fn check(app: &App, agent: &Agent) -> Result<(), Error> {
    let toolbox = app.tools.get().await?;
    let invalid = |field, message: String| Err(Error::Invalid(field, message));
    if !(1..=NAME_CHARS_MAX).contains(&agent.name.chars().count()) {
        return invalid("name", format!("expected 1 to {NAME_CHARS_MAX} characters"));
    }
    if agent.prompt.len() > PROMPT_BYTES_MAX {
        return invalid("prompt", format!("expected at most {PROMPT_BYTES_MAX} bytes"));
    }
    if let Some(unknown) = agent.tools.iter().find(|name| toolbox.find(name).is_none()) {
        return invalid("tools", format!("there is no tool `{unknown}`; GET /api/v2/tools lists them"));
    }
    if let Some(stranger) = agent.tools_ask.iter().find(|name| !agent.tools.contains(name)) {
        return invalid("tools_ask", format!("`{stranger}` is not among the agent's tools"));
    }
    check_model(app, agent)?;
    let limits = &agent.limits;
    if !(1..=STEPS_MAX).contains(&limits.steps_max) {
        return invalid("limits.steps_max", format!("expected 1 to {STEPS_MAX}"));
    }
    if !(1..=WALL_CLOCK_S_MAX).contains(&limits.wall_clock_s) {
        return invalid("limits.wall_clock_s", format!("expected 1 to {WALL_CLOCK_S_MAX}"));
    }
    if limits.output_tokens_max == 0 {
        return invalid("limits.output_tokens_max", "expected at least 1".into());
    }
    Ok(())
}

fn check_model(app: &App, agent: &Agent) -> Result<(), Error> {
    let Some(model) = &agent.model else { return Ok(()) };
    let own = &app.model.profile().name;
    if app.config.model.choice == ModelChoice::Embedded && model != own {
        return Err(Error::Invalid("model", format!("this install has one model, `{own}`, in its process")));
    }
    if !(1..=MODEL_CHARS_MAX).contains(&model.chars().count()) || model.chars().any(char::is_control) {
        return Err(Error::Invalid("model", format!("expected 1 to {MODEL_CHARS_MAX} characters, or null")));
    }
    Ok(())
}
