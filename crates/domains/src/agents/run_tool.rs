//! The step that runs one tool call: check, policy, the call itself by its effect class, and the record.
//!
//! Whatever goes wrong with a call is told to the model and the turn goes on; only the ledger's own failures end it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use contracts::{
    Caller, ConversationId, Credential, MessageId, ToolCallId,
    model::Role,
    policy::{Decision, Request, Resource},
};
use platform::{
    database::Tx,
    durable::{Attempt, Begun, Completed, Effect, Options, Step, StepError, unix_ms},
    faults,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::store::{self, ToolCall};
use crate::{
    App, agents, audit,
    conversations::journal::{self, NewMessage, Run},
    permissions,
    tools::{self, Outcome, Status, Tool, Toolbox},
};

/// Longer than any tool's own bound, so that the tool's comes first.
const STEP_TIMEOUT: Duration = Duration::from_secs(120);

const UNKNOWN: &str = "The program was stopped while this call was under way. Whether it took effect is not known, \
                       and it was not made again. Find out what happened before you repeat it.";

/// Makes the call with this id.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunTool {
    #[serde(rename = "c")]
    pub call: ToolCallId,
}

impl Step for RunTool {
    type Worker = App;
    type Output = ();
    const NAME: &'static str = "run_tool";
    const OPTIONS: Options =
        Options { timeout: STEP_TIMEOUT, attempts_max: 3, backoff: Duration::from_millis(200) };

    async fn run(self, app: Arc<App>, mut attempt: Attempt) -> Result<Completed<()>, StepError> {
        let started = Instant::now();
        let gone = |what: &str| StepError::failed("gone", format!("{what} is gone."));
        let call = store::find_call(app.database.read(), attempt.run_id(), self.call)
            .await?
            .ok_or_else(|| gone("The tool call"))?;
        let run = journal::find_run(app.database.read(), call.run).await?.ok_or_else(|| gone("The run"))?;
        let (request, decision) = decide(&app, &run, &call).await?;
        let entry = audit::Entry::new(&request, &decision, json!({ "call_id": self.call }));
        let mut record = Record { run, call, entry, opening: Some(Opening { request, decision }) };

        let toolbox = app.tools.get().await?;
        let outcome = match ready(&toolbox, &record) {
            Err(outcome) => outcome,
            Ok((tool, arguments)) => {
                let begun = begin(&app, &mut attempt, &mut record, tool.effect()).await?;
                if begun == Begun::Lost {
                    Outcome::of(Status::Unknown, UNKNOWN)
                } else {
                    call_tool(&toolbox, tool.as_ref(), &record, &attempt, arguments).await
                }
            }
        };
        metrics::counter!("tool_executor_requests_total", "tool" => record.call.tool.clone(), "status" => outcome.status.as_str())
            .increment(1);
        metrics::histogram!("tool_executor_execution_seconds", "tool" => record.call.tool.clone())
            .record(started.elapsed().as_secs_f64());
        complete(&app, attempt, record, outcome, started.elapsed()).await
    }
}

const CUT_OFF: &str = "The run ended while this call was under way.";

struct Record {
    run: Run,
    call: ToolCall,
    entry: audit::Entry,
    /// What the stream is told first; taken once it is committed.
    opening: Option<Opening>,
}

struct Opening {
    request: Request,
    decision: Decision,
}

/// The policy's word on this call: the agent's list and the rights of whoever sent the message, as they are now.
async fn decide(app: &App, run: &Run, call: &ToolCall) -> Result<(Request, Decision), StepError> {
    let agent = agents::get(app.database.read(), run.tenant, run.agent)
        .await?
        .ok_or_else(|| StepError::failed("no_agent", "The agent is gone."))?;
    let roles = permissions::roles_of(app.database.read(), run.tenant, run.user).await?;
    let scopes = run.scopes.clone();
    let caller = Caller {
        tenant: run.tenant,
        user: run.user,
        roles,
        scopes,
        expires_at: None,
        credential: Credential::Run(run.id),
        impersonator: None,
    };
    let request = Request::new(&caller, "tool:execute", Resource::new("tool", &call.tool))
        .with_context(json!({ "agent_tools": agent.tools }));
    let decision = app.policy.decide(&request);
    metrics::counter!("tool_executor_policy_decisions_total", "effect" => decision.effect.as_str())
        .increment(1);
    Ok((request, decision))
}

/// The tool and its checked arguments, or what the model is told instead.
fn ready(toolbox: &Toolbox, record: &Record) -> Result<(Arc<dyn Tool>, Value), Outcome> {
    // An unknown tool is told as that: the policy's denial would only puzzle the model.
    let arguments = toolbox.check(&record.call.tool, &record.call.arguments).map_err(Outcome::error)?;
    if let Some(Opening { decision, .. }) = &record.opening
        && !decision.allowed()
    {
        return Err(Outcome::of(Status::Blocked, format!("Not allowed: {}.", decision.reason)));
    }
    if unix_ms() > record.run.deadline {
        return Err(Outcome::of(Status::Timeout, "The turn's time is over."));
    }
    let tool = toolbox.find(&record.call.tool).ok_or_else(|| Outcome::error("There is no such tool."))?;
    if let Some(why) = tool.unavailable() {
        return Err(Outcome::error(format!("This tool can't work on this machine: {why}")));
    }
    Ok((tool, arguments))
}

