//! Messages that other systems send to agents over the bus.
//!
//! Whoever may write to the topic acts as one of the service accounts that the operator has named, and as nobody else:
//! with its roles, its tenant's standing, its limits and the policy's word, as if it had asked over HTTP. The event's id
//! is the request's idempotency key, so an event that comes twice is one message.

use std::sync::Arc;

use axum::http::StatusCode;
use contracts::{
    ConversationId, TenantId, UserId,
    events::{EventHandler, HandleError, Received},
};
use platform::{
    http::Problem,
    idempotency::{Guard, IdempotencyKey},
};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{USER_MESSAGE, schemas};
use crate::{App, authority, conversations, identity};

/// Does what events of `conversation.inbound` ask for.
#[derive(Debug)]
pub struct Inbound {
    app: Arc<App>,
    accounts: Vec<UserId>,
}

/// An event that fits its schema.
#[derive(Debug, Deserialize)]
struct UserMessage {
    event_id: String,
    tenant_id: TenantId,
    account_id: UserId,
    session_id: ConversationId,
    message: String,
    #[serde(default)]
    interrupt: bool,
}

impl Inbound {
    pub fn new(app: Arc<App>, accounts: Vec<UserId>) -> Self {
        Self { app, accounts }
    }

    fn read(&self, event: &Received) -> Result<UserMessage, HandleError> {
        let read: Value = serde_json::from_slice(&event.payload).map_err(|error| never("no_json", error))?;
        if let Some(fault) = schemas::fault(USER_MESSAGE, &read) {
            return Err(never("invalid", fault));
        }
        serde_json::from_value(read).map_err(|error| never("invalid", error))
    }

    async fn send(&self, message: UserMessage, event: &Received) -> Result<(), Problem> {
        let app = &*self.app;
        let UserMessage { event_id, tenant_id, account_id, session_id, message, interrupt } = message;
        let found = match self.accounts.contains(&account_id) {
            true => identity::service_account(app, tenant_id, account_id).await?,
            false => None,
        };
        let unknown = || {
            let detail = "SA01_KAFKA_INBOUND_ACCOUNTS names no service account of this tenant by that id.";
            Problem::new(StatusCode::FORBIDDEN, "unknown_account", detail)
        };
        let caller = authority::admit(app, found.ok_or_else(unknown)?, false).await?;
        let operation = format!("event {USER_MESSAGE} {session_id}");
        let hash = hex::encode(Sha256::digest(&event.payload));
        let guard = Guard::new(IdempotencyKey(Some(event_id)), &caller, operation, hash);
        conversations::send(app, &caller, session_id, message, interrupt, guard).await?;
        Ok(())
    }
}

#[async_trait::async_trait]
impl EventHandler for Inbound {
    async fn handle(&self, event: &Received) -> Result<(), HandleError> {
        let message = self.read(event)?;
        self.send(message, event).await.map_err(told)
    }
}

fn never(code: &str, message: impl std::fmt::Display) -> HandleError {
    HandleError::Never { code: code.to_owned(), message: message.to_string() }
}

/// What an answer to a client means for an event: whether it is worth another try.
fn told(problem: Problem) -> HandleError {
    let Problem { status, code, detail, .. } = problem;
    match StatusCode::from_u16(status) {
        Ok(StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) => HandleError::Away(detail),
        Ok(StatusCode::INTERNAL_SERVER_ERROR) => HandleError::Again { code, message: detail },
        // Of its queue that is full a conversation may soon have room.
        Ok(StatusCode::CONFLICT) if code == "too_many_queued" => HandleError::Again { code, message: detail },
        _ => HandleError::Never { code, message: detail },
    }
}
