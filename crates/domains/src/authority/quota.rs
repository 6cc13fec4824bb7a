//! How many requests a minute one credential, one user and one tenant may make: the last check before a request is
//! done. Processes count together where they share a Redis server, else each for itself.
//!
//! A request takes one from each quota, once, when the policy has allowed the first thing that it asks for. One that
//! ends before (it was denied, or could not be read) takes none of them. It takes one of its credential's requests in
//! vain, of which there are as many, so that guessing ends as well.

use std::{sync::Arc, time::Duration};

use axum::http::StatusCode;
use contracts::{Caller, Credential, TenantId, UserId};
use platform::{
    config::RateLimits,
    http::Problem,
    limiter::{Limiter, Taken},
    redis::{Counts, Wanted},
};
use tokio::sync::OnceCell;

use crate::App;

/// Where a limit stands after a request took one, or was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the limit of {quota} requests a minute is reached: {name}")]
pub struct Counted {
    /// `key`, `user`, `tenant`, `address` or `vain`.
    pub name: &'static str,
    pub quota: u32,
    pub taken: Taken,
}

impl Counted {
    /// 429, with when to come back.
    #[must_use]
    pub fn refusal(&self) -> Problem {
        metrics::counter!("rate_limit_rejections_total", "scope" => self.name).increment(1);
        let seconds = whole_seconds(self.taken.retry_after).max(1);
        let what = match self.name {
            "key" => "with this credential",
            "user" => "of this user",
            "tenant" => "of this tenant",
            "vain" => "with this credential that are denied or can't be read",
            _ => "from this address without a valid credential",
        };
        let detail = format!(
            "More than {} requests a minute {what} are too many. The next one is taken in {seconds} s.",
            self.quota
        );
        let mut problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail);
        problem.retry_after_s = Some(seconds);
        problem
    }
}

/// Rounded up: who comes back after that long is in time.
#[must_use]
pub fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

/// What is counted of a caller. An access token is its user's: it has no id of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key(Credential, UserId);

/// The counts of this process.
#[derive(Debug)]
pub(crate) struct Quotas {
    limits: RateLimits,
    keys: Limiter<Key>,
    users: Limiter<UserId>,
    tenants: Limiter<TenantId>,
    /// Counts in place of the three above.
    shared: Option<Counts>,
    vain: Limiter<Key>,
}

impl Quotas {
    pub(crate) fn new(limits: RateLimits, shared: Option<Counts>) -> Self {
        Self {
            limits,
            keys: Limiter::default(),
            users: Limiter::default(),
            tenants: Limiter::default(),
            shared,
            vain: Limiter::default(),
        }
    }

    /// How many requests a minute of one credential may come to nothing: as many as it has, or those that it shares have.
    fn vain_max(&self) -> Option<u32> {
        self.limits.key.or(self.limits.user).or(self.limits.tenant)
    }

    /// Takes one from each quota, or from none. A tenant's own limit counts where it is lower than the install's.
    async fn take(&self, key: Key, tenant: TenantId, of_tenant: Option<u32>) -> Vec<Counted> {
        let Some(shared) = &self.shared else { return self.take_here(key, tenant, of_tenant) };
        let credential = serde_json::to_string(&key.0).unwrap_or_default();
        let of_key = self.limits.key.map(|quota| ("key", quota, format!("key:{credential}:{}", key.1)));
        let of_user = self.limits.user.map(|quota| ("user", quota, format!("user:{}", key.1)));
        let most = self.limits.tenant.into_iter().chain(of_tenant).min();
        let of_tenant = most.map(|quota| ("tenant", quota, format!("tenant:{tenant}")));
        let (mut named, mut wanted) = (Vec::with_capacity(3), Vec::with_capacity(3));
        for (name, quota, key) in [of_key, of_user, of_tenant].into_iter().flatten() {
            named.push((name, quota));
            wanted.push(Wanted { key, per_minute: quota });
        }
        let taken = shared.take(&wanted).await;
        named.into_iter().zip(taken).map(|((name, quota), taken)| Counted { name, quota, taken }).collect()
    }

    fn take_here(&self, key: Key, tenant: TenantId, of_tenant: Option<u32>) -> Vec<Counted> {
        let mut counted = Vec::with_capacity(3);
        if let Some(quota) = self.limits.key {
            counted.push(Counted { name: "key", quota, taken: self.keys.take(key, quota) });
        }
        if let Some(quota) = self.limits.user {
            counted.push(Counted { name: "user", quota, taken: self.users.take(key.1, quota) });
        }
        if let Some(quota) = self.limits.tenant.into_iter().chain(of_tenant).min() {
            counted.push(Counted { name: "tenant", quota, taken: self.tenants.take(tenant, quota) });
        }
        if counted.iter().any(|one| !one.taken.allowed) {
            for one in counted.iter().filter(|one| one.taken.allowed) {
                match one.name {
                    "key" => self.keys.give_back(&key, one.quota),
                    "user" => self.users.give_back(&key.1, one.quota),
                    _ => self.tenants.give_back(&tenant, one.quota),
                }
            }
        }
        counted
    }
}

