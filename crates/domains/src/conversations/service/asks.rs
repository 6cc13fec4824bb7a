//! Questions to an agent by one request: what the request carries beside the message goes along as a brief, and
//! nothing is left of it afterwards unless it is to be kept.
//!
//! A run is durable while it works, so a question that nobody keeps has a conversation too: one that no list and no
//! look-up finds, and that is removed, with its messages, events and workspace, when its run is over.

use std::sync::Arc;

use contracts::{
    Caller, ConversationId, MessageId, RunId, TenantId,
    engine::Start,
    model::{ChatMessage, Role},
    policy::Resource,
};
use platform::{
    config::WorkflowChoice,
    database::{Error as StoreError, Tx},
    durable::unix_ms,
    http::Timestamp,
    idempotency::Guard,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Error, messages, resource, runs};
use crate::{
    App, agents, approvals, audit, authority,
    conversations::{
        MESSAGE_BYTES_MAX,
        api::Conversation,
        dispatch,
        journal::{self, Brief, NewMessage, NewRun, RunEvent, RunState},
        store::{self, asks, branches::Place},
    },
};

/// Events of a run that are read at once.
const EVENTS_MAX: i64 = 100_000;
/// How often conversations are looked for whose requests ended without forgetting them.
const SWEEP_EVERY: std::time::Duration = std::time::Duration::from_secs(30);
/// A request forgets its own conversation; the sweep takes those that are older.
const LEFT_MS: i64 = 60_000;

/// What somebody asks an agent.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub agent: agents::Agent,
    /// The user's message.
    pub message: String,
    /// What came after it: calls of the client's functions and their results.
    pub tail: Vec<ChatMessage>,
    pub brief: Brief,
    /// Whether the conversation is kept.
    pub keep: bool,
    /// Whether it is to be answered though nobody waits for the answer; only what is kept can be.
    pub background: bool,
    /// The kept run whose answer this follows.
    pub after: Option<RunId>,
    /// With a key, for a question that is kept: it is asked once, however often it comes.
    pub guard: Guard,
}

/// A question on its way.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub tenant: TenantId,
    pub conversation: ConversationId,
    pub run: RunId,
    pub kept: bool,
    /// The run goes on when its client goes away: it was asked for in the background, or under a key, with which its
    /// client may come again for the answer.
    pub unattended: bool,
    pub at: i64,
}

/// Stores the question and its run in one commit, then sets it off. One that came before under its key is the earlier one.
pub(crate) async fn ask(app: &App, caller: &Caller, question: Question) -> Result<Asked, Error> {
    if question.message.trim().is_empty() || question.message.len() > MESSAGE_BYTES_MAX {
        return Err(Error::BadContent);
    }
    let (conversation, new, permits) = match question.after {
        Some(run) => {
            const ACTION: &str = "conversation:send_message";
            let (_, conversation, permit) = runs::allowed(app, caller, ACTION, run).await?;
            // The next answer may be of another agent than the one before.
            let other = Resource::new("conversation", conversation.id).of_agent(question.agent.id);
            let to_other = authority::require(app, caller, ACTION, other).await?;
            (conversation, false, vec![permit, to_other])
        }
        None => {
            let any = Resource::any("conversation").of_agent(question.agent.id);
            let create = authority::require(app, caller, "conversation:create", any).await?;
            let conversation = conversation_with(&question.agent, caller);
            let about = resource(conversation.id, Some(&conversation));
            let send = authority::require(app, caller, "conversation:send_message", about).await?;
            (conversation, true, vec![create, send])
        }
    };
    let agent = question.agent.id;
    let now = unix_ms();
    let message = NewMessage {
        id: MessageId::new(),
        tenant: caller.tenant,
        conversation: conversation.id,
        run: RunId::new(),
        role: Role::User,
        content: question.message,
        tool_calls: Vec::new(),
        tool_call_id: None,
    };
    let run = NewRun {
        id: message.run,
        tenant: caller.tenant,
        conversation: conversation.id,
        agent,
        user: caller.user,
        scopes: caller.scopes.clone(),
        impersonator: caller.impersonator,
        message: message.id,
        state: RunState::Queued,
        deadline: now.saturating_add(question.agent.limits.wall_clock_ms()),
        created_at: now,
    };
    let asked = Asked {
        tenant: caller.tenant,
        conversation: conversation.id,
        run: run.id,
        kept: question.keep,
        unattended: question.keep && (question.background || question.guard.has_key()),
        at: now,
    };
    let details = json!({ "run_id": run.id, "kept": question.keep });
    let entries: Vec<audit::Entry> = permits.iter().map(|permit| permit.entry(details.clone())).collect();
    let (tail, brief, parent, guard) = (question.tail, question.brief, question.after, question.guard);
    let (answer, start) = app
        .database
        .write(move |tx| {
            Box::pin(async move {
                let start = if asked.kept {
                    if let Some(earlier) = guard.earlier::<Asked>(tx).await? {
                        return Ok((earlier, false));
                    }
                    if new {
                        store::insert(tx, asked.tenant, &conversation).await?;
                    }
                    messages::put(tx, message, run, parent.map(Some), false).await?.start
                } else {
                    asks::insert_ephemeral(tx, asked.tenant, &conversation).await?;
                    store_alone(tx, message, run).await?;
                    true
                };
                for said in tail {
                    journal::add_message(tx, &of_run(&asked, said)).await?;
                }
                asks::insert_brief(tx, asked.run, &brief).await?;
                for entry in &entries {
                    audit::add(tx, entry).await?;
                }
                if asked.kept {
                    guard.keep(tx, &asked).await?;
                }
                Ok::<_, Error>((asked, start))
            })
        })
        .await?;
    if start {
        dispatch::start(app, &Start { run: answer.run, tenant: caller.tenant, agent }).await;
    }
    if answer.run != asked.run {
        // An earlier one's answer: only what may still be read, and is there.
        if !runs::get(app, caller, answer.run).await?.events_kept {
            return Err(Error::AnswerGone);
        }
    }
    Ok(answer)
}

