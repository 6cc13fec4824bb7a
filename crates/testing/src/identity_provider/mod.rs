//! An OpenID provider that a test holds in its hand: a discovery document, a set of keys, and a token endpoint that
//! answers what the test wants. It knows no passwords; [Keycloak](https://www.keycloak.org) is for that.
//!
//! Every path that is asked for is counted, so that a test can tell what was fetched and that nothing else was.

mod keys;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{StatusCode, Uri},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

pub use keys::{SigningKey, hs256, merged, unsigned_token};

use crate::server::Server;

/// The provider, until it is dropped.
#[derive(Debug)]
pub struct IdentityProvider {
    shared: Arc<Shared>,
    server: Server,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<Provided>,
}

#[derive(Debug, Default)]
struct Provided {
    issuer: String,
    /// Other or further fields of the discovery document.
    discovery: Value,
    keys: Vec<Value>,
    tokens: Value,
    seen: BTreeMap<String, u64>,
    forms: Vec<String>,
    broken: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Provided> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IdentityProvider {
    /// On any free loopback port, without keys.
    ///
    /// # Panics
    /// When no port can be had.
    #[must_use]
    pub fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .route("/token", post(tokens))
            .fallback(|| async { StatusCode::NOT_FOUND })
            .layer(middleware::from_fn_with_state(Arc::clone(&shared), count))
            .with_state(Arc::clone(&shared));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::start("identity-provider", address, router).expect("a free loopback port");
        {
            let mut state = shared.state();
            state.issuer = format!("http://{}", server.address());
            state.discovery = json!({});
            state.tokens = json!({});
        }
        Self { shared, server }
    }

    /// As its tokens name it.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Publishes these keys and no others.
    pub fn publish(&self, keys: &[&SigningKey]) {
        self.publish_raw(keys.iter().map(|key| key.jwk()).collect());
    }

    /// Publishes these JSON Web Keys, whatever they are.
    pub fn publish_raw(&self, keys: Vec<Value>) {
        self.shared.state().keys = keys;
    }

    /// Changes the discovery document: other or further fields; null takes one out.
    pub fn describe(&self, changes: Value) {
        self.shared.state().discovery = changes;
    }

    /// What the token endpoint answers from now on.
    pub fn answer_tokens(&self, answer: Value) {
        self.shared.state().tokens = answer;
    }

    /// Answers 500 to everything, or no longer.
    pub fn set_broken(&self, broken: bool) {
        self.shared.state().broken = broken;
    }

    /// How often each path was asked for.
    #[must_use]
    pub fn seen(&self) -> BTreeMap<String, u64> {
        self.shared.state().seen.clone()
    }

    /// The forms that the token endpoint was sent.
    #[must_use]
    pub fn forms(&self) -> Vec<String> {
        self.shared.state().forms.clone()
    }
}

async fn count(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let broken = {
        let mut state = shared.state();
        *state.seen.entry(path_of(request.uri())).or_default() += 1;
        state.broken
    };
    if broken {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    next.run(request).await
}

fn path_of(uri: &Uri) -> String {
    uri.path_and_query().map(ToString::to_string).unwrap_or_default()
}

async fn discovery(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let state = shared.state();
    let issuer = &state.issuer;
    let usual = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
        "end_session_endpoint": format!("{issuer}/logout"),
        "code_challenge_methods_supported": ["S256"],
    });
    Json(merged(&usual, &state.discovery))
}

async fn keys(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({ "keys": shared.state().keys }))
}

async fn tokens(State(shared): State<Arc<Shared>>, form: String) -> Json<Value> {
    let mut state = shared.state();
    state.forms.push(form);
    Json(state.tokens.clone())
}
