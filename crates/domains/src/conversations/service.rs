//! Conversations and runs: making, listing, sending, cancelling.

use contracts::{Caller, ConversationId, MessageId, RunId, model::Role, policy::Resource};
use platform::{
    database::Error as StoreError,
    durable::unix_ms,
    faults,
    http::{Page, PageRequest, Timestamp},
    idempotency::{self, Guard},
};
use serde_json::json;

use super::{
    MESSAGE_BYTES_MAX, QUEUED_RUNS_MAX,
    api::{Accepted, Conversation, Message, NewConversation, SendMessage},
    dispatch,
    journal::{self, NewMessage, NewRun, Run, RunState},
    store,
};
use crate::{
    App, agents, audit,
    authority::{self, Denied},
};

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("no such conversation or run")]
    NotFound,
    #[error("no agent has this slug or id; GET /api/v2/agents lists them")]
    NoSuchAgent,
    #[error("this agent is archived and answers no more; somebody who may change agents can bring it back")]
    AgentArchived,
    #[error("expected 1 to {MESSAGE_BYTES_MAX} bytes of text")]
    BadContent,
    #[error(
        "{QUEUED_RUNS_MAX} messages wait in this conversation already: let some be answered, or cancel some"
    )]
    TooManyQueued,
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error(transparent)]
    Idempotency(#[from] idempotency::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(super) async fn create(
    app: &App,
    caller: &Caller,
    new: NewConversation,
    guard: Guard,
) -> Result<Conversation, Error> {
    let permit =
        authority::require(app, caller, "conversation:create", Resource::any("conversation")).await?;
    let agent =
        agents::find(app.database.read(), caller.tenant, &new.agent).await?.ok_or(Error::NoSuchAgent)?;
    if agent.archived {
        return Err(Error::AgentArchived);
    }
    let conversation = Conversation {
        id: ConversationId::new(),
        agent_id: agent.id,
        user_id: caller.user,
        title: None,
        created_at: Timestamp(unix_ms()),
    };
    let tenant = caller.tenant;
    let entry = permit.entry(json!({ "id": conversation.id, "agent_id": agent.id }));
    app.database
        .write(move |tx| {
            Box::pin(async move {
                if let Some(earlier) = guard.earlier(tx).await? {
                    return Ok(earlier);
                }
                store::insert(tx, tenant, &conversation).await?;
                audit::add(tx, &entry).await?;
                guard.keep(tx, &conversation).await?;
                Ok(conversation)
            })
        })
        .await
}

pub(super) async fn list(
    app: &App,
    caller: &Caller,
    page: &PageRequest,
) -> Result<Page<Conversation>, Error> {
    authority::require(app, caller, "conversation:read", Resource::any("conversation")).await?;
    let rows = store::page(app.database.read(), caller.tenant, page).await?;
    Ok(page.page(rows, |conversation| conversation.id.to_string()))
}

pub(super) async fn get(app: &App, caller: &Caller, id: ConversationId) -> Result<Conversation, Error> {
    authority::require(app, caller, "conversation:read", Resource::new("conversation", id)).await?;
    store::find(app.database.read(), caller.tenant, id).await?.ok_or(Error::NotFound)
}

pub(super) async fn messages(
    app: &App,
    caller: &Caller,
    id: ConversationId,
    page: &PageRequest,
) -> Result<Page<Message>, Error> {
    authority::require(app, caller, "conversation:view_history", Resource::new("conversation", id)).await?;
    store::find(app.database.read(), caller.tenant, id).await?.ok_or(Error::NotFound)?;
    let rows = store::messages(app.database.read(), id, page).await?;
    Ok(page.page(rows, |message| message.id.to_string()))
}

/// What storing a message came to, besides the answer.
struct Stored {
    accepted: Accepted,
    /// The run is to be started now.
    start: bool,
    /// The run at work that the sender interrupts.
    interrupted: Option<RunId>,
}

