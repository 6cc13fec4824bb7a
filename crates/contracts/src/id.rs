//! Ids: one type for each kind of thing, so that a run's id can't be passed for a message's.
//!
//! An id is a UUID version 7 in its hyphenated form: unique without a coordinator and sorted by time, which keeps
//! an index's inserts at its end and lets a page's cursor be the last id seen.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The text is no UUID. To a caller this is the same as an id that names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id")]
pub struct NotAnId;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = String, format = "uuid")]
        pub struct $name(uuid::Uuid);

        impl $name {
            /// A new id, later in order than those made before it by this process.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "each call makes another value")]
            pub fn new() -> Self {
                Self(uuid::Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                text.parse().map(Self).map_err(|_| NotAnId)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    )+};
}

id! {
    /// A tenant: the wall between two customers.
    TenantId,
    /// A person or a service account; known in any number of tenants.
    UserId,
    /// An API key: one user in one tenant.
    ApiKeyId,
    /// Somebody's stay after signing in.
    SessionId,
    /// A one-time link: a first password, a forgotten one, or an invitation.
    LinkId,
    /// A role, a permission or its denial, given to one user for one place and time.
    GrantId,
    /// A question to a person: may this tool call be made?
    ApprovalId,
    /// An agent.
    AgentId,
    /// A conversation with one agent.
    ConversationId,
    /// A message in a conversation.
    MessageId,
    /// One turn of an agent: what a message sets off.
    RunId,
    /// One call of a tool within a run.
    ToolCallId,
    /// One call of a model by its name, outside any run.
    ModelCallId,
}

#[cfg(test)]
mod tests {
    use super::{NotAnId, RunId};

    #[test]
    fn an_id_survives_its_text_and_garbage_is_refused() {
        let id = RunId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("../../etc/passwd".parse::<RunId>(), Err(NotAnId));
    }
}
