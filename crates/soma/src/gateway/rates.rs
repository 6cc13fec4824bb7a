//! How many requests a minute one address without a credential may make, and what is told of every limit. Who made too
//! many gets 429 and is told when to come back (draft-ietf-httpapi-ratelimit-headers).
//!
//! What a credential, a user and a tenant may make is counted where the policy is asked: `domains::Meter`.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    hash::{BuildHasher, Hasher, RandomState},
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use contracts::Caller;
use domains::{App, Counted, Meter, take_quota, whole_seconds};
use platform::{
    http::{ClientAddress, Problem},
    limiter::{Limiter, Taken, WINDOW},
};

use super::admission::who;

static POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
static LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// A credential that was valid is tried again for this long, though its address has no quota left.
const KNOWN_FOR: Duration = Duration::from_secs(60);
const KNOWN_MAX: usize = 65_536;

/// What is counted by address, in this process. Other processes count for themselves.
#[derive(Debug)]
pub struct Addresses {
    quota: Option<u32>,
    limiter: Limiter<IpAddr>,
    known: Known,
}

/// In the extensions of an answer to a caller who had a valid credential.
#[derive(Debug, Clone, Copy)]
struct Authenticated;

impl Addresses {
    pub fn new(quota: Option<u32>) -> Arc<Self> {
        Arc::new(Self { quota, limiter: Limiter::default(), known: Known::default() })
    }
}

/// What the quota of a caller is taken from.
#[derive(Debug, Clone)]
pub struct Callers {
    app: Arc<App>,
    /// Routes that ask the policy, by method and path: there the quota is taken when it has allowed.
    asking: Arc<HashSet<(Method, String)>>,
}

impl Callers {
    pub fn new(app: Arc<App>, asking: HashSet<(Method, String)>) -> Self {
        Self { app, asking: Arc::new(asking) }
    }

    /// Whether the request's handler asks the policy first. Of any other the quota is taken before.
    fn asks(&self, request: &Request) -> bool {
        let route = request.extensions().get::<MatchedPath>();
        route
            .is_some_and(|route| self.asking.contains(&(request.method().clone(), route.as_str().to_owned())))
    }
}

/// Counts a request whose caller is known. Public routes have none and are counted by address.
pub async fn of_caller(State(callers): State<Callers>, request: Request, next: Next) -> Response {
    let Some(caller) = request.extensions().get::<Caller>() else { return next.run(request).await };
    let mut response = match Meter::begin(&callers.app, caller) {
        Err(over) => {
            let mut response = over.refusal().into_response();
            tell(&[over], response.headers_mut());
            response
        }
        Ok(meter) => {
            let before = (!callers.asks(&request)).then(|| caller.clone());
            let answer = async {
                if let Some(caller) = before
                    && let Err(problem) = take_quota(&callers.app, &caller).await
                {
                    return problem.into_response();
                }
                next.run(request).await
            };
            let (mut response, counted) = meter.measure(answer).await;
            tell(&counted, response.headers_mut());
            response
        }
    };
    response.extensions_mut().insert(Authenticated);
    response
}

/// Counts requests without a valid credential, so that guessing and flooding end, whatever they ask for.
pub async fn of_address(State(rates): State<Arc<Addresses>>, request: Request, next: Next) -> Response {
    let Some(quota) = rates.quota else { return next.run(request).await };
    let Some(client) = request.extensions().get::<ClientAddress>() else {
        return Problem::internal(&"a request came without its client's address").into_response();
    };
    let address = who(client.ip);
    let credential = rates.known.hash(request.headers());
    let known = credential.is_some_and(|hash| rates.known.contains(hash));
    if !known {
        let counted = Counted { name: "address", quota, taken: rates.limiter.take(address, quota) };
        if !counted.taken.allowed {
            return counted.refusal().into_response();
        }
    }
    let response = next.run(request).await;
    let valid = response.extensions().get::<Authenticated>().is_some();
    if let Some(hash) = credential {
        match (known, valid) {
            (false, true) => {
                rates.limiter.give_back(&address, quota);
                rates.known.insert(hash);
            }
            (true, false) if response.status() == StatusCode::UNAUTHORIZED => {
                rates.known.remove(hash);
                rates.limiter.take(address, quota);
            }
            _ => {}
        }
    }
    response
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
