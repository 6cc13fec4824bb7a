//! Events that the bus did not take: they stay in the outbox until an operator sends them again.

use super::store;
use crate::database::{Database, Error};

/// An event that no try brought to the bus.
#[derive(Debug, Clone)]
pub struct DeadEvent {
    pub id: i64,
    pub event_id: String,
    pub topic: String,
    pub payload: String,
    pub error: String,
    pub attempts: i64,
    /// Milliseconds since 1970.
    pub created_at: i64,
}

impl From<store::Kept> for DeadEvent {
    fn from(kept: store::Kept) -> Self {
        Self {
            id: kept.id,
            event_id: kept.event_id,
            topic: kept.letter.topic.to_string(),
            payload: kept.letter.payload,
            error: kept.error.unwrap_or_default(),
            attempts: kept.attempts,
            created_at: kept.created_at,
        }
    }
}

/// At most `limit` of them after `after`, oldest first.
pub async fn dead(database: &Database, after: i64, limit: i64) -> Result<Vec<DeadEvent>, Error> {
    Ok(store::dead(database.read(), after, limit).await?.into_iter().map(DeadEvent::from).collect())
}

pub async fn find_dead(database: &Database, id: i64) -> Result<Option<DeadEvent>, Error> {
    Ok(store::find_dead(database.read(), id).await?.map(DeadEvent::from))
}

/// Has one carried to the bus after all. False when there is none of this number.
pub async fn send_again(database: &Database, id: i64) -> Result<bool, Error> {
    database.write(move |tx| Box::pin(async move { store::revive(tx, id).await })).await
}
