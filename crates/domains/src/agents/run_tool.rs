//! The step that runs one tool call: check, policy, the call itself by its effect class, and the record.
//!
//! A call that the policy asks a person about ends its step with a question, and is made by a second step once
//! somebody has approved it. Whatever goes wrong with a call is told to the model and the turn goes on; only the
//! ledger's own failures end it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use contracts::{
    ApprovalId, ConversationId, MessageId, ToolCallId,
    model::Role,
    policy::{Decision, Effect as Answer, Request},
};
use platform::{
    database::Tx,
    durable::{Attempt, Begun, Completed, Effect, Options, Step, StepError, unix_ms},
    faults,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    events::{Told, shown},
    may_call::{decide, decided},
    spans,
    store::{self, ToolCall},
};
use crate::{
    App,
    approvals::{self, Approval, NewApproval},
    audit,
    conversations::journal::{self, NewMessage, Run},
    tenants::settings,
    tools::{self, Outcome, Status, Tool, Toolbox},
};

/// Longer than any tool's own bound, so that the tool's comes first.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(120);

const UNKNOWN: &str = "The program was stopped while this call was under way. Whether it took effect is not known, \
                       and it was not made again. Find out what happened before you repeat it.";

/// Makes the call with this id, or answers with the approval that it has to wait for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunTool {
    #[serde(rename = "c")]
    pub call: ToolCallId,
    /// The question that was asked about it, and decided.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalId>,
}

impl Step for RunTool {
    type Worker = App;
    type Output = Option<ApprovalId>;
    const NAME: &'static str = "run_tool";
    const OPTIONS: Options =
        Options { timeout: STEP_TIMEOUT, attempts_max: 3, backoff: Duration::from_millis(200) };

