//! Who is asking.

use serde::{Deserialize, Serialize};

use crate::{ApiKeyId, RunId, SessionId, TenantId, UserId, policy::Grant};

/// A user acting in one tenant, as the request's credential proved it. Nothing in a body or a header changes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    pub tenant: TenantId,
    pub user: UserId,
    /// Names of roles held in this tenant (and on the platform), sorted.
    pub roles: Vec<String>,
    /// What was given or denied to the user beside their roles, as long as it lasts.
    pub grants: Vec<Grant>,
    /// Actions that the credential is limited to; `*` stands for all that the roles allow.
    pub scopes: Vec<String>,
    /// When the credential ends, in milliseconds since 1970: a key that it makes ends no later.
    pub expires_at: Option<i64>,
    pub credential: Credential,
    /// Who really acts, where an administrator acts as somebody else. Every audit row names them.
    pub impersonator: Option<UserId>,
}

/// What proved who the caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// `Authorization: Bearer soma_...`
    ApiKey(ApiKeyId),
    /// `Authorization: Bearer ...` with an access token of the identity provider.
    AccessToken,
    /// The cookie of somebody who signed in.
    Session(SessionId),
    /// None: an event from the bus acts as a service account that the operator has named for that.
    Event,
    /// None: a run acts with the rights of whoever started it.
    Run(RunId),
}
