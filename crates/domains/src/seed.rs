//! Fills a new install with made-up work, so that its lists can be measured at their size: `soma dev seed`.
//!
//! Everything goes through the stores that real work goes through. The same sizes give the same texts.

use contracts::{AgentId, TenantId, UserId};
use platform::{
    config::Config,
    database::{Database, Error as StoreError},
    durable::unix_ms,
};

use crate::{
    agents, audit,
    conversations::{self, MadeUp},
    identity, tenants,
};

/// Messages of an ordinary conversation; one conversation holds [`LONG_PART`] of all of them.
const MESSAGES_IN_ONE: u64 = 50;
const LONG_PART: u64 = 50;
/// Conversations, and entries of the audit, in one commit.
const CONVERSATIONS_IN_COMMIT: u64 = 40;
const ENTRIES_IN_COMMIT: u64 = 2000;
/// People who did it all, and over how long.
const PEOPLE: u64 = 40;
const DAYS: i64 = 90;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Different words; the first are said most.
const WORDS: f64 = 8000.0;

#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub messages: u64,
    pub audit: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this install has conversations already: only a new one is filled")]
    NotNew,
    #[error("there is no agent `default`: run `soma migrate` first")]
    NoAgent,
    #[error(transparent)]
    Tenant(#[from] tenants::Error),
    #[error(transparent)]
    Identity(#[from] identity::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Fills the default tenant. `tell` hears how far it is.
pub async fn fill(
    config: &Config,
    database: &Database,
    sizes: Sizes,
    tell: impl Fn(&str),
) -> Result<(), Error> {
    let tenant = tenants::default_tenant(database).await?;
    if conversations::any(database.read(), tenant).await? {
        return Err(Error::NotNew);
    }
    let agent = agents::find(database.read(), tenant, "default").await?.ok_or(Error::NoAgent)?.id;
    let mut people = Vec::new();
    for number in 1..=PEOPLE {
        let email = format!("person-{number}@example.org");
        people.push(identity::ensure_user(database, &email, tenant, &["user"], false).await?);
    }
    let since = unix_ms() - DAYS * DAY_MS;
    let seed = Seed { tenant, agent, people, model: config.model.name.clone(), since };
    let long = sizes.messages / LONG_PART;
    seed.commit(database, vec![seed.conversation(0, 0, long, &mut Dice(1))]).await?;
    let count = (sizes.messages - long).div_ceil(MESSAGES_IN_ONE);
    let mut dice = Dice(2);
    for first in (0..count).step_by(usize::try_from(CONVERSATIONS_IN_COMMIT).unwrap_or(1)) {
        let numbers = first..count.min(first + CONVERSATIONS_IN_COMMIT);
        let made_up =
            numbers.map(|number| seed.conversation(number, count, MESSAGES_IN_ONE, &mut dice)).collect();
        seed.commit(database, made_up).await?;
        tell(&format!("conversations: {} of {count}", count.min(first + CONVERSATIONS_IN_COMMIT)));
    }
    for first in (0..sizes.audit).step_by(usize::try_from(ENTRIES_IN_COMMIT).unwrap_or(1)) {
        let end = sizes.audit.min(first + ENTRIES_IN_COMMIT);
        seed.audit(database, first..end, sizes.audit).await?;
        tell(&format!("audit: {end} of {}", sizes.audit));
    }
    Ok(())
}

struct Seed {
    tenant: TenantId,
    agent: AgentId,
    people: Vec<UserId>,
    model: String,
    since: i64,
}

impl Seed {
    /// When the `number`-th of `count` was, evenly.
    fn at(&self, number: u64, count: u64) -> i64 {
        let part = u128::from(number) * u128::from((DAYS * DAY_MS).unsigned_abs()) / u128::from(count.max(1));
        self.since.saturating_add(i64::try_from(part).unwrap_or_default())
    }

    fn person(&self, number: u64) -> UserId {
        let index = usize::try_from(number).unwrap_or_default() % self.people.len().max(1);
        self.people.get(index).copied().unwrap_or_else(UserId::new)
    }

    fn conversation(&self, number: u64, count: u64, messages: u64, dice: &mut Dice) -> MadeUp {
        let turns = (0..messages / 2).map(|_| (dice.text(12), dice.text(45))).collect();
        MadeUp {
            tenant: self.tenant,
            user: self.person(number),
            agent: self.agent,
            model: self.model.clone(),
            title: dice.text(5),
            at: self.at(number, count),
            turns,
        }
    }

    async fn commit(&self, database: &Database, made_up: Vec<MadeUp>) -> Result<(), StoreError> {
        database
            .write(move |tx| {
                Box::pin(async move {
                    for conversation in made_up {
                        conversations::add_made_up(tx, conversation).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    async fn audit(
        &self,
        database: &Database,
        numbers: std::ops::Range<u64>,
        count: u64,
    ) -> Result<(), StoreError> {
        let tenant = self.tenant;
        let entries: Vec<_> =
            numbers.map(|number| (number, self.person(number / 7), self.at(number, count))).collect();
        database
            .write(move |tx| {
                Box::pin(async move {
                    for (number, actor, at) in entries {
                        audit::add_made_up(tx, tenant, actor, at, number).await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}

/// SplitMix64: small, quick, and the same everywhere. For texts, never for secrets.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// About so many words, as unevenly spread as those of a language.
    fn text(&mut self, about: u64) -> String {
        let count = about / 2 + self.next() % about.max(1) + 1;
        let mut text = String::new();
        for index in 0..count {
            if index > 0 {
                text.push(' ');
            }
            self.word(&mut text);
        }
        text.push('.');
        text
    }

    fn word(&mut self, into: &mut String) {
        #[expect(clippy::cast_precision_loss, reason = "any number between 0 and 1 does")]
        let part = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and WORDS")]
        let mut rest = WORDS.powf(part) as usize;
        const SYLLABLES: [&str; 20] = [
            "ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "va",
            "we", "xi", "yo", "zu",
        ];
        loop {
            into.push_str(SYLLABLES[rest % SYLLABLES.len()]);
            rest /= SYLLABLES.len();
            if rest == 0 {
                return;
            }
        }
    }
}
