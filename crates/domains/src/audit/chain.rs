//! The chain: each entry's hash covers its content and the hash of the entry before it in its tenant.
//!
//! The hash is SHA-256 over the entry's members, without `hash` itself, in the canonical form of RFC 8785: what
//! `GET /api/v2/audit/export?format=jsonl` gives for the entry, less one member. It needs no key, so that whoever has
//! an export can check it; docs/audit.md says how. The first entry's `previous_hash` is 64 zeros.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
};

use platform::{
    canonical::{canonical, write_string},
    http::Timestamp,
};
use sha2::{Digest, Sha256};

use super::service::Entry;

/// What the first entry of a tenant follows.
pub(super) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Heads remembered at once, one a tenant.
const REMEMBERED_MAX: usize = 10_000;

/// The last entry of a tenant's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub sequence: i64,
    pub hash: String,
}

impl Head {
    pub(super) fn genesis() -> Self {
        Self { sequence: 0, hash: GENESIS.to_owned() }
    }
}

/// An entry in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub id: String,
    /// From 1 on, without gaps. 0 and less: written before entries were chained.
    pub sequence: i64,
    pub tenant: String,
    pub at: i64,
    pub actor: String,
    pub impersonator: Option<String>,
    pub action: String,
    pub resource_type: String,
    pub resource_id: Option<String>,
    pub effect: String,
    pub reason: String,
    pub revision: String,
    /// JSON, canonical.
    pub details: String,
    /// Absent, as `hash`, from entries written before entries were chained.
    pub previous_hash: Option<String>,
    pub hash: Option<String>,
}

impl Record {
    /// Puts an entry after `head`.
    pub(super) fn after(head: &Head, entry: &Entry) -> Self {
        let mut record = Self {
            id: entry.id.to_string(),
            sequence: head.sequence.saturating_add(1),
            tenant: entry.tenant.clone(),
            at: entry.at,
            actor: entry.actor.clone(),
            impersonator: entry.impersonator.clone(),
            action: entry.action.clone(),
            resource_type: entry.resource_type.clone(),
            resource_id: entry.resource_id.clone(),
            effect: entry.effect.to_owned(),
            reason: entry.reason.clone(),
            revision: entry.revision.clone(),
            details: canonical(&entry.details),
            previous_hash: Some(head.hash.clone()),
            hash: None,
        };
        record.hash = Some(record.sealed());
        record
    }

    /// Puts the first entry after `head`, and each other after the one before it.
    pub(super) fn after_each_other(head: &Head, entries: &[&Entry]) -> Vec<Self> {
        let mut head = head.clone();
        entries
            .iter()
            .map(|entry| {
                let record = Self::after(&head, entry);
                head = Head { sequence: record.sequence, hash: record.hash.clone().unwrap_or_default() };
                record
            })
            .collect()
    }

    /// The hash that its content has, whatever `hash` says.
    pub(super) fn sealed(&self) -> String {
        hex::encode(Sha256::digest(self.text(false)))
    }

    /// The whole entry in the canonical form.
    pub(super) fn canonical(&self) -> String {
        self.text(true)
    }

    fn text(&self, with_hash: bool) -> String {
        let mut text = String::with_capacity(640 + self.details.len());
        let mut member = |name: &str, write: &dyn Fn(&mut String)| {
            text.push(if text.is_empty() { '{' } else { ',' });
            write_string(&mut text, name);
            text.push(':');
            write(&mut text);
        };
        fn string(value: &str) -> impl Fn(&mut String) {
            move |into| write_string(into, value)
        }
        fn optional(value: Option<&str>) -> impl Fn(&mut String) {
            move |into| match value {
                Some(value) => write_string(into, value),
                None => into.push_str("null"),
            }
        }
        // In the order of their names.
        member("action", &string(&self.action));
        member("actor_id", &string(&self.actor));
        member("at", &string(&Timestamp(self.at).to_string()));
        member("details", &|into| into.push_str(&self.details));
        member("effect", &string(&self.effect));
        if with_hash {
            member("hash", &optional(self.hash.as_deref()));
        }
        member("id", &string(&self.id));
        member("impersonator_id", &optional(self.impersonator.as_deref()));
        member("policy_revision", &string(&self.revision));
        member("previous_hash", &optional(self.previous_hash.as_deref()));
        member("reason", &string(&self.reason));
        member("resource_id", &optional(self.resource_id.as_deref()));
        member("resource_type", &string(&self.resource_type));
        member("sequence", &|into| into.push_str(&self.sequence.to_string()));
        member("tenant_id", &string(&self.tenant));
        text.push('}');
        text
    }
}

