//! Entries made up in bulk, for measurements: through the store of real ones, many to a commit.

use contracts::{TenantId, UserId};
use platform::database::{Error, Tx};
use serde_json::json;

use super::{Entry, add};

/// What is done in a busy install: each action as often as it stands here.
const ACTIONS: [(&str, &str); 10] = [
    ("conversation:send_message", "conversation"),
    ("conversation:send_message", "conversation"),
    ("conversation:send_message", "conversation"),
    ("conversation:create", "conversation"),
    ("tool:execute", "tool"),
    ("tool:execute", "tool"),
    ("agent:update", "agent"),
    ("apikey:create", "api_key"),
    ("user:assign_roles", "user"),
    ("agent:create", "agent"),
];
/// One in so many was refused.
const REFUSED_EVERY: u64 = 50;

/// Adds one entry of that time; `number` says what was done and to what.
pub(crate) async fn add_made_up(
    tx: &Tx,
    tenant: TenantId,
    actor: UserId,
    at: i64,
    number: u64,
) -> Result<(), Error> {
    let at_least = at.unsigned_abs();
    let nanoseconds = u32::try_from(at_least % 1000 * 1_000_000).unwrap_or_default();
    let time = uuid::Timestamp::from_unix(uuid::NoContext, at_least / 1000, nanoseconds);
    let index = usize::try_from(number).unwrap_or_default();
    let (action, kind) = ACTIONS[index % ACTIONS.len()];
    let refused = number.is_multiple_of(REFUSED_EVERY);
    let entry = Entry {
        id: uuid::Uuid::new_v7(time),
        at,
        tenant: tenant.to_string(),
        actor: actor.to_string(),
        impersonator: None,
        action: action.to_owned(),
        resource_type: kind.to_owned(),
        // Some things are changed often, most are not.
        resource_id: Some(format!("{kind}-{}", number % 20_011)),
        effect: if refused { "deny" } else { "allow" },
        reason: if refused { "no_role_allows".to_owned() } else { format!("role user grants {action}") },
        revision: "made-up".to_owned(),
        details: json!({ "number": number }),
    };
    add(tx, &entry).await
}
