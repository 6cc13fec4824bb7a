//! What a running turn reads and writes: its run, the messages, the events.
//!
//! Functions that take a `Tx` are part of the caller's change, so that a step's record and its messages commit
//! together.

use std::{fmt, str::FromStr};

use contracts::{
    AgentId, ConversationId, MessageId, RunId, TenantId, UserId,
    events::{About, Topic},
    model::{ChatMessage, Role, ToolRequest, ToolSpec, Usage},
};
use platform::{
    database::{Error, Sql, Tx},
    durable::unix_ms,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    api::Message,
    store::{self, branches},
};
use crate::{events, models};

/// Messages that a turn looks back on. Older ones would not fit a model's context anyway.
const TRANSCRIPT_MAX: i64 = 400;

/// The last event of every run.
pub(crate) const DONE: &str = "run.done";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    Queued,
    Running,
    Waiting,
    Cancelling,
    Completed,
    Failed,
    Cancelled,
}

impl RunState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Cancelling => "cancelling",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

#[derive(Debug)]
pub struct UnknownState;

impl fmt::Display for UnknownState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a run's state")
    }
}

impl FromStr for RunState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        let all = [
            Self::Queued,
            Self::Running,
            Self::Waiting,
            Self::Cancelling,
            Self::Completed,
            Self::Failed,
            Self::Cancelled,
        ];
        all.into_iter().find(|state| state.as_str() == text).ok_or(UnknownState)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub id: RunId,
    pub tenant: TenantId,
    pub conversation: ConversationId,
    /// The run whose answer this one's message follows.
    pub parent: Option<RunId>,
    pub agent: AgentId,
    pub user: UserId,
    /// Who really sent the message, where an administrator acted as the user.
    pub impersonator: Option<UserId>,
    /// Scopes of the credential that sent the message.
    pub scopes: Vec<String>,
    pub message: MessageId,
    pub state: RunState,
    pub code: Option<String>,
    pub error: Option<String>,
    pub usage: Usage,
    pub cost_micros: u64,
    pub context_cut: bool,
    /// False once its events are past their time.
    pub events_kept: bool,
    /// Milliseconds since 1970; a turn that is still at work then fails.
    pub deadline: i64,
    pub created_at: i64,
    pub started_at: Option<i64>,
    pub finished_at: Option<i64>,
}

#[derive(Debug, Clone)]
pub(super) struct NewRun {
    pub id: RunId,
    pub tenant: TenantId,
    pub conversation: ConversationId,
    pub agent: AgentId,
    pub user: UserId,
    pub impersonator: Option<UserId>,
    pub scopes: Vec<String>,
    pub message: MessageId,
    pub state: RunState,
    pub deadline: i64,
    pub created_at: i64,
}

#[derive(Debug, Clone)]
pub(crate) struct NewMessage {
    pub id: MessageId,
    pub tenant: TenantId,
    pub conversation: ConversationId,
    pub run: RunId,
    pub role: Role,
    pub content: String,
    pub tool_calls: Vec<ToolRequest>,
    pub tool_call_id: Option<String>,
}

/// What a run was told beside its message, where one request asks an agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Brief {
    /// Added after the agent's own prompt.
    pub instructions: String,
    /// What was said before, as the asker tells it.
    pub context: Vec<ChatMessage>,
    /// Functions that the asker runs: a call of one ends the run.
    pub functions: Vec<ToolSpec>,
    /// At most one such call in an answer.
    pub one_call: bool,
    /// The form that the answer must have, as OpenAI's protocol has it.
    pub response_format: Option<Value>,
    pub output_tokens_max: Option<u32>,
    pub temperature: Option<f32>,
}

/// A row of a run's stream. `payload` is JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunEvent {
    pub sequence: i64,
    pub kind: String,
    pub payload: String,
    pub created_at: i64,
}

/// What a run was told beside its message; nothing, for most.
pub(crate) async fn brief_of(connection: &impl Sql, run: RunId) -> Result<Brief, Error> {
    Ok(store::asks::brief(connection, run).await?.unwrap_or_default())
}

pub(crate) async fn find_run(connection: &impl Sql, run: RunId) -> Result<Option<Run>, Error> {
    store::runs::find(connection, run).await
}