/// The heads that this process wrote last, by tenant: they save each entry a query. One may be behind, when another
/// process wrote or a change was undone, so the store takes an entry only if its head is still the last.
static REMEMBERED: LazyLock<Mutex<HashMap<String, Head>>> = LazyLock::new(Mutex::default);

pub(super) fn remembered(tenant: &str) -> Option<Head> {
    REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
}

pub(super) fn remember(record: &Record) {
    let Some(hash) = record.hash.clone() else { return };
    let head = Head { sequence: record.sequence, hash };
    let mut remembered = REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(place) = remembered.get_mut(&record.tenant) {
        *place = head;
        return;
    }
    if remembered.len() >= REMEMBERED_MAX {
        remembered.clear();
    }
    remembered.insert(record.tenant.clone(), head);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{GENESIS, Head, Record};
    use crate::audit::Entry;

    fn entry() -> Entry {
        Entry {
            id: "01900000-0000-7000-8000-00000000000a".parse().unwrap(),
            at: 1_769_860_800_123,
            tenant: "01900000-0000-7000-8000-000000000001".into(),
            actor: "01900000-0000-7000-8000-000000000002".into(),
            impersonator: None,
            action: "agent:update".into(),
            resource_type: "agent".into(),
            resource_id: Some("x\"y".into()),
            effect: "allow",
            reason: "role a grants agent:update".into(),
            revision: "r1".into(),
            details: json!({ "tools": ["b", "a"], "limit": 1.0 }),
        }
    }

    #[test]
    fn an_entry_is_hashed_in_the_form_that_is_documented() {
        let record = Record::after(&Head::genesis(), &entry());
        let whole = record.canonical();
        assert_eq!(
            whole.replace(&format!(r#""hash":"{}","#, record.hash.as_deref().unwrap()), ""),
            format!(
                concat!(
                    r#"{{"action":"agent:update","actor_id":"01900000-0000-7000-8000-000000000002","#,
                    r#""at":"2026-01-31T12:00:00.123Z","details":{{"limit":1,"tools":["b","a"]}},"effect":"allow","#,
                    r#""id":"01900000-0000-7000-8000-00000000000a","impersonator_id":null,"#,
                    r#""policy_revision":"r1","previous_hash":"{}","reason":"role a grants agent:update","#,
                    r#""resource_id":"x\"y","resource_type":"agent","sequence":1,"#,
                    r#""tenant_id":"01900000-0000-7000-8000-000000000001"}}"#
                ),
                GENESIS
            )
        );
        let read: serde_json::Value = serde_json::from_str(&whole).unwrap();
        assert_eq!(platform::canonical::canonical(&read), whole, "it is canonical as a whole");
    }

    #[test]
    fn every_member_and_the_entry_before_it_are_under_the_hash() {
        let head = Head::genesis();
        let first = Record::after(&head, &entry());
        let mut seen = std::collections::BTreeSet::from([first.sealed()]);
        let mut also = |change: fn(&mut Record)| {
            let mut record = first.clone();
            change(&mut record);
            assert!(seen.insert(record.sealed()), "{record:?}");
        };
        also(|record| record.id.push('b'));
        also(|record| record.sequence = 2);
        also(|record| record.tenant.push('b'));
        also(|record| record.at += 1);
        also(|record| record.actor.push('b'));
        also(|record| record.impersonator = Some("b".into()));
        also(|record| record.action.push('b'));
        also(|record| record.resource_type.push('b'));
        also(|record| record.resource_id = None);
        also(|record| record.effect.push('b'));
        also(|record| record.reason.push('b'));
        also(|record| record.revision.push('b'));
        also(|record| record.details.push(' '));
        also(|record| record.previous_hash = Some(GENESIS.replace('0', "1")));
    }
}
