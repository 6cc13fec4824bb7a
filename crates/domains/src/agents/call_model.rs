//! The step that asks the model: bounds, context, budget, the call itself with its stream, and the record.
//!
//! Money is held in the commit that starts the attempt and settled in the commit that ends it. An attempt that a
//! crash cut off settles in full when the next one starts.

use std::{sync::Arc, time::Duration};

use contracts::{
    MessageId, ToolCallId,
    model::{ChatEvent, ChatRequest, ModelError, Role, ToolRequest, Usage},
};
use futures::StreamExt;
use platform::{
    durable::{Attempt, Begun, Completed, Effect, Options, Step, StepError},
    faults,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use super::{
    api::Agent,
    bounds, context,
    events::Told,
    form::Form,
    spans,
    store::{self, ToolCall},
    turn::Reply,
};
use crate::{
    App, agents,
    conversations::{
        self,
        journal::{self, NewMessage, Run, RunState},
    },
    models::{self, Charge, Price},
};

/// How long a piece of an answer waits for the next before both are committed.
const DELTA_WAIT: Duration = Duration::from_millis(50);
/// One call, however long it streams.
const CALL_TIMEOUT: Duration = Duration::from_secs(600);
/// An answer longer than this is ended here.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// An answer takes at most this part of a model's context: the rest is what it answers from.
const OUTPUT_PART: u32 = 4;
/// Tool calls taken from one answer.
const TOOL_CALLS_MAX: usize = 16;

/// Asks the model for the turn's `number`-th time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallModel {
    #[serde(rename = "n")]
    pub number: u32,
}

impl Step for CallModel {
    type Worker = App;
    type Output = Reply;
    const NAME: &'static str = "call_model";
    const OPTIONS: Options =
        Options { timeout: CALL_TIMEOUT, attempts_max: 3, backoff: Duration::from_millis(500) };

    async fn run(self, app: Arc<App>, mut attempt: Attempt) -> Result<Completed<Reply>, StepError> {
        let call = Call::prepare(&app, &attempt, self.number).await?;
        call.reserve(&app, &mut attempt).await?;
        let mut span = spans::chat(&app, &call.run, &call.model);
        let heard = call.listen(&app, &attempt).await;
        match &heard {
            Ok(answer) => spans::heard(
                &mut span,
                call.usage(&app, answer),
                spans::finish_reason(answer.stopped.is_some(), answer.cut, answer.tools.is_empty()),
            ),
            Err(failure) => span.fail(spans::code_of(&failure.error)),
        }
        drop(span);
        match heard {
            Ok(answer) => match call.fault(&answer) {
                Some(fault) => Err(call.ask_again(&app, &attempt, &answer, fault).await?),
                None => call.record(&app, attempt, answer).await,
            },
            Err(failure) => Err(call.give_up(&attempt, failure).await?),
        }
    }
}

/// Everything that one call needs, read before it starts.
struct Call {
    run: Run,
    agent: Agent,
    /// The model's name, whichever way it was chosen.
    model: String,
    request: ChatRequest,
    context_cut: bool,
    /// Names of functions that the asker runs.
    functions: Vec<String>,
    one_call: bool,
    form: Form,
    reserved: u64,
    price: Price,
    charge: Charge,
    /// The same at every attempt, so that a client knows what a `chat.reset` takes back.
    response_id: String,
    input_tokens: u32,
}

/// What the model said, up to where it ended or was stopped.
#[derive(Default)]
struct Answer {
    text: String,
    tools: Vec<ToolRequest>,
    usage: Option<Usage>,
    /// Text that is not committed as a delta yet.
    unsent: String,
    deltas: u64,
    stopped: Option<Stop>,
    /// The model reached its limit of tokens.
    cut: bool,
    complete: bool,
}

/// Why the model was not heard to its end.
#[derive(Clone, Copy)]
enum Stop {
    Cancelled,
    /// The turn's time is over.
    Late,
}

struct Failure {
    error: ModelError,
    heard: Answer,
}

