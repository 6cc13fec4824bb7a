//! Chat over WebSocket: messages in, and the events of their runs out, over one connection.
//!
//! The frames are those of a run's event stream, so that a client takes either. `frames` is what they look like,
//! `connection` what one connection does. A credential is checked when it opens and every second while it is open; it
//! stands in a header or a subprotocol and never in an address, which would be logged.

mod connection;
mod frames;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    extract::{
        State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, StatusCode},
    response::Response,
};
use contracts::{AgentId, Caller, TenantId, policy::Resource};
use platform::http::{BODY_BYTES_MAX, Path, Problem};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{App, agents, authority, identity::Authenticated};

/// What a client may name besides its key's subprotocol, and is told back.
const SUBPROTOCOL: &str = "soma.chat";
/// Connections of one tenant at a time.
const OF_TENANT_MAX: usize = 100;
/// Longest message from a client: as long as a request's body, which may hold the same.
const MESSAGE_BYTES_MAX: usize = BODY_BYTES_MAX;
/// What is gathered for the socket before a slow reader holds the connection up.
const WRITE_BYTES_MAX: usize = 8 * 1024 * 1024;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(chat)).routes(routes!(chat_with))
}

/// How many connections each tenant has open.
#[derive(Debug, Default)]
pub(crate) struct Sockets(Mutex<HashMap<TenantId, usize>>);

/// One connection's place, free again when this is dropped.
#[derive(Debug)]
struct Place {
    app: Arc<App>,
    tenant: TenantId,
}

impl Place {
    /// `None` when the tenant has as many as it may.
    fn take(app: &Arc<App>, tenant: TenantId) -> Option<Self> {
        let mut open = app.sockets.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(tenant).or_default();
        if *count >= OF_TENANT_MAX {
            return None;
        }
        *count += 1;
        metrics::gauge!("websocket_connections_active").increment(1.0);
        Some(Self { app: Arc::clone(app), tenant })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.app.sockets.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.tenant);
            }
        }
        metrics::gauge!("websocket_connections_active").decrement(1.0);
    }
}

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// Opens a WebSocket to chat in any conversation. A browser without the session's cookie names its key as a
/// subprotocol, `bearer.KEY`, beside `soma.chat`.
#[utoipa::path(get, path = "/ws/v2/chat", tag = "conversations",
    params(("Sec-WebSocket-Protocol" = Option<String>, Header)),
    extensions(("x-soma-action" = json!("conversation:read"))),
    responses((status = 101, description = "The connection speaks WebSocket from here on."),
        (status = "default", body = Problem)))]
async fn chat(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Result<Response, Problem> {
    open(app, caller, headers, None, upgrade).await
}

/// Opens a WebSocket to chat with one agent: a message without a conversation begins one with it.
#[utoipa::path(get, path = "/ws/v2/chat/{agent}", tag = "conversations",
    params(("agent" = String, Path), ("Sec-WebSocket-Protocol" = Option<String>, Header)),
    extensions(("x-soma-action" = json!("conversation:read"))),
    responses((status = 101, description = "The connection speaks WebSocket from here on."),
        (status = "default", body = Problem)))]
async fn chat_with(
    State(app): State<Arc<App>>,
    Authenticated(caller): Authenticated,
    Path(agent): Path<String>,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Result<Response, Problem> {
    open(app, caller, headers, Some(agent), upgrade).await
}

async fn open(
    app: Arc<App>,
    caller: Caller,
    headers: HeaderMap,
    agent: Option<String>,
    upgrade: Upgrade,
) -> Result<Response, Problem> {
    authority::require(&app, &caller, "conversation:read", Resource::any("conversation")).await?;
    let agent: Option<AgentId> = match agent {
        None => None,
        Some(name) => {
            let found = agents::find(app.database.read(), caller.tenant, &name).await?;
            Some(found.ok_or_else(Problem::not_found)?.id)
        }
    };
    let upgrade = upgrade.map_err(|error| {
        let detail = format!("Open this path as a WebSocket: {}.", error.body_text().trim_end_matches('.'));
        Problem::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", detail)
    })?;
    let place = Place::take(&app, caller.tenant).ok_or_else(|| {
        let detail =
            format!("This tenant has {OF_TENANT_MAX} connections open, as many as it may: close one.");
        let mut problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_connections", detail);
        problem.retry_after_s = Some(5);
        problem
    })?;
    let upgrade = upgrade
        .protocols([SUBPROTOCOL])
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .max_write_buffer_size(WRITE_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| async move {
        connection::Connection::new(app, caller, headers, agent).run(socket).await;
        drop(place);
    }))
}