/// Stores a message and its run in one commit, then sets it off. It waits behind the run at work, or interrupts it.
pub(super) async fn send(
    app: &App,
    caller: &Caller,
    id: ConversationId,
    new: SendMessage,
    guard: Guard,
) -> Result<Accepted, Error> {
    let resource = Resource::new("conversation", id);
    let permit = authority::require(app, caller, "conversation:send_message", resource).await?;
    if new.content.trim().is_empty() || new.content.len() > MESSAGE_BYTES_MAX {
        return Err(Error::BadContent);
    }
    let conversation = store::find(app.database.read(), caller.tenant, id).await?.ok_or(Error::NotFound)?;
    let agent = agents::get(app.database.read(), caller.tenant, conversation.agent_id).await?;
    let agent = agent.ok_or(Error::NoSuchAgent)?;
    if agent.archived {
        return Err(Error::AgentArchived);
    }
    let now = unix_ms();
    let message = NewMessage {
        id: MessageId::new(),
        tenant: caller.tenant,
        conversation: id,
        run: RunId::new(),
        role: Role::User,
        content: new.content,
        tool_calls: Vec::new(),
        tool_call_id: None,
    };
    let run = NewRun {
        id: message.run,
        tenant: caller.tenant,
        conversation: id,
        agent: agent.id,
        user: caller.user,
        scopes: caller.scopes.clone(),
        message: message.id,
        state: RunState::Queued,
        deadline: now.saturating_add(agent.limits.wall_clock_ms()),
        created_at: now,
    };
    let entry = permit.entry(json!({ "message_id": message.id, "run_id": run.id }));
    let interrupt = new.interrupt;
    let stored = app
        .database
        .write(move |tx| {
            Box::pin(async move {
                if let Some(accepted) = guard.earlier(tx).await? {
                    return Ok(Stored { accepted, start: false, interrupted: None });
                }
                let stored = store_message(tx, message, run, interrupt).await?;
                audit::add(tx, &entry).await?;
                guard.keep(tx, &stored.accepted).await?;
                faults::point("message_before_commit");
                Ok::<_, Error>(stored)
            })
        })
        .await?;
    faults::point("message_committed");
    if let Some(interrupted) = stored.interrupted {
        dispatch::cancel(app, interrupted).await;
    }
    if stored.start {
        dispatch::start(app, stored.accepted.run_id).await;
    }
    Ok(stored.accepted)
}

async fn store_message(
    tx: &platform::database::Tx,
    message: NewMessage,
    mut run: NewRun,
    interrupt: bool,
) -> Result<Stored, Error> {
    let (unfinished, at_work) = store::runs::unfinished(tx, run.conversation).await?;
    if unfinished >= QUEUED_RUNS_MAX {
        return Err(Error::TooManyQueued);
    }
    let start = unfinished == 0;
    if start {
        // Claimed in the same commit: nothing is ahead of it.
        run.state = RunState::Running;
    }
    journal::add_message(tx, &message).await?;
    store::runs::insert(tx, &run).await?;
    let interrupted = match at_work {
        Some(busy) if interrupt => store::runs::set_cancelling(tx, busy).await?.then_some(busy),
        _ => None,
    };
    let accepted = Accepted { message_id: message.id, run_id: run.id };
    Ok(Stored { accepted, start, interrupted })
}

pub(super) async fn get_run(app: &App, caller: &Caller, id: RunId) -> Result<Run, Error> {
    authority::require(app, caller, "conversation:read", Resource::new("run", id)).await?;
    store::runs::find_in(app.database.read(), caller.tenant, id).await?.ok_or(Error::NotFound)
}

/// The number of a run's last event so far, 0 when there is none.
pub(super) async fn last_event(app: &App, run: RunId) -> Result<i64, Error> {
    Ok(store::events::last(app.database.read(), run).await?)
}

/// Asks a run to stop. One that waits is over at once; one that has ended stays as it is.
pub(super) async fn cancel_run(app: &App, caller: &Caller, id: RunId) -> Result<Run, Error> {
    let permit = authority::require(app, caller, "conversation:update", Resource::new("run", id)).await?;
    store::runs::find_in(app.database.read(), caller.tenant, id).await?.ok_or(Error::NotFound)?;
    let entry = permit.entry(json!({ "cancel": true }));
    let run = app
        .database
        .write(move |tx| {
            Box::pin(async move {
                let run = journal::find_run(tx, id).await?.ok_or(Error::NotFound)?;
                match run.state {
                    RunState::Queued => journal::finish(tx, id, RunState::Cancelled, None).await?,
                    RunState::Running | RunState::Waiting => drop(store::runs::set_cancelling(tx, id).await?),
                    _ => return Ok(run),
                }
                audit::add(tx, &entry).await?;
                journal::find_run(tx, id).await?.ok_or(Error::NotFound)
            })
        })
        .await?;
    app.hub.wake(id);
    if run.state == RunState::Cancelling {
        dispatch::cancel(app, id).await;
    }
    Ok(run)
}

/// What other domains' tests may do here.
#[cfg(test)]
pub(crate) mod test_access {
    use super::*;

    pub(crate) async fn send(app: &App, caller: &Caller, content: &str, guard: Guard) -> RunId {
        let new = NewConversation { agent: "default".into() };
        let conversation = super::create(app, caller, new, guard.clone()).await.unwrap();
        let message = SendMessage { content: content.to_owned(), interrupt: false };
        super::send(app, caller, conversation.id, message, guard).await.unwrap().run_id
    }

    /// The kinds of a run's events, in order.
    pub(crate) async fn events(app: &App, run: RunId) -> Vec<String> {
        let events = store::events::after(app.database.read(), run, 0, 10_000).await.unwrap();
        events.into_iter().map(|event| event.kind).collect()
    }
}