impl Call {
    async fn prepare(app: &App, attempt: &Attempt, number: u32) -> Result<Self, StepError> {
        let run = journal::find_run(app.database.read(), attempt.run_id())
            .await?
            .ok_or_else(|| StepError::failed("no_run", "The run's row is gone."))?;
        let agent = agents::get(app.database.read(), run.tenant, run.agent)
            .await?
            .ok_or_else(|| StepError::failed("no_agent", "The agent is gone."))?;
        bounds::check(&run, &agent, number)?;
        let model = app.model.as_ref();
        let profile = model.profile();
        let brief = journal::brief_of(app.database.read(), run.id).await?;
        let last = number + 1 >= agent.limits.steps_max;
        let mut tools =
            if profile.tools && !last { app.tools.get().await?.specs_of(&agent.tools) } else { Vec::new() };
        let functions = brief.functions.iter().map(|function| function.name.clone()).collect();
        tools.extend(brief.functions);
        let output_tokens_max = agent.limits.output_tokens_max.min(profile.context_tokens / OUTPUT_PART);
        let output_tokens_max =
            brief.output_tokens_max.map_or(output_tokens_max, |asked| asked.min(output_tokens_max));
        let prompt = match brief.instructions.as_str() {
            "" => agent.prompt.clone(),
            more => format!("{}\n\n{more}", agent.prompt).trim_start().to_owned(),
        };
        let mut transcript = context::told(brief.context);
        transcript.extend(journal::transcript(app.database.read(), &run).await?);
        let fitted = context::fit(model, &prompt, &transcript, run.id, &tools, output_tokens_max)
            .ok_or_else(|| {
                let message = format!(
                    "The message does not fit the model's context of {} tokens: send a shorter one.",
                    profile.context_tokens
                );
                StepError::failed("context_exceeded", message)
            })?;
        let price = Price::of(&app.config);
        let most = Usage {
            input_tokens: u64::from(fitted.input_tokens),
            output_tokens: u64::from(output_tokens_max),
        };
        if run.usage.input_tokens + run.usage.output_tokens + most.input_tokens > agent.limits.tokens_max {
            return Err(StepError::failed(
                "tokens_exceeded",
                "The turn has used the tokens that its agent allows.",
            ));
        }
        let charge = Charge {
            tenant: run.tenant,
            user: run.user,
            run: run.id,
            ordinal: attempt.ordinal(),
            run_limit: agent.limits.cost_micros_max,
        };
        Ok(Self {
            response_id: attempt.idempotency_key(),
            model: agent.model.clone().unwrap_or_else(|| profile.name.clone()),
            request: ChatRequest {
                model: agent.model.clone(),
                messages: fitted.messages,
                tools,
                output_tokens_max,
                temperature: brief.temperature,
                response_format: brief.response_format.clone(),
            },
            functions,
            one_call: brief.one_call,
            form: Form::new(brief.response_format.as_ref()),
            context_cut: fitted.cut,
            input_tokens: fitted.input_tokens,
            reserved: price.cost(most),
            price,
            charge,
            run,
            agent,
        })
    }

    /// Starts the attempt and holds the money, in one commit. What an earlier attempt held settles in full.
    async fn reserve(&self, app: &App, attempt: &mut Attempt) -> Result<(), StepError> {
        let (charge, reserved, run) = (self.charge, self.reserved, self.run.id);
        let reset = json!({ "conversation_id": self.run.conversation, "response_id": self.response_id });
        faults::point("model_before_reserve");
        let begun = attempt
            .begin(Effect::Repeatable, move |tx, begun| {
                Box::pin(async move {
                    if begun == Begun::Again {
                        let ordinal = Some(charge.ordinal);
                        journal::settle_lost_calls(tx, charge.tenant, charge.user, run, ordinal).await?;
                        journal::emit(tx, run, "chat.reset", &reset).await?;
                    }
                    match models::reserve(tx, charge, reserved).await? {
                        Ok(()) => Ok(()),
                        Err(over) => Err(bounds::over_budget(over)),
                    }
                })
            })
            .await?;
        faults::point("model_reserved");
        if begun == Begun::Again {
            app.hub.wake(run);
        }
        Ok(())
    }

