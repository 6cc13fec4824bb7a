//! How many requests a minute one key or session, one user, one tenant, and one address without a credential may
//! make. Who made too many gets 429 and is told when to come back (draft-ietf-httpapi-ratelimit-headers).

use std::{
    collections::HashMap,
    fmt::Write as _,
    hash::{BuildHasher, Hasher, RandomState},
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use contracts::{Caller, Credential, TenantId, UserId};
use platform::{
    config::RateLimits,
    http::{ClientAddress, Problem},
    limiter::{Limiter, Taken, WINDOW},
};

use super::admission::who;

static POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
static LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// A credential that was valid is tried again for this long, though its address has no quota left.
const KNOWN_FOR: Duration = Duration::from_secs(60);
const KNOWN_MAX: usize = 65_536;

/// Counts of this process. Other processes count for themselves.
#[derive(Debug)]
pub struct Rates {
    limits: RateLimits,
    keys: Limiter<Credential>,
    users: Limiter<UserId>,
    tenants: Limiter<TenantId>,
    addresses: Limiter<IpAddr>,
    known: Known,
}

/// One limit as it applies to a request.
struct Counted {
    name: &'static str,
    quota: u32,
    taken: Taken,
}

/// In the extensions of an answer to a caller who had a valid credential.
#[derive(Debug, Clone, Copy)]
struct Authenticated;

impl Rates {
    pub fn new(limits: RateLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            keys: Limiter::default(),
            users: Limiter::default(),
            tenants: Limiter::default(),
            addresses: Limiter::default(),
            known: Known::default(),
        })
    }

    /// Takes one from each quota of the caller, or from none.
    fn take(&self, caller: &Caller) -> Vec<Counted> {
        let mut counted = Vec::with_capacity(3);
        if let Some(quota) = self.limits.key {
            counted.push(Counted { name: "key", quota, taken: self.keys.take(caller.credential, quota) });
        }
        if let Some(quota) = self.limits.user {
            counted.push(Counted { name: "user", quota, taken: self.users.take(caller.user, quota) });
        }
        if let Some(quota) = self.limits.tenant {
            counted.push(Counted { name: "tenant", quota, taken: self.tenants.take(caller.tenant, quota) });
        }
        if counted.iter().any(|one| !one.taken.allowed) {
            for one in counted.iter().filter(|one| one.taken.allowed) {
                match one.name {
                    "key" => self.keys.give_back(&caller.credential, one.quota),
                    "user" => self.users.give_back(&caller.user, one.quota),
                    _ => self.tenants.give_back(&caller.tenant, one.quota),
                }
            }
        }
        counted
    }
}

/// Counts a request whose caller is known. Public routes have none and are counted by address.
pub async fn of_caller(State(rates): State<Arc<Rates>>, request: Request, next: Next) -> Response {
    let Some(caller) = request.extensions().get::<Caller>() else { return next.run(request).await };
    let counted = rates.take(caller);
    let mut response = match counted.iter().find(|one| !one.taken.allowed) {
        Some(over) => refuse(over),
        None => next.run(request).await,
    };
    response.extensions_mut().insert(Authenticated);
    tell(&counted, response.headers_mut());
    response
}

/// Counts requests without a valid credential, so that guessing and flooding end, whatever they ask for.
pub async fn of_address(State(rates): State<Arc<Rates>>, request: Request, next: Next) -> Response {
    let Some(quota) = rates.limits.address else { return next.run(request).await };
    let Some(client) = request.extensions().get::<ClientAddress>() else {
        return Problem::internal(&"a request came without its client's address").into_response();
    };
    let address = who(client.ip);
    let credential = rates.known.hash(request.headers());
    let known = credential.is_some_and(|hash| rates.known.contains(hash));
    if !known {
        let counted = Counted { name: "address", quota, taken: rates.addresses.take(address, quota) };
        if !counted.taken.allowed {
            return refuse(&counted);
        }
    }
    let response = next.run(request).await;
    let valid = response.extensions().get::<Authenticated>().is_some();
    if let Some(hash) = credential {
        match (known, valid) {
            (false, true) => {
                rates.addresses.give_back(&address, quota);
                rates.known.insert(hash);
            }
            (true, false) if response.status() == StatusCode::UNAUTHORIZED => {
                rates.known.remove(hash);
                rates.addresses.take(address, quota);
            }
            _ => {}
        }
    }
    response
}

fn refuse(over: &Counted) -> Response {
    metrics::counter!("rate_limit_rejections_total", "scope" => over.name).increment(1);
    let seconds = whole_seconds(over.taken.retry_after).max(1);
    let what = match over.name {
        "key" => "with this credential",
        "user" => "of this user",
        "tenant" => "of this tenant",
        _ => "from this address without a valid credential",
    };
    let detail = format!(
        "More than {} requests a minute {what} are too many. The next one is taken in {seconds} s.",
        over.quota
    );
    let mut problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail);
    problem.retry_after_s = Some(seconds);
    problem.into_response()
}

/// All limits, and where the tightest of them stands.
fn tell(counted: &[Counted], headers: &mut HeaderMap) {
    let Some(tightest) = counted.iter().min_by_key(|one| (one.taken.allowed, one.taken.remaining)) else {
        return;
    };
    let mut policy = String::with_capacity(64);
    for one in counted {
        let comma = if policy.is_empty() { "" } else { ", " };
        // Writing to a string does not fail.
        let _ = write!(policy, "{comma}\"{}\";q={};w={}", one.name, one.quota, WINDOW.as_secs());
    }
    let Taken { remaining, reset, .. } = tightest.taken;
    let limit = format!("\"{}\";r={remaining};t={}", tightest.name, whole_seconds(reset));
    for (name, value) in [(&POLICY, policy), (&LIMIT, limit)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}

/// Rounded up: who comes back after that long is in time.
fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

/// Credentials that were valid a moment ago, by a hash whose key only this process has.
#[derive(Debug, Default)]
struct Known {
    hasher: RandomState,
    until: RwLock<HashMap<u64, Instant>>,
}

impl Known {
    /// `None` for a request without a credential.
    fn hash(&self, headers: &HeaderMap) -> Option<u64> {
        let mut hasher = self.hasher.build_hasher();
        let mut any = false;
        for name in [header::AUTHORIZATION, header::COOKIE] {
            for value in headers.get_all(name) {
                any = true;
                hasher.write(value.as_bytes());
            }
        }
        any.then(|| hasher.finish())
    }

    fn contains(&self, hash: u64) -> bool {
        let until = self.until.read().unwrap_or_else(PoisonError::into_inner);
        until.get(&hash).is_some_and(|until| *until > Instant::now())
    }

    fn insert(&self, hash: u64) {
        let now = Instant::now();
        let mut until = self.until.write().unwrap_or_else(PoisonError::into_inner);
        if until.len() >= KNOWN_MAX {
            until.retain(|_, until| *until > now);
        }
        // Without room it is only not remembered: its address is counted as long as it is new.
        if until.len() < KNOWN_MAX {
            until.insert(hash, now + KNOWN_FOR);
        }
    }

    fn remove(&self, hash: u64) {
        self.until.write().unwrap_or_else(PoisonError::into_inner).remove(&hash);
    }
}