/// A message as a model is shown it, and the run it belongs to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TranscriptMessage {
    pub run: RunId,
    pub message: ChatMessage,
}

/// What was said on this run's branch up to and with it, oldest first.
pub(crate) async fn transcript(connection: &impl Sql, run: &Run) -> Result<Vec<TranscriptMessage>, Error> {
    let way = branches::way_back(connection, run.id, TRANSCRIPT_MAX).await?;
    let mut messages =
        branches::messages_back(connection, run.conversation, &way, None, TRANSCRIPT_MAX).await?;
    messages.reverse();
    let shown = |message: Message| TranscriptMessage {
        run: message.run_id,
        message: ChatMessage {
            role: message.role,
            content: message.content,
            tool_calls: message.tool_calls,
            tool_call_id: message.tool_call_id,
        },
    };
    Ok(messages.into_iter().map(shown).collect())
}

pub(crate) async fn add_message(tx: &Tx, message: &NewMessage) -> Result<(), Error> {
    store::insert_message(tx, message, unix_ms()).await
}

/// Adds an event to the run's stream. Wake the hub once the change is committed.
pub(crate) async fn emit(tx: &Tx, run: RunId, kind: &str, payload: &Value) -> Result<(), Error> {
    store::events::append(tx, run, kind, payload, unix_ms()).await
}

/// Adds what a model call took to its run, and to its own step where that is known; notes which model it was.
pub(crate) async fn add_usage(
    tx: &Tx,
    run: RunId,
    ordinal: Option<u32>,
    usage: Usage,
    cost: u64,
    context_cut: bool,
    model: Option<&str>,
) -> Result<(), Error> {
    if let Some(ordinal) = ordinal {
        store::step_usage::add(tx, run, ordinal, usage, cost).await?;
    }
    store::runs::add_usage(tx, run, usage, cost, context_cut, model).await
}

/// Settles model calls that nobody will hear the end of, one step's or the whole run's, at all that was held for them,
/// and adds that to the run's cost: the two sums must stay equal.
pub(crate) async fn settle_lost_calls(
    tx: &Tx,
    tenant: TenantId,
    user: UserId,
    run: RunId,
    ordinal: Option<u32>,
) -> Result<(), Error> {
    let cost = models::settle_open(tx, tenant, user, run, ordinal).await?;
    add_usage(tx, run, ordinal, Usage::default(), cost, false, None).await
}

/// A run at work waits for a person from here on.
pub(crate) async fn wait(tx: &Tx, run: RunId) -> Result<(), Error> {
    store::runs::set_waiting(tx, run).await
}

/// A run that waited goes on; the time that it waited, in milliseconds, is added to what it may take.
pub(crate) async fn go_on(tx: &Tx, run: RunId, waited_ms: i64) -> Result<(), Error> {
    store::runs::set_running(tx, run, waited_ms).await
}

/// Ends a run, once, and tells its stream. `problem` is a code and what to do about it.
pub(crate) async fn finish(
    tx: &Tx,
    run: RunId,
    state: RunState,
    problem: Option<(&str, &str)>,
) -> Result<(), Error> {
    let now = unix_ms();
    let Some(ended) = store::runs::finish(tx, run, state, problem, now).await? else { return Ok(()) };
    store::touch(tx, ended.conversation, now).await?;
    if state == RunState::Failed
        && let Some((code, message)) = problem
    {
        emit(tx, run, "error", &json!({ "code": code, "message": message })).await?;
    }
    let done = done_frame(&ended);
    events::tell(
        tx,
        Topic::ConversationOutbound,
        events::RUN_DONE,
        ended.tenant,
        About::from(&ended),
        || {
            let mut metadata = done.clone();
            metadata["run_id"] = json!(run);
            metadata["code"] = json!(problem.map(|(code, _)| code));
            json!({ "role": Role::System, "message": problem.map(|(_, message)| message), "metadata": metadata })
        },
    );
    emit(tx, run, DONE, &done).await
}

/// The payload of `run.done`.
pub(super) fn done_frame(run: &Run) -> Value {
    json!({ "status": run.state, "usage": run.usage, "cost": models::dollars(run.cost_micros) })
}
