//! Messages: reading a branch of them, sending one, and having one answered again.

use contracts::{Caller, ConversationId, MessageId, RunId, engine::Start, model::Role};
use platform::{database::Tx, durable::unix_ms, faults, http::Page, idempotency::Guard};
use serde_json::json;

use super::{Error, allowed, runs};
use crate::{
    App, agents, audit,
    authority::Permit,
    conversations::{
        MESSAGE_BYTES_MAX, QUEUED_RUNS_MAX, TITLE_AT_FIRST_CHARS,
        api::{Accepted, Conversation, Message, MessagesQuery, SendMessage},
        dispatch,
        journal::{self, NewMessage, NewRun, RunState},
        store::{
            self,
            branches::{self, Place},
        },
    },
};

/// What `before` says for the last page.
const END: &str = "end";

/// Segments of a way that a page from its start is looked for on. A conversation gets one for each message that is
/// edited or answered again on the way.
const SEGMENTS_MAX: i64 = 100_000;

pub(in super::super) async fn page(
    app: &App,
    caller: &Caller,
    id: ConversationId,
    query: MessagesQuery,
    limit: u32,
) -> Result<Page<Message>, Error> {
    allowed(app, caller, "conversation:view_history", id).await?;
    let connection = app.database.read();
    let leaf = match query.leaf.as_deref() {
        None => branches::newest(connection, id).await?,
        Some(run) => {
            let run: RunId = run.parse().map_err(|_| Error::NotFound)?;
            Some(branches::place_of(connection, id, run).await?.ok_or(Error::NotFound)?)
        }
    };
    let Some(leaf) = leaf else { return Ok(Page { items: Vec::new(), next_cursor: None }) };
    let wanted = i64::from(limit) + 1;
    let items_max = usize::try_from(limit).unwrap_or(usize::MAX);
    let cursor = query.cursor.filter(|cursor| !cursor.is_empty());
    if let Some(before) = query.before {
        if cursor.is_some() {
            return Err(Error::BadCursor("cursor"));
        }
        let mark = if before == END { None } else { Some(mark(app, id, &before, "before").await?) };
        let end = mark.as_ref().map_or(leaf.run, |mark| mark.place.run);
        // Each segment holds a message at least, so there are never more of them than messages wanted.
        let way = branches::way_back(connection, end, wanted).await?;
        let mut items = branches::messages_back(connection, id, &way, mark.as_ref(), wanted).await?;
        let more = items.len() > items_max;
        items.truncate(items_max);
        items.reverse();
        let next_cursor = if more { items.first().map(|message| message.id.to_string()) } else { None };
        return Ok(Page { items, next_cursor });
    }
    let mark = match cursor {
        None => None,
        Some(cursor) => Some(mark(app, id, &cursor, "cursor").await?),
    };
    let way = branches::way_back(connection, leaf.run, SEGMENTS_MAX).await?;
    let found = branches::messages_on(connection, id, &way, mark.as_ref(), wanted).await?;
    let mut items = found.ok_or(Error::BadCursor("cursor"))?;
    let more = items.len() > items_max;
    items.truncate(items_max);
    let next_cursor = if more { items.last().map(|message| message.id.to_string()) } else { None };
    Ok(Page { items, next_cursor })
}

async fn mark(
    app: &App,
    conversation: ConversationId,
    message: &str,
    parameter: &'static str,
) -> Result<branches::Mark, Error> {
    let message: MessageId = message.parse().map_err(|_| Error::BadCursor(parameter))?;
    let mark = branches::mark(app.database.read(), conversation, message).await?;
    mark.ok_or(Error::BadCursor(parameter))
}

/// What storing a message came to, besides the answer.
pub(super) struct Stored {
    accepted: Accepted,
    /// The run is to be started now.
    pub start: bool,
    /// The run at work that the sender interrupts.
    interrupted: Option<RunId>,
}

/// Stores a message and its run in one commit, then sets it off. It waits behind the run at work, or interrupts it.
pub(in super::super) async fn send(
    app: &App,
    caller: &Caller,
    id: ConversationId,
    new: SendMessage,
    guard: Guard,
) -> Result<Accepted, Error> {
    let (conversation, permit) = allowed(app, caller, "conversation:send_message", id).await?;
    submit(app, caller, conversation, permit, new, guard).await
}

/// The same, for who has only a text.
pub(crate) async fn send_text(
    app: &App,
    caller: &Caller,
    id: ConversationId,
    content: String,
    interrupt: bool,
    guard: Guard,
) -> Result<Accepted, Error> {
    send(app, caller, id, SendMessage { content, interrupt, parent_run_id: None }, guard).await
}

/// Sends a run's message once more, after the same parent.
pub(in super::super) async fn regenerate(
    app: &App,
    caller: &Caller,
    id: RunId,
    guard: Guard,
) -> Result<Accepted, Error> {
    let (run, conversation, permit) = runs::allowed(app, caller, "conversation:send_message", id).await?;
    let content = store::content_of(app.database.read(), run.message).await?.ok_or(Error::NotFound)?;
    let again = SendMessage { content, interrupt: false, parent_run_id: Some(run.parent) };
    submit(app, caller, conversation, permit, again, guard).await
}

