//! Who is asking.

use serde::{Deserialize, Serialize};

use crate::{TenantId, UserId};

/// A user acting in one tenant, as the request's credential proved it. Nothing in a body or a header changes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    pub tenant: TenantId,
    pub user: UserId,
    /// Names of roles held in this tenant (and on the platform), sorted.
    pub roles: Vec<String>,
    /// Actions that the credential is limited to; `*` stands for all that the roles allow.
    pub scopes: Vec<String>,
    /// When the credential ends, in milliseconds since 1970: a key that it makes ends no later.
    pub expires_at: Option<i64>,
}
