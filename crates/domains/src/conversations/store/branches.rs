//! The SQL of branches: which runs lie on the way from a conversation's first to a given one, and their messages.
//!
//! A branch is a run of runs that was never forked, named by its first. So a way is a few segments, each a branch up
//! to a position, and a page of messages is a range of an index, however long the conversation is.

use contracts::{ConversationId, MessageId, RunId};
use platform::{
    database::{Error, Row, Sql},
    params,
};

use super::{super::api::Message, message};

/// Where a run stands in its conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Place {
    pub run: RunId,
    /// The branch's first run.
    pub branch: RunId,
    /// From 1 on, in the order in which the conversation's runs were made.
    pub position: i64,
}

/// A branch up to and with this position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Segment {
    branch: RunId,
    last: i64,
}

/// A message and where its run stands: what a page begins or ends at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Mark {
    pub place: Place,
    pub message: MessageId,
}

fn place(row: &Row) -> Result<Place, Error> {
    Ok(Place { run: row.parse("id")?, branch: row.parse("branch_id")?, position: row.int("position")? })
}

/// The run that was made last, which is the end of the branch that was last gone on with.
pub(in super::super) async fn newest(
    connection: &impl Sql,
    conversation: ConversationId,
) -> Result<Option<Place>, Error> {
    let sql =
        "SELECT id, branch_id, position FROM runs WHERE conversation_id = $1 ORDER BY position DESC LIMIT 1";
    connection.one(sql, params![conversation]).await?.as_ref().map(place).transpose()
}

/// Where a run of this conversation stands.
pub(in super::super) async fn place_of(
    connection: &impl Sql,
    conversation: ConversationId,
    run: RunId,
) -> Result<Option<Place>, Error> {
    let sql = "SELECT id, branch_id, position FROM runs WHERE id = $1 AND conversation_id = $2";
    connection.one(sql, params![run, conversation]).await?.as_ref().map(place).transpose()
}

/// Whether nothing on the run's branch comes after it.
pub(in super::super) async fn is_end(
    connection: &impl Sql,
    conversation: ConversationId,
    place: &Place,
) -> Result<bool, Error> {
    let sql =
        "SELECT 1 AS one FROM runs WHERE conversation_id = $1 AND branch_id = $2 AND position > $3 LIMIT 1";
    Ok(connection.one(sql, params![conversation, place.branch, place.position]).await?.is_none())
}

/// Where a message of this conversation stands.
pub(in super::super) async fn mark(
    connection: &impl Sql,
    conversation: ConversationId,
    message: MessageId,
) -> Result<Option<Mark>, Error> {
    let sql =
        "SELECT runs.id, runs.branch_id, runs.position FROM messages JOIN runs ON runs.id = messages.run_id
               WHERE messages.id = $1 AND messages.conversation_id = $2";
    let row = connection.one(sql, params![message, conversation]).await?;
    row.as_ref().map(|row| Ok(Mark { place: place(row)?, message })).transpose()
}

/// The way back from a run to its conversation's first, at most this many segments of it.
pub(in super::super) async fn way_back(
    connection: &impl Sql,
    run: RunId,
    segments_max: i64,
) -> Result<Vec<Segment>, Error> {
    let rows = connection
        .all(
            "WITH RECURSIVE segments (branch_id, last, number) AS (
                 SELECT branch_id, position, 1 FROM runs WHERE id = $1
                 UNION ALL
                 SELECT parent.branch_id, parent.position, segments.number + 1
                 FROM segments JOIN runs head ON head.id = segments.branch_id
                     JOIN runs parent ON parent.id = head.parent_run_id
                 WHERE segments.number < $2)
             SELECT branch_id, last FROM segments ORDER BY number",
            params![run, segments_max],
        )
        .await?;
    rows.iter().map(|row| Ok(Segment { branch: row.parse("branch_id")?, last: row.int("last")? })).collect()
}

/// Up to `limit` messages before a mark, or the last ones of a way, newest first. The way is the mark's own.
pub(in super::super) async fn messages_back(
    connection: &impl Sql,
    conversation: ConversationId,
    way: &[Segment],
    before: Option<&Mark>,
    limit: i64,
) -> Result<Vec<Message>, Error> {
    let mut found = Vec::new();
    // Ids are hexadecimal, so `g` is after them all.
    let mut before_id = before.map_or_else(|| "g".to_owned(), |mark| mark.message.to_string());
    for segment in way {
        let wanted = limit - i64::try_from(found.len()).unwrap_or(i64::MAX);
        if wanted <= 0 {
            break;
        }
        let rows = connection
            .all(
                "SELECT messages.id, run_id, role, content, tool_calls, tool_call_id, messages.created_at
                 FROM runs CROSS JOIN messages
                 WHERE runs.conversation_id = $1 AND runs.branch_id = $2 AND runs.position <= $3
                   AND messages.conversation_id = runs.conversation_id AND messages.run_id = runs.id
                   AND (runs.position < $3 OR messages.id < $4)
                 ORDER BY runs.position DESC, messages.id DESC LIMIT $5",
                params![conversation, segment.branch, segment.last, before_id.as_str(), wanted],
            )
            .await?;
        for row in &rows {
            found.push(message(row)?);
        }
        "g".clone_into(&mut before_id);
    }
    Ok(found)
}

/// Up to `limit` messages after a mark, or the first ones of a way, oldest first. `None` when the mark is not on it.
pub(in super::super) async fn messages_on(
    connection: &impl Sql,
    conversation: ConversationId,
    way: &[Segment],
    after: Option<&Mark>,
    limit: i64,
) -> Result<Option<Vec<Message>>, Error> {
    let mut segments = way.iter().rev().peekable();
    let (mut from, mut after_id) = (0, String::new());
    if let Some(mark) = after {
        let holds =
            |segment: &&Segment| segment.branch == mark.place.branch && mark.place.position <= segment.last;
        while segments.next_if(|segment| !holds(segment)).is_some() {}
        if segments.peek().is_none() {
            return Ok(None);
        }
        (from, after_id) = (mark.place.position, mark.message.to_string());
    }
    let mut found = Vec::new();
    for segment in segments {
        let wanted = limit - i64::try_from(found.len()).unwrap_or(i64::MAX);
        if wanted <= 0 {
            break;
        }
        let rows = connection
            .all(
                "SELECT messages.id, run_id, role, content, tool_calls, tool_call_id, messages.created_at
                 FROM runs CROSS JOIN messages
                 WHERE runs.conversation_id = $1 AND runs.branch_id = $2 AND runs.position BETWEEN $3 AND $4
                   AND messages.conversation_id = runs.conversation_id AND messages.run_id = runs.id
                   AND (runs.position > $3 OR messages.id > $5)
                 ORDER BY runs.position, messages.id LIMIT $6",
                params![conversation, segment.branch, from, segment.last, after_id.as_str(), wanted],
            )
            .await?;
        for row in &rows {
            found.push(message(row)?);
        }
        (from, after_id) = (0, String::new());
    }
    Ok(Some(found))
}
