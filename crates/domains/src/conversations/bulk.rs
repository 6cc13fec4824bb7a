//! Conversations made up in bulk, for measurements: through the store of real ones, many to a commit.

use contracts::{
    AgentId, ConversationId, MessageId, RunId, TenantId, UserId,
    model::{Role, Usage},
};
use platform::{
    database::{Error, Sql, Tx},
    http::Timestamp,
};

use super::{
    api::Conversation,
    journal::{NewMessage, NewRun, RunState},
    store::{self, branches::Place},
};

/// A conversation that never was.
#[derive(Debug)]
pub(crate) struct MadeUp {
    pub tenant: TenantId,
    pub user: UserId,
    pub agent: AgentId,
    pub model: String,
    pub title: String,
    /// When it was, in milliseconds since 1970.
    pub at: i64,
    /// What was said, and what was answered.
    pub turns: Vec<(String, String)>,
}

/// Whether a tenant has a conversation, or had.
pub(crate) async fn any(connection: &impl Sql, tenant: TenantId) -> Result<bool, Error> {
    store::any(connection, tenant).await
}

pub(crate) async fn add(tx: &Tx, made_up: MadeUp) -> Result<(), Error> {
    let MadeUp { tenant, user, agent, model, title, at, turns } = made_up;
    let conversation = Conversation {
        id: ConversationId::new(),
        agent_id: agent,
        user_id: user,
        title: None,
        archived: false,
        last_run_state: None,
        created_at: Timestamp(at),
        updated_at: Timestamp(at),
    };
    let id = conversation.id;
    store::insert(tx, tenant, &conversation).await?;
    store::set_first_title(tx, id, &title).await?;
    let message = |run, role, content| NewMessage {
        id: MessageId::new(),
        tenant,
        conversation: id,
        run,
        role,
        content,
        tool_calls: Vec::new(),
        tool_call_id: None,
    };
    let mut parent: Option<Place> = None;
    for (said, answered) in turns {
        let tokens = |text: &str| u64::try_from(text.len() / 4).unwrap_or(u64::MAX);
        let usage = Usage { input_tokens: tokens(&said), output_tokens: tokens(&answered) };
        let question = message(RunId::new(), Role::User, said);
        let run = NewRun {
            id: question.run,
            tenant,
            conversation: id,
            agent,
            user,
            impersonator: None,
            scopes: vec!["*".to_owned()],
            message: question.id,
            state: RunState::Running,
            deadline: at,
            created_at: at,
        };
        let place = Place {
            run: run.id,
            branch: parent.as_ref().map_or(run.id, |parent| parent.branch),
            position: parent.as_ref().map_or(1, |parent| parent.position + 1),
        };
        store::insert_message(tx, &question, at).await?;
        store::runs::insert(tx, &run, parent.map(|parent| parent.run), &place).await?;
        store::insert_message(tx, &message(run.id, Role::Assistant, answered), at).await?;
        let cost = usage.input_tokens + 2 * usage.output_tokens;
        store::runs::add_usage(tx, run.id, usage, cost, false, Some(&model)).await?;
        store::runs::finish(tx, run.id, RunState::Completed, None, at).await?;
        parent = Some(place);
    }
    Ok(())
}
