//! Bounds on guessing: attempts from one address, and failures of one account.
//!
//! An attempt is counted as a failure before its password is looked at and taken back if it was right, so that guesses
//! sent side by side count like guesses one after another. An address that names nobody is counted and locked like any
//! other: nothing tells whether there is such an account.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use contracts::policy::Resource;
use platform::{config::Config, database::Error as StoreError, durable::unix_ms};
use serde_json::json;

use super::{
    Error,
    authenticate::Client,
    events,
    store::{attempts as store, users as user_rows},
    users,
};
use crate::{App, audit};

/// Attempts from one address within [`WINDOW`].
const PER_ADDRESS: usize = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses counted at once. When there are more, new ones are refused until old ones are forgotten.
const ADDRESSES_MAX: usize = 10_000;
/// Failures that lock an account, each within [`LOCKED_MS`] of the one before.
const FAILURES_MAX: i64 = 5;
const LOCKED_MS: i64 = 15 * 60 * 1000;

/// Attempts of the last minute, by address.
#[derive(Debug, Default)]
pub struct Addresses(Mutex<HashMap<IpAddr, VecDeque<Instant>>>);

impl Addresses {
    /// Counts an attempt, or says in how many seconds another may be made.
    pub(super) fn count(&self, ip: Option<IpAddr>) -> Result<(), Error> {
        self.count_at(ip, Instant::now())
    }

    fn count_at(&self, ip: Option<IpAddr>, now: Instant) -> Result<(), Error> {
        let Some(ip) = ip.map(network) else { return Ok(()) };
        let recent = |at: &Instant| now.duration_since(*at) < WINDOW;
        let mut addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.len() >= ADDRESSES_MAX && !addresses.contains_key(&ip) {
            addresses.retain(|_, attempts| attempts.back().is_some_and(recent));
            if addresses.len() >= ADDRESSES_MAX {
                return Err(too_many(WINDOW));
            }
        }
        let attempts = addresses.entry(ip).or_default();
        while attempts.front().is_some_and(|at| !recent(at)) {
            attempts.pop_front();
        }
        if let (Some(oldest), PER_ADDRESS..) = (attempts.front(), attempts.len()) {
            return Err(too_many(WINDOW.saturating_sub(now.duration_since(*oldest))));
        }
        attempts.push_back(now);
        Ok(())
    }
}

/// What one client has: an IPv4 address, or the /64 of an IPv6 one.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => IpAddr::from((u128::from(v6) >> 64 << 64).to_be_bytes()),
    }
}

fn too_many(wait: Duration) -> Error {
    Error::TooManyAttempts {
        retry_after_s: u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1),
    }
}

/// How an account is known here: its address may be a password in the wrong field, so it is not kept.
pub(super) fn account(config: &Config, email: &str) -> String {
    config.keys.mac("sign_in", email)
}

/// An attempt that was begun: a failure, until it is told otherwise.
pub(super) struct Attempt {
    account: String,
    failures: i64,
}

/// Counts an attempt, or says that the account is locked.
pub(super) async fn begin(app: &App, email: &str) -> Result<Attempt, Error> {
    let account = account(&app.config, email);
    app.database
        .write(move |tx| {
            Box::pin(async move {
                let now = unix_ms();
                let earlier = store::find(tx, &account).await?;
                let until = earlier.as_ref().and_then(|earlier| earlier.locked_until);
                if let Some(until) = until.filter(|until| *until > now) {
                    let retry_after_s =
                        u32::try_from((until - now) / 1000).unwrap_or(u32::MAX).saturating_add(1);
                    return Err(Error::Locked { retry_after_s });
                }
                let counts = |earlier: &store::Attempts| {
                    earlier.locked_until.is_none() && now - earlier.last_at < LOCKED_MS
                };
                let failures = earlier.filter(counts).map_or(0, |earlier| earlier.failures) + 1;
                let locked_until = (failures >= FAILURES_MAX).then_some(now + LOCKED_MS);
                let attempts = store::Attempts { failures, last_at: now, locked_until };
                store::put(tx, &account, &attempts, now - LOCKED_MS).await?;
                Ok(Attempt { account, failures })
            })
        })
        .await
}