async fn submit(
    app: &App,
    caller: &Caller,
    conversation: Conversation,
    permit: Permit,
    new: SendMessage,
    guard: Guard,
) -> Result<Accepted, Error> {
    if new.content.trim().is_empty() || new.content.len() > MESSAGE_BYTES_MAX {
        return Err(Error::BadContent);
    }
    let agent = agents::get(app.database.read(), caller.tenant, conversation.agent_id).await?;
    let agent = agent.ok_or(Error::NoSuchAgent)?;
    if agent.archived {
        return Err(Error::AgentArchived);
    }
    let now = unix_ms();
    let message = NewMessage {
        id: MessageId::new(),
        tenant: caller.tenant,
        conversation: conversation.id,
        run: RunId::new(),
        role: Role::User,
        content: new.content,
        tool_calls: Vec::new(),
        tool_call_id: None,
    };
    let run = NewRun {
        id: message.run,
        tenant: caller.tenant,
        conversation: conversation.id,
        agent: agent.id,
        user: caller.user,
        impersonator: caller.impersonator,
        scopes: caller.scopes.clone(),
        message: message.id,
        state: RunState::Queued,
        deadline: now.saturating_add(agent.limits.wall_clock_ms()),
        created_at: now,
    };
    let entry = permit.entry(json!({ "message_id": message.id, "run_id": run.id }));
    let (interrupt, parent) = (new.interrupt, new.parent_run_id);
    let stored = app
        .database
        .write(move |tx| {
            Box::pin(async move {
                if let Some(accepted) = guard.earlier(tx).await? {
                    return Ok(Stored { accepted, start: false, interrupted: None });
                }
                let stored = put(tx, message, run, parent, interrupt).await?;
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
        let start = Start { run: stored.accepted.run_id, tenant: caller.tenant, agent: agent.id };
        dispatch::start(app, &start).await;
    }
    Ok(stored.accepted)
}

pub(super) async fn put(
    tx: &Tx,
    message: NewMessage,
    mut run: NewRun,
    parent: Option<Option<RunId>>,
    interrupt: bool,
) -> Result<Stored, Error> {
    // Deleted meanwhile: nothing may be added any more.
    if !store::touch(tx, run.conversation, run.created_at).await? {
        return Err(Error::NotFound);
    }
    let open = store::runs::open(tx, run.conversation).await?;
    if i64::try_from(open.len()).unwrap_or(i64::MAX) >= QUEUED_RUNS_MAX {
        return Err(Error::TooManyQueued);
    }
    let start = open.is_empty();
    if start {
        // Claimed in the same commit: nothing is ahead of it.
        run.state = RunState::Running;
    }
    let (parent, place) = place(tx, &run, parent).await?;
    let title = title_of(&message.content);
    journal::add_message(tx, &message).await?;
    store::runs::insert(tx, &run, parent, &place).await?;
    if store::set_first_title(tx, run.conversation, &title).await? {
        let told = json!({ "conversation_id": run.conversation, "title": title });
        journal::emit(tx, run.id, "title_update", &told).await?;
    }
    let at_work = open.iter().find(|(_, state)| *state != RunState::Queued);
    let interrupted = match at_work {
        Some((busy, _)) if interrupt => store::runs::set_cancelling(tx, *busy).await?.then_some(*busy),
        _ => None,
    };
    let accepted = Accepted { message_id: message.id, run_id: run.id };
    Ok(Stored { accepted, start, interrupted })
}

/// Where a new run goes: on its parent's branch if nothing comes after the parent there, else it begins one.
async fn place(tx: &Tx, run: &NewRun, asked: Option<Option<RunId>>) -> Result<(Option<RunId>, Place), Error> {
    let newest = branches::newest(tx, run.conversation).await?;
    let position = newest.as_ref().map_or(0, |newest| newest.position) + 1;
    let parent = match asked {
        None => newest,
        Some(None) => None,
        Some(Some(parent)) => {
            let found = branches::place_of(tx, run.conversation, parent).await?;
            Some(found.ok_or(Error::NoSuchParent)?)
        }
    };
    let branch = match &parent {
        Some(parent) if branches::is_end(tx, run.conversation, parent).await? => parent.branch,
        _ => run.id,
    };
    Ok((parent.map(|parent| parent.run), Place { run: run.id, branch, position }))
}

/// The first words of a message, on one line.
fn title_of(content: &str) -> String {
    let words: Vec<&str> = content.split_whitespace().collect();
    words.join(" ").chars().take(TITLE_AT_FIRST_CHARS).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::title_of;

    #[test]
    fn a_title_is_one_line_of_fifty_characters_at_most() {
        assert_eq!(title_of("  What is\n\tthe capital of France?\n"), "What is the capital of France?");
        assert_eq!(title_of(&"ä".repeat(200)), "ä".repeat(50));
        assert_eq!(title_of(&format!("{} b", "a".repeat(49))), "a".repeat(49));
    }
}