fn conversation_with(agent: &agents::Agent, caller: &Caller) -> Conversation {
    let now = Timestamp(unix_ms());
    Conversation {
        id: ConversationId::new(),
        agent_id: agent.id,
        user_id: caller.user,
        title: None,
        archived: false,
        last_run_state: None,
        created_at: now,
        updated_at: now,
    }
}

fn of_run(asked: &Asked, said: ChatMessage) -> NewMessage {
    NewMessage {
        id: MessageId::new(),
        tenant: asked.tenant,
        conversation: asked.conversation,
        run: asked.run,
        role: said.role,
        content: said.content,
        tool_calls: said.tool_calls,
        tool_call_id: said.tool_call_id,
    }
}

/// The one run of an ephemeral conversation.
async fn store_alone(tx: &Tx, message: NewMessage, mut run: NewRun) -> Result<(), Error> {
    run.state = RunState::Running;
    let place = Place { run: run.id, branch: run.id, position: 1 };
    journal::add_message(tx, &message).await?;
    Ok(store::runs::insert(tx, &run, None, &place).await?)
}

/// A run's events so far.
pub(crate) async fn events_of(app: &App, run: RunId) -> Result<Vec<RunEvent>, StoreError> {
    store::events::after(app.database.read(), run, 0, EVENTS_MAX).await
}

/// Stops a run whose asker went away.
pub(crate) async fn abandon(app: &App, run: RunId) -> Result<(), StoreError> {
    let cancelling = app
        .database
        .write(move |tx| {
            Box::pin(async move {
                if store::runs::set_cancelling(tx, run).await? {
                    return Ok(true);
                }
                // One that still waits for its turn has nothing to stop.
                if journal::find_run(tx, run).await?.is_some_and(|found| found.state == RunState::Queued) {
                    journal::finish(tx, run, RunState::Cancelled, None).await?;
                }
                Ok::<_, StoreError>(false)
            })
        })
        .await?;
    app.hub.wake(run);
    if cancelling {
        dispatch::cancel(app, run).await;
    }
    Ok(())
}

/// Removes an ephemeral conversation whose run is over, with all that was said and done in it. Its cost stays.
pub(crate) async fn forget(
    app: &App,
    tenant: TenantId,
    conversation: ConversationId,
) -> Result<(), StoreError> {
    app.database
        .write(move |tx| {
            Box::pin(async move {
                for run in asks::runs(tx, conversation).await? {
                    agents::forget_run(tx, run).await?;
                    approvals::forget_run(tx, run).await?;
                    asks::remove_run(tx, run).await?;
                }
                asks::remove(tx, conversation).await
            })
        })
        .await?;
    let Ok(toolbox) = app.tools.get().await else { return Ok(()) };
    let folder = toolbox.workspace_of(tenant, conversation);
    match tokio::fs::remove_dir_all(&folder).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, "a workspace that is not kept could not be removed");
        }
        _ => {}
    }
    Ok(())
}

/// Stops the runs that nobody waits for any more, where no other process can hold a request. Called before this one takes
/// any: a run of its own would look the same.
pub async fn abandon_left(app: &App) {
    if !matches!(app.config.workflows.choice, WorkflowChoice::Embedded) {
        return;
    }
    match asks::at_work(app.database.read()).await {
        Ok(runs) => {
            for run in runs {
                if let Err(error) = abandon(app, run).await {
                    tracing::error!(%run, %error, "a run that nobody waits for could not be stopped");
                }
            }
        }
        Err(error) => tracing::error!(%error, "runs that nobody waits for can't be looked for"),
    }
}

/// Until `stop`: forgets what requests left behind that a crash cut off.
pub async fn sweep(app: Arc<App>, stop: CancellationToken) {
    loop {
        match asks::left(app.database.read(), unix_ms() - LEFT_MS).await {
            Ok(left) => {
                for (tenant, conversation) in left {
                    if let Err(error) = forget(&app, tenant, conversation).await {
                        tracing::error!(%error, "a conversation that is not kept could not be removed");
                    }
                }
            }
            Err(error) => tracing::error!(%error, "conversations that are not kept can't be looked for"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(SWEEP_EVERY)).await.is_none() {
            return;
        }
    }
}
