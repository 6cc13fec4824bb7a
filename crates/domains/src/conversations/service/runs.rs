//! Runs: showing, listing, stopping.

use contracts::{Caller, ConversationId, RunId, policy::Resource};
use platform::http::{Page, PageRequest};
use serde_json::json;

use super::Error;
use crate::{
    App, audit,
    authority::{self, Permit},
    conversations::{
        api::Conversation,
        dispatch,
        journal::{self, Run, RunState},
        store,
    },
};

/// The run and its conversation, if the caller may do this to it.
pub(super) async fn allowed(
    app: &App,
    caller: &Caller,
    action: &str,
    id: RunId,
) -> Result<(Run, Conversation, Permit), Error> {
    let mut resource = Resource::new("run", id);
    let mut found = None;
    if let Some(run) = store::runs::find_in(app.database.read(), caller.tenant, id).await? {
        // A deleted conversation's runs are gone with it.
        if let Some(conversation) = store::find(app.database.read(), caller.tenant, run.conversation).await? {
            resource.attributes = json!({
                "owner": conversation.user_id, "agent": run.agent, "conversation": conversation.id,
            });
            found = Some((run, conversation));
        }
    }
    let permit = authority::require(app, caller, action, resource).await?;
    let (run, conversation) = found.ok_or(Error::NotFound)?;
    Ok((run, conversation, permit))
}

pub(crate) async fn get(app: &App, caller: &Caller, id: RunId) -> Result<Run, Error> {
    Ok(allowed(app, caller, "conversation:read", id).await?.0)
}

pub(in super::super) async fn page(
    app: &App,
    caller: &Caller,
    id: ConversationId,
    page: &PageRequest,
) -> Result<Page<Run>, Error> {
    super::allowed(app, caller, "conversation:view_history", id).await?;
    let rows = store::runs::page(app.database.read(), id, page).await?;
    Ok(page.page(rows, |run| run.id.to_string()))
}

/// The number of a run's last event so far, 0 when there is none.
pub(in super::super) async fn last_event(app: &App, run: RunId) -> Result<i64, Error> {
    Ok(store::events::last(app.database.read(), run).await?)
}

/// Asks a run to stop. One that waits is over at once; one that has ended stays as it is.
pub(crate) async fn cancel(app: &App, caller: &Caller, id: RunId) -> Result<Run, Error> {
    let (_, _, permit) = allowed(app, caller, "conversation:update", id).await?;
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
