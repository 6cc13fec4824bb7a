//! Rows of the audit for what asks no policy: what people do about themselves, and what happens at the door.

use contracts::{
    Caller, Credential, SessionId, TenantId, UserId,
    policy::{Decision, Effect, Request, Resource},
};
use serde_json::Value;

use crate::audit;

pub(super) const SIGNED_IN: &str = "session:create";
pub(super) const SIGN_IN_REFUSED: &str = "session:refuse";
pub(super) const LOCKED: &str = "session:lock";
pub(super) const SIGNED_OUT: &str = "session:delete";
pub(super) const TENANT_CHANGED: &str = "session:change_tenant";
pub(super) const PROVIDER_LINKED: &str = "external_identity:create";
pub(super) const USER_MADE: &str = "user:create";
pub(super) const ROLES_OF_GROUPS: &str = "user:assign_roles";
pub(super) const LINK_MADE: &str = "link:create";
pub(super) const LINK_REDEEMED: &str = "link:redeem";
pub(super) const PASSWORD_CHANGED: &str = "password:update";
pub(super) const NAME_CHANGED: &str = "profile:update";
pub(super) const TOTP_ON: &str = "totp:create";
pub(super) const TOTP_OFF: &str = "totp:delete";
pub(super) const IMPERSONATION_ENDED: &str = "impersonation:delete";

/// Somebody who is known, but has no credential yet.
pub(super) fn at_the_door(tenant: TenantId, user: UserId) -> Caller {
    Caller {
        tenant,
        user,
        roles: Vec::new(),
        grants: Vec::new(),
        scopes: Vec::new(),
        expires_at: None,
        credential: Credential::Session(SessionId::new()),
        impersonator: None,
    }
}

/// It was done: `reason` says by what right.
pub(super) fn done(
    caller: &Caller,
    action: &str,
    reason: &str,
    on: Resource,
    details: Value,
) -> audit::Entry {
    entry(caller, action, Effect::Allow, reason, on, details)
}

/// It was refused.
pub(super) fn refused(
    caller: &Caller,
    action: &str,
    reason: &str,
    on: Resource,
    details: Value,
) -> audit::Entry {
    entry(caller, action, Effect::Deny, reason, on, details)
}

fn entry(
    caller: &Caller,
    action: &str,
    effect: Effect,
    reason: &str,
    on: Resource,
    details: Value,
) -> audit::Entry {
    let request = Request::new(caller, action, on);
    // No policy was asked, so there is no revision.
    let decision =
        Decision { effect, reason: reason.to_owned(), obligations: Value::Null, revision: String::new() };
    audit::Entry::new(&request, &decision, details)
}
