//! A stream of events ends with the credential that it was asked for with, and one that can be resumed when its caller's
//! rights change: whoever comes back is judged anew.
//!
//! WebSockets look for themselves.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, Method, header},
    response::Response,
};
use contracts::{Caller, TenantId, UserId};
use futures::StreamExt;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use super::admitted;
use crate::App;

/// How often the credential of an open stream is looked at again.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// What an answer's stream depends on.
pub(super) struct Watched {
    app: Arc<App>,
    /// What proved who the caller is.
    headers: HeaderMap,
    who: (TenantId, UserId),
    /// Whether a client can go on where the stream ended.
    resumable: bool,
}

impl Watched {
    pub(super) fn new(app: &Arc<App>, request: &Request, caller: &Caller) -> Self {
        let mut headers = HeaderMap::new();
        for name in [header::AUTHORIZATION, header::COOKIE] {
            for value in request.headers().get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        let resumable = *request.method() == Method::GET;
        Self { app: Arc::clone(app), headers, who: (caller.tenant, caller.user), resumable }
    }

    /// The answer, whose stream of events, if it is one, ends when the credential counts no more.
    pub(super) fn while_it_counts(self, response: Response) -> Response {
        let content = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if content.is_none_or(|content| !content.starts_with("text/event-stream")) {
            return response;
        }
        response.map(|body| {
            // In a task of its own: the body is not polled while its client takes nothing, and a check in the middle of
            // a question to the database would hold one of its few connections as long.
            let over = AbortOnDropHandle::new(tokio::spawn(self.until_it_counts_no_more()));
            Body::from_stream(body.into_data_stream().take_until(over))
        })
    }

    async fn until_it_counts_no_more(self) {
        let mut first = None;
        let mut check = interval(CHECK_EVERY);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            check.tick().await;
            if !self.counts(&mut first).await {
                return;
            }
        }
    }

    /// `first` is what the caller was when this was asked first, at the stream's beginning.
    async fn counts(&self, first: &mut Option<Caller>) -> bool {
        match admitted(&self.app, &self.headers).await {
            Ok(now) if (now.tenant, now.user) != self.who => false,
            Ok(now) if self.resumable => *first.get_or_insert_with(|| now.clone()) == now,
            Ok(_) => true,
            // The database is away for a moment: whoever was let in stays.
            Err(problem) => !matches!(problem.status, 401 | 403),
        }
    }
}
