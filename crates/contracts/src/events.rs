//! Events for the world outside, and the bus that carries them there.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::{AgentId, ConversationId, RunId, TenantId};

/// The version of all events, as consumers know it.
pub const VERSION: &str = "sa01-v1";

/// Where an event goes. A topic's events are of few types, each with a schema of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Messages that other systems send to agents.
    ConversationInbound,
    /// What agents answer, and how runs end.
    ConversationOutbound,
    /// Tool calls that begin.
    ToolRequests,
    /// Tool calls that have ended.
    ToolResults,
    /// Every entry of the audit.
    AuditEvents,
    /// What model calls took.
    LlmMetrics,
    /// Budgets that are nearly spent.
    BudgetEvents,
}

impl Topic {
    pub const ALL: &[Self] = &[
        Self::ConversationInbound,
        Self::ConversationOutbound,
        Self::ToolRequests,
        Self::ToolResults,
        Self::AuditEvents,
        Self::LlmMetrics,
        Self::BudgetEvents,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConversationInbound => "conversation.inbound",
            Self::ConversationOutbound => "conversation.outbound",
            Self::ToolRequests => "tool.requests",
            Self::ToolResults => "tool.results",
            Self::AuditEvents => "audit.events",
            Self::LlmMetrics => "llm.metrics",
            Self::BudgetEvents => "budget.events",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|topic| topic.as_str() == name)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that happened, as it is told outside.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The same however often it arrives: consumers leave out what they have had.
    pub id: String,
    pub topic: Topic,
    /// Its type, which names its schema.
    pub kind: &'static str,
    pub tenant: TenantId,
    pub about: About,
    /// Milliseconds since 1970.
    pub at: i64,
    /// What this type says beside what all events do.
    pub body: Value,
}

/// What an event belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct About {
    pub conversation: Option<ConversationId>,
    pub agent: Option<AgentId>,
    pub run: Option<RunId>,
}

impl Event {
    /// Events of one key stay in order: those of a conversation, else of a tenant.
    #[must_use]
    pub fn key(&self) -> String {
        self.about.conversation.map_or_else(|| self.tenant.to_string(), String::from)
    }

    /// Its text on the bus: the body, and what all events say.
    #[must_use]
    pub fn payload(&self) -> String {
        let mut whole = serde_json::Map::new();
        whole.insert("event_id".into(), self.id.as_str().into());
        whole.insert("type".into(), self.kind.into());
        whole.insert("version".into(), VERSION.into());
        whole.insert("tenant_id".into(), self.tenant.to_string().into());
        whole.insert("session_id".into(), self.about.conversation.map(String::from).into());
        whole.insert("persona_id".into(), self.about.agent.map(String::from).into());
        if let Value::Object(body) = &self.body {
            whole.extend(body.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        Value::Object(whole).to_string()
    }

    /// What consumers read without looking into the payload.
    #[must_use]
    pub fn headers(&self) -> Vec<Header> {
        let mut headers = vec![
            Header::new("tenant_id", self.tenant),
            Header::new("event_type", self.kind),
            Header::new("event_id", &self.id),
            Header::new("schema", schema_of(self.kind)),
            Header::new("timestamp_ms", self.at),
        ];
        let about = self.about;
        headers.extend(about.conversation.map(|id| Header::new("session_id", id)));
        headers.extend(about.agent.map(|id| Header::new("persona_id", id)));
        headers.extend(about.run.map(|id| Header::new("correlation_id", id)));
        headers
    }
}

/// The name of a type's schema.
#[must_use]
pub fn schema_of(kind: &str) -> String {
    format!("{kind}.{VERSION}")
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Header {
    pub name: String,
    pub value: String,
}

impl Header {
    pub fn new(name: &str, value: impl fmt::Display) -> Self {
        Self { name: name.to_owned(), value: value.to_string() }
    }
}

/// An event as a bus carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub topic: Topic,
    pub key: String,
    pub headers: Vec<Header>,
    pub payload: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Nothing is wrong with the letter: it is to be sent again once the bus is there.
    #[error("the event bus can't be reached: {0}")]
    Away(String),
    /// The bus does not take this letter. Another try may find that it does by then.
    #[error("the event bus refused the event: {0}")]
    Refused(String),
    /// No try will ever be taken: it is too large.
    #[error("the event bus will never take the event: {0}")]
    Impossible(String),
}

/// Carries letters, those of one key in order.
#[async_trait::async_trait]
pub trait EventBus: Send + Sync + fmt::Debug {
    /// Sends letters in this order and answers for each, once it is safe with the bus. A letter whose key had a failure
    /// before it may have been sent all the same: who wants order sends both again.
    async fn publish(&self, letters: Vec<Letter>) -> Vec<Result<(), BusError>>;

    /// Whether it can be reached, for readiness.
    async fn ready(&self) -> Result<(), BusError>;
}

/// An event that came from outside, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub topic: Topic,
    pub key: Vec<u8>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub payload: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// Nothing is wrong with the event: what it needs is away. It is handled again, however often, and all that come
    /// after it wait.
    #[error("what the event needs is away: {0}")]
    Away(String),
    /// Another try may succeed. After a few it is dead.
    #[error("{message}")]
    Again { code: String, message: String },
    /// No try will succeed: it is dead.
    #[error("{message}")]
    Never { code: String, message: String },
}

/// Does what events from outside ask for. The same one may come more than once.
#[async_trait::async_trait]
pub trait EventHandler: Send + Sync {
    async fn handle(&self, event: &Received) -> Result<(), HandleError>;
}