impl Attempt {
    /// It was right: the account has no failures any more.
    pub(super) async fn succeeded(self, app: &App) -> Result<(), Error> {
        let account = self.account;
        let cleared =
            app.database.write(move |tx| Box::pin(async move { store::delete(tx, &account).await }));
        cleared.await.map(drop).map_err(Error::Store)
    }

    /// It was neither right nor wrong: earlier failures stay.
    pub(super) async fn taken_back(self, app: &App) -> Result<(), Error> {
        let account = self.account;
        let taken =
            app.database.write(move |tx| Box::pin(async move { store::take_back(tx, &account).await }));
        taken.await.map_err(Error::Store)
    }

    /// It was wrong. Where there is such a user it is in the audit, beside the answer, which must not take longer for it.
    pub(super) fn failed(
        self,
        app: &App,
        user: Option<&user_rows::User>,
        reason: &'static str,
        client: &Client,
    ) {
        let Some(user) = user else { return };
        let database = app.database.clone();
        let (user, last_tenant) = (user.id, user.last_tenant);
        let details = json!({ "failures": self.failures, "address": client.ip.map(|ip| ip.to_string()) });
        tokio::spawn(async move {
            let written: Result<(), StoreError> = async {
                let Some(tenant) = users::home(database.read(), user, last_tenant).await? else {
                    return Ok(());
                };
                let who = events::at_the_door(tenant, user);
                let refused = events::refused(
                    &who,
                    events::SIGN_IN_REFUSED,
                    reason,
                    Resource::new("user", user),
                    details,
                );
                let locked = (self.failures >= FAILURES_MAX).then(|| {
                    let details = json!({ "minutes": LOCKED_MS / 60_000 });
                    events::refused(
                        &who,
                        events::LOCKED,
                        "too_many_failures",
                        Resource::new("user", user),
                        details,
                    )
                });
                database
                    .write(move |tx| {
                        Box::pin(async move {
                            audit::add(tx, &refused).await?;
                            if let Some(locked) = &locked {
                                audit::add(tx, locked).await?;
                            }
                            Ok(())
                        })
                    })
                    .await
            }
            .await;
            if let Err(error) = written {
                tracing::error!(%error, "a failed sign-in could not be written to the audit");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_ten_attempts_a_minute_and_its_neighbours_have_theirs() {
        let addresses = Addresses::default();
        let start = Instant::now();
        let at = |ip: &str, seconds| {
            let counted = addresses.count_at(Some(ip.parse().unwrap()), start + Duration::from_secs(seconds));
            match counted {
                Ok(()) => 0,
                Err(Error::TooManyAttempts { retry_after_s }) => retry_after_s,
                Err(other) => panic!("{other}"),
            }
        };
        for second in 0..10 {
            assert_eq!(at("192.0.2.1", second), 0);
            assert_eq!(at(&format!("2001:db8::{second}"), second), 0);
        }
        assert_eq!(at("192.0.2.1", 10), 51);
        assert_eq!(at("2001:db8::ffff", 10), 51, "one network, one client");
        assert_eq!(at("192.0.2.2", 10), 0);
        assert_eq!(at("2001:db8:0:1::1", 10), 0);
        assert_eq!(at("192.0.2.1", 60), 0, "the first has left the window");
        assert_eq!(at("192.0.2.1", 60), 2);
    }

    #[test]
    fn more_addresses_than_can_be_counted_are_refused_until_old_ones_are_forgotten() {
        let addresses = Addresses::default();
        let start = Instant::now();
        for number in 0..u32::try_from(ADDRESSES_MAX).unwrap() {
            addresses.count_at(Some(IpAddr::from(number.to_be_bytes())), start).unwrap();
        }
        let other: IpAddr = "203.0.113.1".parse().unwrap();
        assert!(addresses.count_at(Some(other), start).is_err());
        assert!(addresses.count_at(Some(other), start + WINDOW).is_ok());
    }
}