    async fn run(
        self,
        app: Arc<App>,
        mut attempt: Attempt,
    ) -> Result<Completed<Option<ApprovalId>>, StepError> {
        let started = Instant::now();
        let gone = |what: &str| StepError::failed("gone", format!("{what} is gone."));
        let call = store::find_call(app.database.read(), attempt.run_id(), self.call)
            .await?
            .ok_or_else(|| gone("The tool call"))?;
        let run = journal::find_run(app.database.read(), call.run).await?.ok_or_else(|| gone("The run"))?;
        // A run that was given up meanwhile says nothing more.
        if run.state.is_final() {
            return Err(StepError::failed("gone", "The run has ended."));
        }
        let (request, decision) = decide(&app, &run, &call).await?;
        let approval = match self.approval {
            Some(id) => {
                let found = approvals::find(app.database.read(), id).await?;
                Some(found.filter(|found| found.call == call.id).ok_or_else(|| gone("The approval"))?)
            }
            None => None,
        };
        let decision = match &approval {
            Some(approval) => decided(decision, approval),
            None => decision,
        };
        let entry = audit::Entry::new(
            &request,
            &decision,
            json!({ "call_id": self.call, "approval_id": self.approval }),
        );
        let mut record = Record { run, call, approval, entry, opening: Some(Opening { request, decision }) };

        let toolbox = app.tools.get().await?;
        let outcome = match ready(&toolbox, &record) {
            Err(Refusal::Ask) => return ask(&app, attempt, record).await,
            Err(Refusal::Told(outcome)) => outcome,
            Ok((tool, arguments)) => {
                let begun = begin(&app, &mut attempt, &mut record, tool.effect()).await?;
                if begun == Begun::Lost {
                    Outcome::of(Status::Unknown, UNKNOWN)
                } else if attempt.cancelled().is_cancelled() {
                    Outcome::of(Status::Cancelled, if begun == Begun::Fresh { NOT_MADE } else { CUT_OFF })
                } else {
                    let mut span = spans::execute_tool(&record.run, &record.call);
                    let outcome = call_tool(&toolbox, tool.as_ref(), &record, &attempt, arguments).await;
                    if outcome.status != Status::Success {
                        span.fail(outcome.status.as_str());
                    }
                    outcome
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

const NOT_MADE: &str = "The run was cancelled before this call was made.";
const CUT_OFF: &str = "The run ended while this call was under way.";

struct Record {
    run: Run,
    call: ToolCall,
    /// What a person decided about this call.
    approval: Option<Approval>,
    entry: audit::Entry,
    /// What the stream is told first; taken once it is committed.
    opening: Option<Opening>,
}

struct Opening {
    request: Request,
    decision: Decision,
}

/// What is said of a call before it is made: to the stream, to the audit, and outside.
#[derive(Clone)]
struct Said {
    told: Told,
    call: ToolCall,
    arguments: String,
    frames: Vec<(&'static str, Value)>,
    entry: audit::Entry,
    decision: Option<Decision>,
}

impl Said {
    async fn write(&self, tx: &Tx) -> Result<(), platform::database::Error> {
        for (kind, payload) in &self.frames {
            journal::emit(tx, self.call.run, kind, payload).await?;
        }
        // One that a person is asked about begins when they have answered.
        if let Some(decision) = self.decision.as_ref().filter(|decision| decision.effect != Answer::Ask) {
            self.told.tool_start(tx, &self.call, &self.arguments, decision);
        }
        audit::add(tx, &self.entry).await
    }
}

/// Why a call is not made now.
enum Refusal {
    /// A person has to decide.
    Ask,
    /// The model is told this instead.
    Told(Outcome),
}

impl From<Outcome> for Refusal {
    fn from(outcome: Outcome) -> Self {
        Self::Told(outcome)
    }
}

/// The tool and its checked arguments, or why it is not called.
fn ready(toolbox: &Toolbox, record: &Record) -> Result<(Arc<dyn Tool>, Value), Refusal> {
    // An unknown tool is told as that: the policy's denial would only puzzle the model.
    let arguments = toolbox.check(&record.call.tool, record.arguments()).map_err(Outcome::error)?;
    let effect = record.opening.as_ref().map(|opening| opening.decision.effect);
    if effect == Some(Answer::Deny) {
        return Err(Outcome::of(Status::Blocked, record.denial()).into());
    }
    if unix_ms() > record.run.deadline {
        return Err(Outcome::of(Status::Timeout, "The turn's time is over.").into());
    }
    let tool = toolbox.find(&record.call.tool).ok_or_else(|| Outcome::error("There is no such tool."))?;
    if let Some(why) = tool.unavailable() {
        return Err(Outcome::error(format!("This tool can't work on this machine: {why}")).into());
    }
    // Only what could be made is worth a person's time.
    if effect == Some(Answer::Ask) { Err(Refusal::Ask) } else { Ok((tool, arguments)) }
}

/// Ends the step with a question to a person. The run waits from the commit of the question.
async fn ask(
    app: &App,
    attempt: Attempt,
    record: Record,
) -> Result<Completed<Option<ApprovalId>>, StepError> {
    let (run, said) = (record.run.id, record.said());
    let expiry_ms = settings::approval_expiry_ms(app, record.run.tenant, record.run.agent).await?;
    let now = unix_ms();
    let new = NewApproval {
        id: ApprovalId::new(),
        tenant: record.run.tenant,
        run,
        conversation: record.run.conversation,
        agent: record.run.agent,
        call: record.call.id,
        tool: record.call.tool.clone(),
        arguments: record.call.arguments.clone(),
        reason: record.opening.map(|opening| opening.decision.reason).unwrap_or_default(),
        requested_by: record.run.user,
        requested_at: now,
        expires_at: now.saturating_add(expiry_ms),
    };
    faults::point("approval_before_request");
    let completed = attempt
        .complete(Some(new.id), move |tx| {
            Box::pin(async move {
                said.write(tx).await?;
                Ok(approvals::request(tx, &new).await?)
            })
        })
        .await?;
    faults::point("approval_requested");
    app.hub.wake(run);
    Ok(completed)
}

async fn begin(
    app: &App,
    attempt: &mut Attempt,
    record: &mut Record,
    effect: Effect,
) -> Result<Begun, StepError> {
    let (run, said, call) = (record.run.id, record.said(), record.call.id);
    let approval = record.approval.as_ref().map(|approval| approval.id);
    faults::point("tool_before_start");
    let begun = attempt
        .begin(effect, move |tx, begun| {
            Box::pin(async move {
                if begun == Begun::Fresh {
                    use_up(tx, approval).await?;
                    said.write(tx).await?;
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

/// An approval counts for one call, once.
async fn use_up(tx: &Tx, approval: Option<ApprovalId>) -> Result<(), StepError> {
    match approval {
        Some(approval) if !approvals::take(tx, approval).await? => {
            Err(StepError::failed("approval_used", "The approval of this call was used already."))
        }
        _ => Ok(()),
    }
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
) -> Result<Completed<Option<ApprovalId>>, StepError> {
    let duration_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
    let output = tools::bounded(record.annotated(outcome.output));
    let status = outcome.status.as_str();
    let ended = Ended {
        call: record.call.clone(),
        conversation: record.run.conversation,
        status,
        output,
        duration_ms,
    };
    // A call that was refused before it began says so to the stream and the audit here.
    let opening = record.opening.as_ref().map(|_| record.said());
    let approval = record.approval.as_ref().map(|approval| approval.id);
    let (run, change) = (record.run.id, outcome.change);
    let completed = attempt
        .complete(None, move |tx| {
            Box::pin(async move {
                if let Some(said) = opening {
                    use_up(tx, approval).await?;
                    said.write(tx).await?;
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
#[derive(Clone)]
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
            tool_call_id: Some(self.call.model_call_id.clone()),
        };
        let told = Told::of_call(&self.call, self.conversation);
        told.tool_result(tx, &self.call, self.status, &message.content, self.duration_ms);
        journal::add_message(tx, &message).await?;
        store::finish_call(tx, self.call.id, self.status, self.duration_ms).await?;
        journal::emit(tx, self.call.run, "tool.result", &result).await
    }
}

impl Record {
    /// What the tool is called with: the model's own words, or what a person made of them.
    fn arguments(&self) -> &str {
        self.approval.as_ref().and_then(Approval::approved).unwrap_or(&self.call.arguments)
    }

    /// What the model is told of a denial: the policy's reason, or the person's.
    fn denial(&self) -> String {
        let reason = self.opening.as_ref().map_or("", |opening| opening.decision.reason.as_str());
        match &self.approval {
            Some(approval) if approval.approved().is_none() => match &approval.decision_reason {
                Some(said) => format!("A person did not approve this call and said: {said}"),
                None => "Nobody approved this call in time.".to_owned(),
            },
            // What a person approved may have been forbidden since.
            _ => format!("Not allowed: {reason}."),
        }
    }

    /// Tells the model of arguments that a person changed.
    fn annotated(&self, output: String) -> String {
        match self.approval.as_ref().filter(|approval| approval.edited()).and_then(Approval::approved) {
            Some(arguments) => {
                format!("[a person changed the arguments of this call to {arguments}]\n{output}")
            }
            None => output,
        }
    }

    fn said(&self) -> Said {
        Said {
            told: Told::of(&self.run),
            frames: self.opening_frames(),
            call: self.call.clone(),
            arguments: self.arguments().to_owned(),
            entry: self.entry.clone(),
            decision: self.opening.as_ref().map(|opening| opening.decision.clone()),
        }
    }

    /// What the stream is told before the call. A call that was asked about was shown when it was asked.
    fn opening_frames(&self) -> Vec<(&'static str, Value)> {
        let Some(Opening { request, decision }) = &self.opening else { return Vec::new() };
        let arguments = shown(&self.call.arguments);
        let start = (
            "tool.start",
            json!({ "call_id": self.call.id, "tool": self.call.tool, "arguments": arguments }),
        );
        let decision = (
            "policy.decision",
            json!({
                "call_id": self.call.id,
                "action": request.action,
                "resource": request.resource,
                "effect": decision.effect,
                "reason": decision.reason,
                "revision": decision.revision,
            }),
        );
        if self.approval.is_some() { vec![decision] } else { vec![start, decision] }
    }
}
