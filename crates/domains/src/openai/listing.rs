//! What can be asked: the configured model by its name, and each agent that the caller may read.

use contracts::{Caller, policy::Resource};
use serde::Serialize;

use super::error::Error;
use crate::{App, agents, authority};

/// What an agent's name as a model begins with.
pub(super) const AGENT: &str = "agent/";

/// A model, or an agent that answers like one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = OpenAiModel)]
pub struct Model {
    /// What `model` is in a request: the model's name, or `agent/` and an agent's slug.
    pub id: String,
    /// Always `model`.
    pub object: &'static str,
    /// Seconds since 1970; 0 where it is not known.
    pub created: i64,
    pub owned_by: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = OpenAiModelList)]
pub struct ModelList {
    /// Always `list`.
    pub object: &'static str,
    pub data: Vec<Model>,
}

fn configured(app: &App) -> Model {
    Model { id: app.model.profile().name.clone(), object: "model", created: 0, owned_by: "install" }
}

fn of_agent(agent: &agents::Agent) -> Model {
    Model {
        id: format!("{AGENT}{}", agent.slug),
        object: "model",
        created: agent.created_at.0 / 1000,
        owned_by: "tenant",
    }
}

pub(super) async fn all(app: &App, caller: &Caller) -> Result<ModelList, Error> {
    authority::require(app, caller, "model:read", Resource::any("model")).await?;
    let mut data = vec![configured(app)];
    for agent in agents::every(app.database.read(), caller.tenant).await? {
        if authority::may(app, caller, "agent:read", Resource::new("agent", agent.id)).await? {
            data.push(of_agent(&agent));
        }
    }
    Ok(ModelList { object: "list", data })
}

pub(super) async fn one(app: &App, caller: &Caller, id: &str) -> Result<Model, Error> {
    authority::require(app, caller, "model:read", Resource::new("model", id)).await?;
    if let Some(slug) = id.strip_prefix(AGENT) {
        let agent = agents::find(app.database.read(), caller.tenant, slug).await?;
        let agent = agent.filter(|agent| !agent.archived).ok_or_else(|| Error::no_model(id))?;
        if !authority::may(app, caller, "agent:read", Resource::new("agent", agent.id)).await? {
            return Err(Error::no_model(id));
        }
        return Ok(of_agent(&agent));
    }
    if id == app.model.profile().name { Ok(configured(app)) } else { Err(Error::no_model(id)) }
}
