//! Making, finding and changing agents.

use contracts::{AgentId, Caller, TenantId, policy::Resource};
use platform::{
    database::{Database, Error as StoreError, Sql},
    durable::unix_ms,
    http::{Page, PageRequest, Timestamp},
};
use serde_json::json;

use super::{
    api::{Agent, AgentChange, Limits, NewAgent},
    store,
};
use crate::{
    App, audit,
    authority::{self, Denied},
    tools::{NoTools, Toolbox},
};

const DEFAULT_SLUG: &str = "default";
const DEFAULT_PROMPT: &str = include_str!("../../../../prompts/default.md");
/// The default agent's tools.
const DEFAULT_TOOLS: [&str; 6] =
    ["code_execute", "file_list", "file_read", "file_write", "http_fetch", "timestamp"];

const SLUG_CHARS_MAX: usize = 64;
const NAME_CHARS_MAX: usize = 200;
const PROMPT_BYTES_MAX: usize = 64 * 1024;
const STEPS_MAX: u32 = 100;
const WALL_CLOCK_S_MAX: u32 = 86_400;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("no such agent")]
    NotFound,
    #[error("another agent has this slug")]
    SlugTaken,
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
        limits: Limits::default(),
        created_at: now,
        updated_at: now,
    };
    database.write(move |tx| Box::pin(async move { store::insert(tx, tenant, &agent).await })).await?;
    Ok(())
}

pub(super) async fn list(app: &App, caller: &Caller, page: &PageRequest) -> Result<Page<Agent>, Error> {
    authority::require(app, caller, "agent:read", Resource::any("agent")).await?;
    let rows = store::page(app.database.read(), caller.tenant, page).await?;
    Ok(page.page(rows, |agent| agent.id.to_string()))
}

pub(super) async fn show(app: &App, caller: &Caller, agent: &str) -> Result<Agent, Error> {
    authority::require(app, caller, "agent:read", Resource::new("agent", agent)).await?;
    find(app.database.read(), caller.tenant, agent).await?.ok_or(Error::NotFound)
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
        limits: new.limits,
        created_at: now,
        updated_at: now,
    };
    check(&*app.tools.get().await?, &agent)?;
    let entry = permit.entry(json!({ "id": agent.id, "slug": agent.slug, "tools": agent.tools }));
    let tenant = caller.tenant;
    app.database
        .write(move |tx| {
            Box::pin(async move {
                if store::by_slug(tx, tenant, &agent.slug).await?.is_some() {
                    return Err(Error::SlugTaken);
                }
                store::insert(tx, tenant, &agent).await?;
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
    let permit = authority::require(app, caller, "agent:update", Resource::new("agent", agent)).await?;
    let mut agent = find(app.database.read(), caller.tenant, agent).await?.ok_or(Error::NotFound)?;
    agent.name = change.name.unwrap_or(agent.name);
    agent.prompt = change.prompt.unwrap_or(agent.prompt);
    agent.tools = change.tools.unwrap_or(agent.tools);
    agent.limits = change.limits.unwrap_or(agent.limits);
    agent.updated_at = Timestamp(unix_ms());
    check(&*app.tools.get().await?, &agent)?;
    let entry = permit.entry(json!({ "id": agent.id, "tools": agent.tools, "limits": agent.limits }));
    let tenant = caller.tenant;
    app.database
        .write(move |tx| {
            Box::pin(async move {
                store::update(tx, tenant, &agent).await?;
                audit::add(tx, &entry).await?;
                Ok(agent)
            })
        })
        .await
}

fn check(toolbox: &Toolbox, agent: &Agent) -> Result<(), Error> {
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