tokio::task_local! {
    /// The request that this task answers. What no request asks for (a run's own work) has no quota to take.
    static REQUEST: Arc<Meter>;
}

/// What one request has taken.
#[derive(Debug)]
pub struct Meter {
    key: Key,
    tenant: TenantId,
    counted: OnceCell<Vec<Counted>>,
}

impl Meter {
    /// Refuses a request whose credential has made too many in vain, before anything of it is looked at.
    pub fn begin(app: &App, caller: &Caller) -> Result<Self, Counted> {
        let key = Key(caller.credential, caller.user);
        if let Some(quota) = app.quotas.vain_max() {
            let counted = Counted { name: "vain", quota, taken: app.quotas.vain.take(key, quota) };
            if !counted.taken.allowed {
                return Err(counted);
            }
        }
        Ok(Self { key, tenant: caller.tenant, counted: OnceCell::new() })
    }

    /// Does the request's work: whatever is allowed in it takes this request's quota, once.
    pub async fn measure<T>(self, work: impl Future<Output = T>) -> (T, Vec<Counted>) {
        let meter = Arc::new(self);
        let done = REQUEST.scope(Arc::clone(&meter), work).await;
        (done, meter.counted.get().cloned().unwrap_or_default())
    }

    async fn take(&self, quotas: &Quotas, of_tenant: Option<u32>) -> Result<(), Counted> {
        let counted = self.counted.get_or_init(async || {
            let counted = quotas.take(self.key, self.tenant, of_tenant).await;
            // A request beyond its quota stays one in vain: who does not stop is heard no more.
            if let (Some(quota), true) = (quotas.vain_max(), counted.iter().all(|one| one.taken.allowed)) {
                quotas.vain.give_back(&self.key, quota);
            }
            counted
        });
        let counted = counted.await;
        counted.iter().find(|one| !one.taken.allowed).map_or(Ok(()), |over| Err(*over))
    }
}

/// Takes the quota of the request that this task answers, unless it is taken by now.
pub(super) async fn take(app: &App, of_tenant: Option<u32>) -> Result<(), Counted> {
    match REQUEST.try_with(Arc::clone) {
        Ok(meter) => meter.take(&app.quotas, of_tenant).await,
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use contracts::ApiKeyId;

    use super::*;

    const LIMITS: RateLimits = RateLimits { key: Some(2), user: Some(3), tenant: Some(9), address: None };

    fn taken(
        quotas: &Quotas,
        key: Key,
        tenant: TenantId,
        of_tenant: Option<u32>,
    ) -> Result<(), &'static str> {
        let counted = quotas.take_here(key, tenant, of_tenant);
        counted.iter().find(|one| !one.taken.allowed).map_or(Ok(()), |over| Err(over.name))
    }

    #[test]
    fn a_request_takes_one_of_each_quota_or_of_none() {
        let (quotas, user, tenant) = (Quotas::new(LIMITS, None), UserId::new(), TenantId::new());
        let [first, second] = [(); 2].map(|()| Key(Credential::ApiKey(ApiKeyId::new()), user));
        let asked = [first, first, first, second, second];
        assert_eq!(
            asked.map(|key| taken(&quotas, key, tenant, None)),
            [Ok(()), Ok(()), Err("key"), Ok(()), Err("user")]
        );
    }

    #[test]
    fn a_tenants_own_limit_only_narrows_that_of_the_install() {
        for (own, most) in [(Some(1), 1), (Some(100), 9), (None, 9)] {
            let (quotas, tenant) = (Quotas::new(LIMITS, None), TenantId::new());
            let key = || Key(Credential::ApiKey(ApiKeyId::new()), UserId::new());
            let allowed = (0..20).filter(|_| taken(&quotas, key(), tenant, own).is_ok()).count();
            assert_eq!(allowed, most, "{own:?}");
        }
    }

    #[test]
    fn guessing_has_a_bound_wherever_there_is_any() {
        for (key, user, tenant, most) in [
            (Some(2), Some(3), Some(9), Some(2)),
            (None, Some(3), Some(9), Some(3)),
            (None, None, Some(9), Some(9)),
            (None, None, None, None),
        ] {
            assert_eq!(Quotas::new(RateLimits { key, user, tenant, address: None }, None).vain_max(), most);
        }
    }

    #[test]
    fn access_tokens_of_two_users_are_two_credentials() {
        let (quotas, tenant) = (Quotas::new(LIMITS, None), TenantId::new());
        let keys = [UserId::new(), UserId::new()].map(|user| Key(Credential::AccessToken, user));
        let asked = [keys[0], keys[0], keys[0], keys[1]];
        assert_eq!(asked.map(|key| taken(&quotas, key, tenant, None)), [Ok(()), Ok(()), Err("key"), Ok(())]);
    }
}
