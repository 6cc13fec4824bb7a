//! Conversations as a whole: making, listing, changing, deleting. Messages and runs have files of their own.

pub(super) mod asks;
pub(super) mod files;
pub(super) mod messages;
pub(super) mod runs;
pub(super) mod search;
pub(super) mod steps;

use contracts::{Caller, ConversationId, policy::Resource};
use platform::{
    database::Error as StoreError,
    durable::unix_ms,
    http::{Page, Timestamp},
    idempotency::{self, Guard},
};
use serde_json::json;

use super::{
    MESSAGE_BYTES_MAX, QUEUED_RUNS_MAX, TITLE_CHARS_MAX,
    api::{ChangeConversation, Conversation, ListQuery, NewConversation},
    dispatch,
    journal::{self, RunState},
    store::{self, Shelf},
};
use crate::{
    App, agents, audit,
    authority::{self, Denied},
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no such conversation or run")]
    NotFound,
    #[error("no agent has this slug or id; GET /api/v2/agents lists them")]
    NoSuchAgent,
    #[error("this agent is archived and answers no more; somebody who may change agents can bring it back")]
    AgentArchived,
    #[error("this conversation has no such run; GET /api/v2/conversations/ID/runs lists them")]
    NoSuchParent,
    #[error("the events of this request's run are past their time; its messages are in its conversation")]
    AnswerGone,
    #[error("expected 1 to {TITLE_CHARS_MAX} characters")]
    BadTitle,
    #[error("expected 1 to {MESSAGE_BYTES_MAX} bytes of text")]
    BadContent,
    #[error("expected the `next_cursor` of a page of this list")]
    BadCursor(&'static str),
    #[error("expected 1 to {0} characters with a word among them")]
    BadQuery(usize),
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

/// A conversation as the policy sees it: whose it is and with which agent, where there is one.
pub(super) fn resource(id: ConversationId, found: Option<&Conversation>) -> Resource {
    let mut resource = Resource::new("conversation", id);
    if let Some(found) = found {
        resource.attributes = json!({ "owner": found.user_id, "agent": found.agent_id });
    }
    resource
}

/// The conversation, if the caller may do this to it. The policy is asked about one that is not there as well, so that
/// who may do nothing learns nothing.
pub(super) async fn allowed(
    app: &App,
    caller: &Caller,
    action: &str,
    id: ConversationId,
) -> Result<(Conversation, authority::Permit), Error> {
    let found = store::find(app.database.read(), caller.tenant, id).await?;
    let permit = authority::require(app, caller, action, resource(id, found.as_ref())).await?;
    Ok((found.ok_or(Error::NotFound)?, permit))
}

pub(super) async fn create(
    app: &App,
    caller: &Caller,
    new: NewConversation,
    guard: Guard,
) -> Result<Conversation, Error> {
    let agent = agents::find(app.database.read(), caller.tenant, &new.agent).await?;
    let mut resource = Resource::any("conversation");
    if let Some(agent) = &agent {
        resource = resource.of_agent(agent.id);
    }
    let permit = authority::require(app, caller, "conversation:create", resource).await?;
    let agent = agent.ok_or(Error::NoSuchAgent)?;
    if agent.archived {
        return Err(Error::AgentArchived);
    }
    let now = Timestamp(unix_ms());
    let conversation = Conversation {
        id: ConversationId::new(),
        agent_id: agent.id,
        user_id: caller.user,
        title: None,
        archived: false,
        last_run_state: None,
        created_at: now,
        updated_at: now,
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

/// The cursor of this list: when the last one seen was updated, and its id.
fn cursor(conversation: &Conversation) -> String {
    format!("{}.{}", conversation.updated_at.0, conversation.id)
}

fn parse_cursor(text: &str) -> Option<(i64, ConversationId)> {
    let (at, id) = text.split_once('.')?;
    Some((at.parse().ok()?, id.parse().ok()?))
}

pub(super) async fn list(
    app: &App,
    caller: &Caller,
    query: ListQuery,
    limit: u32,
) -> Result<Page<Conversation>, Error> {
    let agent = match &query.agent {
        None => None,
        Some(name) => Some(agents::find(app.database.read(), caller.tenant, name).await?),
    };
    let mut resource = Resource::any("conversation");
    if let Some(Some(agent)) = &agent {
        resource = resource.of_agent(agent.id);
    }
    authority::require(app, caller, "conversation:read", resource).await?;
    let after = match query.cursor.as_deref() {
        None | Some("") => None,
        Some(text) => Some(parse_cursor(text).ok_or(Error::BadCursor("cursor"))?),
    };
    let agent = match agent {
        None => None,
        Some(found) => Some(found.ok_or(Error::NoSuchAgent)?.id),
    };
    let shelf = Shelf {
        tenant: caller.tenant,
        archived: query.archived.unwrap_or(false),
        agent,
        without: authority::denied_agents(app, caller, "conversation:read", "conversation").await,
        after,
        limit: i64::from(limit) + 1,
    };
    let mut items = store::page(app.database.read(), &shelf).await?;
    let more = items.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    items.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next_cursor = if more { items.last().map(cursor) } else { None };
    Ok(Page { items, next_cursor })
}

pub(super) async fn get(app: &App, caller: &Caller, id: ConversationId) -> Result<Conversation, Error> {
    Ok(allowed(app, caller, "conversation:read", id).await?.0)
}

pub(super) async fn change(
    app: &App,
    caller: &Caller,
    id: ConversationId,
    change: ChangeConversation,
) -> Result<Conversation, Error> {
    let (_, permit) = allowed(app, caller, "conversation:update", id).await?;
    let title = change.title.map(|title| title.trim().to_owned());
    if title.as_ref().is_some_and(|title| !(1..=TITLE_CHARS_MAX).contains(&title.chars().count())) {
        return Err(Error::BadTitle);
    }
    let archived = change.archived;
    let entry = permit.entry(json!({ "title": title, "archived": archived }));
    let tenant = caller.tenant;
    app.database
        .write(move |tx| {
            Box::pin(async move {
                if store::update(tx, tenant, id, title.as_deref(), archived).await? == 0 {
                    return Err(Error::NotFound);
                }
                audit::add(tx, &entry).await?;
                store::find(tx, tenant, id).await?.ok_or(Error::NotFound)
            })
        })
        .await
}

/// Hides a conversation and stops what is at work or waits in it.
pub(super) async fn delete(app: &App, caller: &Caller, id: ConversationId) -> Result<(), Error> {
    let (_, permit) = allowed(app, caller, "conversation:delete", id).await?;
    let entry = permit.entry(json!({ "deleted": true }));
    let tenant = caller.tenant;
    let stopped = app
        .database
        .write(move |tx| {
            Box::pin(async move {
                if store::set_deleted(tx, tenant, id, Some(unix_ms())).await? == 0 {
                    return Err(Error::NotFound);
                }
                let open = store::runs::open(tx, id).await?;
                for (run, state) in &open {
                    if *state == RunState::Queued {
                        journal::finish(tx, *run, RunState::Cancelled, None).await?;
                    } else {
                        store::runs::set_cancelling(tx, *run).await?;
                    }
                }
                audit::add(tx, &entry).await?;
                Ok(open)
            })
        })
        .await?;
    for (run, state) in stopped {
        app.hub.wake(run);
        if state != RunState::Queued {
            dispatch::cancel(app, run).await;
        }
    }
    Ok(())
}

pub(super) async fn restore(app: &App, caller: &Caller, id: ConversationId) -> Result<Conversation, Error> {
    let found = store::find_deleted(app.database.read(), caller.tenant, id).await?;
    let permit = authority::require(app, caller, "conversation:delete", resource(id, found.as_ref())).await?;
    let entry = permit.entry(json!({ "deleted": false }));
    let tenant = caller.tenant;
    app.database
        .write(move |tx| {
            Box::pin(async move {
                if store::set_deleted(tx, tenant, id, None).await? == 0 {
                    return Err(Error::NotFound);
                }
                audit::add(tx, &entry).await?;
                store::find(tx, tenant, id).await?.ok_or(Error::NotFound)
            })
        })
        .await
}

/// What other domains' tests may do here.
#[cfg(test)]
pub(crate) mod test_access {
    use contracts::RunId;

    use super::{super::api::SendMessage, *};

    pub(crate) async fn send(app: &App, caller: &Caller, content: &str, guard: Guard) -> RunId {
        let new = NewConversation { agent: "default".into() };
        let conversation = super::create(app, caller, new, guard.clone()).await.unwrap();
        let message = SendMessage { content: content.to_owned(), interrupt: false, parent_run_id: None };
        super::messages::send(app, caller, conversation.id, message, guard).await.unwrap().run_id
    }

    /// The kinds of a run's events, in order.
    pub(crate) async fn events(app: &App, run: RunId) -> Vec<String> {
        let events = store::events::after(app.database.read(), run, 0, 10_000).await.unwrap();
        events.into_iter().map(|event| event.kind).collect()
    }

    /// The states of all runs at work.
    pub(crate) async fn run_states(app: &App) -> Vec<RunState> {
        store::runs::at_work(app.database.read()).await.unwrap().into_iter().map(|run| run.state).collect()
    }
}