    /// Calls the model and commits its text piece by piece.
    async fn listen(&self, app: &App, attempt: &Attempt) -> Result<Answer, Failure> {
        let mut answer = Answer::default();
        let mut stream = app.model.chat(self.request.clone());
        let cancelled = attempt.cancelled();
        let late = tokio::time::sleep(bounds::time_left(&self.run));
        tokio::pin!(late);
        let mut send_at: Option<Instant> = None;
        loop {
            let event = tokio::select! {
                biased;
                () = cancelled.cancelled() => {
                    answer.stopped = Some(Stop::Cancelled);
                    break;
                }
                () = &mut late => {
                    answer.stopped = Some(Stop::Late);
                    break;
                }
                event = stream.next() => event,
                () = wait_until(send_at), if send_at.is_some() => {
                    send_at = None;
                    if let Err(error) = self.send(app, attempt, &mut answer).await {
                        // Superseded, or the database is gone: the commit at the end says which.
                        tracing::warn!(run = %self.run.id, %error, "a piece of an answer was not stored");
                    }
                    continue;
                }
            };
            match event {
                None => {
                    let error = ModelError::Interrupted("the answer has no end".into());
                    return Err(Failure { error, heard: answer });
                }
                Some(Err(error)) => return Err(Failure { error, heard: answer }),
                Some(Ok(ChatEvent::Delta(text))) => {
                    answer.text.push_str(&text);
                    answer.unsent.push_str(&text);
                    send_at.get_or_insert_with(|| Instant::now() + DELTA_WAIT);
                    if answer.text.len() > ANSWER_BYTES_MAX {
                        break;
                    }
                }
                Some(Ok(ChatEvent::Tool(call))) => answer.tools.push(call),
                Some(Ok(ChatEvent::Done { usage, cut_at_limit })) => {
                    answer.usage = usage;
                    answer.cut = cut_at_limit;
                    answer.complete = true;
                    break;
                }
            }
        }
        faults::point("model_streamed");
        Ok(answer)
    }

    async fn send(&self, app: &App, attempt: &Attempt, answer: &mut Answer) -> Result<(), StepError> {
        let (run, frame) = (self.run.id, self.delta_frame(answer));
        attempt
            .write(move |tx| Box::pin(async move { Ok(journal::emit(tx, run, "chat.delta", &frame).await?) }))
            .await?;
        app.hub.wake(run);
        Ok(())
    }

    fn delta_frame(&self, answer: &mut Answer) -> serde_json::Value {
        answer.deltas += 1;
        json!({
            "conversation_id": self.run.conversation,
            "response_id": self.response_id,
            "delta": std::mem::take(&mut answer.unsent),
            "index": answer.deltas,
        })
    }

    /// The real usage where the server told it, else an upper estimate of what was heard.
    fn usage(&self, app: &App, answer: &Answer) -> Usage {
        answer.usage.unwrap_or_else(|| {
            let arguments: u32 =
                answer.tools.iter().map(|call| app.model.count_tokens(&call.arguments)).sum();
            Usage {
                input_tokens: u64::from(self.input_tokens),
                output_tokens: u64::from(app.model.count_tokens(&answer.text) + arguments),
            }
        })
    }

    /// Commits the answer, its cost, its tool calls and the step, all at once.
    async fn record(
        self,
        app: &App,
        attempt: Attempt,
        mut answer: Answer,
    ) -> Result<Completed<Reply>, StepError> {
        let usage = self.usage(app, &answer);
        let cost = self.price.cost(usage);
        metrics::counter!("chat_tokens_total").increment(usage.input_tokens + usage.output_tokens);
        let asked = self.calls_of_the_asker(&mut answer);
        answer.tools.truncate(TOOL_CALLS_MAX);
        let calls: Vec<ToolCall> =
            if answer.stopped.is_some() || asked { Vec::new() } else { self.tool_calls(&answer) };
        let reply = match answer.stopped {
            Some(Stop::Cancelled) => Reply::Stopped,
            Some(Stop::Late) => Reply::Tools(Vec::new()),
            None if calls.is_empty() => Reply::Answered,
            None => Reply::Tools(calls.iter().map(|call| call.id).collect()),
        };
        let delta = (!answer.unsent.is_empty()).then(|| self.delta_frame(&mut answer));
        let mut done = json!({
            "conversation_id": self.run.conversation,
            "response_id": self.response_id,
            "token_count": usage.output_tokens,
            "content": answer.text,
        });
        if answer.cut {
            done["cut"] = json!(true);
        }
        if asked {
            done["tool_calls"] = json!(answer.tools);
        }
        let message = NewMessage {
            id: MessageId::new(),
            tenant: self.run.tenant,
            conversation: self.run.conversation,
            run: self.run.id,
            role: Role::Assistant,
            content: answer.text,
            tool_calls: if answer.stopped.is_some() { Vec::new() } else { answer.tools },
            tool_call_id: None,
        };
        let (run, charge, cut) = (self.run.id, self.charge, self.context_cut);
        let (model, told) = (self.model.clone(), Told::of(&self.run));
        let answered = reply == Reply::Answered;
        let silent = message.content.is_empty() && message.tool_calls.is_empty();
        let completed = attempt
            .complete(reply, move |tx| {
                Box::pin(async move {
                    models::settle(tx, charge, cost).await?;
                    journal::add_usage(tx, run, Some(charge.ordinal), usage, cost, cut, Some(&model)).await?;
                    told.model_call(tx, charge.ordinal, &model, usage, cost);
                    for call in &calls {
                        store::insert_call(tx, call).await?;
                    }
                    if let Some(delta) = delta {
                        journal::emit(tx, run, "chat.delta", &delta).await?;
                    }
                    // A stopped call that has said nothing leaves nothing behind.
                    if !silent || answered {
                        journal::add_message(tx, &message).await?;
                    }
                    if answered {
                        told.answer(tx, &message, done["cut"] == true);
                        journal::emit(tx, run, "chat.done", &done).await?;
                        journal::finish(tx, run, RunState::Completed, None).await?;
                    }
                    faults::point("model_before_commit");
                    Ok(())
                })
            })
            .await?;
        faults::point("model_committed");
        app.hub.wake(run);
        if answered {
            conversations::start_next(app, self.run.conversation).await?;
        }
        Ok(completed)
    }

