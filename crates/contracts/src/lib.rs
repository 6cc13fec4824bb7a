//! The words that every other crate shares: ids, who is calling, what the policy answers, and the traits that have
//! more than one implementation.
//!
//! Nothing here does I/O, reads the environment or knows a database.

pub mod caller;
pub mod engine;
pub mod events;
pub mod id;
pub mod model;
pub mod policy;

pub use caller::{Caller, Credential};
pub use id::{
    AgentId, ApiKeyId, ApprovalId, ConversationId, GrantId, LinkId, MessageId, ModelCallId, RunId, SessionId,
    TenantId, ToolCallId, UserId,
};
