//! What is asked of the policy and what it answers.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{AgentId, Caller, GrantId, TenantId, UserId};

/// The one question that every part of the program asks: may this subject do this to that?
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Request {
    pub tenant: TenantId,
    pub subject: Subject,
    /// `resource:action`, from the catalogue in `policy/`.
    pub action: String,
    pub resource: Resource,
    /// What else a rule may look at: for a tool call, the agent's tool list.
    #[serde(default)]
    pub context: Value,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Subject {
    pub user_id: UserId,
    pub roles: Vec<String>,
    pub scopes: Vec<String>,
    /// Who really acts, where somebody acts as this user. For the audit; no part of the question.
    #[serde(skip)]
    pub impersonator: Option<UserId>,
    #[serde(default)]
    pub grants: Vec<Grant>,
}

/// A right that was given to one user, or denied to them, beside their roles. Only those that have not ended are part
/// of a question.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grant {
    pub id: GrantId,
    /// The role that was given, where it was one.
    pub role: Option<String>,
    /// Patterns: the one that was given, or those of the tenant's own role. Empty for a role of the catalogue, whose
    /// patterns the policy knows.
    pub permissions: Vec<String>,
    pub effect: GrantEffect,
    pub scope: Scope,
    /// The one agent that it is about, where its scope is an agent.
    pub agent: Option<AgentId>,
}

/// A denial outranks whatever allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum GrantEffect {
    Allow,
    Deny,
}

/// How far an action, a role or a grant reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    Platform,
    Tenant,
    Agent,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resource {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    #[serde(default)]
    pub attributes: Value,
}

impl Resource {
    /// A resource named by kind and id, without attributes.
    pub fn new(kind: impl Into<String>, id: impl ToString) -> Self {
        Self { kind: kind.into(), id: Some(id.to_string()), attributes: Value::Null }
    }

    /// All resources of a kind: what a list or a creation is about.
    pub fn any(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), id: None, attributes: Value::Null }
    }

    /// Says to which agent the resource belongs, so that a grant about that agent counts.
    #[must_use]
    pub fn of_agent(mut self, agent: AgentId) -> Self {
        self.attributes = json!({ "agent": agent });
        self
    }
}

impl Request {
    pub fn new(caller: &Caller, action: &str, resource: Resource) -> Self {
        Self {
            tenant: caller.tenant,
            subject: Subject {
                user_id: caller.user,
                roles: caller.roles.clone(),
                scopes: caller.scopes.clone(),
                impersonator: caller.impersonator,
                grants: caller.grants.clone(),
            },
            action: action.to_owned(),
            resource,
            context: Value::Null,
        }
    }

    #[must_use]
    pub fn with_context(mut self, context: Value) -> Self {
        self.context = context;
        self
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    Allow,
    Deny,
    Ask,
}

impl Effect {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Ask => "ask",
        }
    }
}

/// What the reason of an undecided question begins with.
const UNDECIDED: &str = "policy_unavailable";

/// The policy's answer. `revision` names the policy text and data that gave it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub effect: Effect,
    pub reason: String,
    #[serde(default)]
    pub obligations: Value,
    #[serde(default)]
    pub revision: String,
}

impl Decision {
    #[must_use]
    pub fn deny(reason: &str, revision: &str) -> Self {
        Self {
            effect: Effect::Deny,
            reason: reason.to_owned(),
            obligations: Value::Null,
            revision: revision.to_owned(),
        }
    }

    /// Nobody could be asked, so it is a denial; the same question may be allowed once the policy answers again.
    #[must_use]
    pub fn undecided(why: &str, revision: &str) -> Self {
        Self::deny(&format!("{UNDECIDED}: {why}"), revision)
    }

    #[must_use]
    pub fn is_undecided(&self) -> bool {
        self.effect == Effect::Deny && self.reason.starts_with(UNDECIDED)
    }

    #[must_use]
    pub fn allowed(&self) -> bool {
        self.effect == Effect::Allow
    }
}