async fn begin(
    app: &App,
    attempt: &mut Attempt,
    record: &mut Record,
    effect: Effect,
) -> Result<Begun, StepError> {
    let frames = record.opening_frames();
    let (run, entry, call) = (record.run.id, record.entry.clone(), record.call.id);
    faults::point("tool_before_start");
    let begun = attempt
        .begin(effect, move |tx, begun| {
            Box::pin(async move {
                if begun == Begun::Fresh {
                    for (kind, payload) in &frames {
                        journal::emit(tx, run, kind, payload).await?;
                    }
                    audit::add(tx, &entry).await?;
                    store::start_call(tx, call).await?;
                }
                Ok(())
            })
        })
        .await?;
    faults::point("tool_started");
    // Committed now, or by the attempt that was cut off.
    record.opening = None;
    app.hub.wake(run);
    Ok(begun)
}

async fn call_tool(
    toolbox: &Toolbox,
    tool: &dyn Tool,
    record: &Record,
    attempt: &Attempt,
    arguments: Value,
) -> Outcome {
    let (tenant, conversation) = (record.run.tenant, record.run.conversation);
    let call = tools::Call {
        tenant,
        conversation,
        run: record.run.id,
        arguments,
        workspace: toolbox.workspace_of(tenant, conversation),
        idempotency_key: attempt.idempotency_key(),
        cancel: attempt.cancelled(),
    };
    let timed = tokio::time::timeout(tools::CALL_TIMEOUT, tool.call(call)).await;
    faults::point("tool_effect_done");
    timed.unwrap_or_else(|_| {
        Outcome::of(Status::Timeout, format!("No result within {} s.", tools::CALL_TIMEOUT.as_secs()))
    })
}

async fn complete(
    app: &App,
    attempt: Attempt,
    record: Record,
    outcome: Outcome,
    took: Duration,
) -> Result<Completed<()>, StepError> {
    let duration_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
    let output = tools::bounded(outcome.output);
    let status = outcome.status.as_str();
    let ended = Ended {
        call: record.call.clone(),
        conversation: record.run.conversation,
        status,
        output,
        duration_ms,
    };
    // A call that was refused before it began says so to the stream and the audit here.
    let opening = record.opening.as_ref().map(|_| (record.opening_frames(), record.entry.clone()));
    let (run, change) = (record.run.id, outcome.change);
    let completed = attempt
        .complete((), move |tx| {
            Box::pin(async move {
                if let Some((frames, entry)) = opening {
                    for (kind, payload) in &frames {
                        journal::emit(tx, run, kind, payload).await?;
                    }
                    audit::add(tx, &entry).await?;
                }
                if let Some(change) = change {
                    change(tx).await?;
                }
                Ok(ended.write(tx).await?)
            })
        })
        .await?;
    faults::point("tool_committed");
    app.hub.wake(run);
    Ok(completed)
}

/// A call that is over, however it ended.
pub(super) struct Ended {
    pub call: ToolCall,
    pub conversation: ConversationId,
    pub status: &'static str,
    pub output: String,
    pub duration_ms: i64,
}

impl Ended {
    /// What is left of a call that began and that a cancelled or failed run will not hear of any more.
    pub(super) fn cut_off(toolbox: Option<&Toolbox>, call: ToolCall, conversation: ConversationId) -> Self {
        let effect = toolbox.and_then(|toolbox| toolbox.find(&call.tool)).map(|tool| tool.effect());
        // Unknown is said only where a repetition would do harm: somebody has to find out what happened.
        let (status, output) = match effect {
            Some(Effect::Repeatable | Effect::Transactional | Effect::Idempotent) => {
                (Status::Cancelled, CUT_OFF)
            }
            Some(Effect::AtMostOnce) | None => (Status::Unknown, UNKNOWN),
        };
        Self { call, conversation, status: status.as_str(), output: output.to_owned(), duration_ms: 0 }
    }

    /// Adds the result to the conversation, the record and the stream.
    pub(super) async fn write(self, tx: &Tx) -> Result<(), platform::database::Error> {
        let result = json!({
            "call_id": self.call.id, "status": self.status, "output": self.output, "duration_ms": self.duration_ms,
        });
        let message = NewMessage {
            id: MessageId::new(),
            tenant: self.call.tenant,
            conversation: self.conversation,
            run: self.call.run,
            role: Role::Tool,
            content: self.output,
            tool_calls: Vec::new(),
            tool_call_id: Some(self.call.model_call_id),
        };
        journal::add_message(tx, &message).await?;
        store::finish_call(tx, self.call.id, self.status, self.duration_ms).await?;
        journal::emit(tx, self.call.run, "tool.result", &result).await
    }
}

impl Record {
    fn opening_frames(&self) -> Vec<(&'static str, Value)> {
        let Some(Opening { request, decision }) = &self.opening else { return Vec::new() };
        // What is no JSON is shown as the text it is.
        let arguments: Value =
            serde_json::from_str(&self.call.arguments).unwrap_or_else(|_| json!(self.call.arguments));
        vec![
            (
                "tool.start",
                json!({ "call_id": self.call.id, "tool": self.call.tool, "arguments": arguments }),
            ),
            (
                "policy.decision",
                json!({
                    "call_id": self.call.id,
                    "action": request.action,
                    "resource": request.resource,
                    "effect": decision.effect,
                    "reason": decision.reason,
                    "revision": decision.revision,
                }),
            ),
        ]
    }
}