    /// Leaves only calls of functions that the asker runs, if there are any: the run ends with them, and the agent's own
    /// calls of the same answer are not made.
    fn calls_of_the_asker(&self, answer: &mut Answer) -> bool {
        let theirs = |call: &ToolRequest| self.functions.contains(&call.name);
        if answer.stopped.is_some() || !answer.tools.iter().any(theirs) {
            return false;
        }
        answer.tools.retain(theirs);
        if self.one_call {
            answer.tools.truncate(1);
        }
        true
    }

    fn tool_calls(&self, answer: &Answer) -> Vec<ToolCall> {
        let call = |request: &ToolRequest| ToolCall {
            id: ToolCallId::new(),
            tenant: self.run.tenant,
            run: self.run.id,
            model_call_id: request.id.clone(),
            tool: request.name.clone(),
            arguments: request.arguments.clone(),
        };
        answer.tools.iter().map(call).collect()
    }

    /// What is wrong with the form of an answer. One that calls tools, or was stopped, has none yet.
    fn fault(&self, answer: &Answer) -> Option<String> {
        if answer.stopped.is_some() || !answer.tools.is_empty() {
            None
        } else {
            self.form.fault(&answer.text)
        }
    }

    /// Settles a call whose answer has not the form that was asked for; another try may have it.
    async fn ask_again(
        &self,
        app: &App,
        attempt: &Attempt,
        answer: &Answer,
        fault: String,
    ) -> Result<StepError, StepError> {
        let usage = self.usage(app, answer);
        self.settle_at(attempt, usage, self.price.cost(usage)).await?;
        Ok(StepError::retry("answer_misshapen", fault))
    }

    /// Settles a call that has no answer to keep.
    async fn settle_at(&self, attempt: &Attempt, usage: Usage, cost: u64) -> Result<(), StepError> {
        let (run, charge, model, told) = (self.run.id, self.charge, self.model.clone(), Told::of(&self.run));
        attempt
            .write(move |tx| {
                Box::pin(async move {
                    models::settle(tx, charge, cost).await?;
                    let ordinal = Some(charge.ordinal);
                    told.model_call(tx, charge.ordinal, &model, usage, cost);
                    Ok(journal::add_usage(tx, run, ordinal, usage, cost, false, Some(&model)).await?)
                })
            })
            .await
    }

    /// Settles a call that failed at what was heard of it, and says whether another try may help.
    async fn give_up(&self, attempt: &Attempt, failure: Failure) -> Result<StepError, StepError> {
        let Failure { error, heard } = failure;
        let code = spans::code_of(&error);
        let refused =
            matches!(error, ModelError::Refused(_) | ModelError::Unavailable(_)) && heard.text.is_empty();
        // What a provider took in before it broke off is charged, at most as much as was held.
        let cost = if refused { 0 } else { self.reserved };
        self.settle_at(attempt, Usage::default(), cost).await?;
        tracing::warn!(run = %self.run.id, agent = %self.agent.slug, %error, "a model call failed");
        Ok(match error {
            ModelError::Refused(_) => StepError::failed(code, error),
            ModelError::Unavailable(_) | ModelError::Garbage(_) | ModelError::Interrupted(_) => {
                StepError::retry(code, error)
            }
        })
    }
}

async fn wait_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}
