//! The API as its client sees it: a few calls, each of which may be made again, and the stream of a run's events.
//!
//! What changes something carries an `Idempotency-Key`, so that a request whose answer was lost is not done twice.

use std::{future::Future, time::Duration};

use contracts::{
    ApprovalId, ConversationId, RunId,
    model::{Role, ToolRequest, Usage},
};
use eventsource_stream::Eventsource;
use futures::{Stream, StreamExt, future, stream::BoxStream};
use platform::egress::{self, AllowList, ClientOptions, Egress};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::frame::{self, RunEvent};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The server sends a sign of life into a stream every 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(50);
/// Waits before a call that may succeed later is made again.
const RETRY_AFTER: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// A page of messages may hold 200 answers of a mebibyte.
const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// One connection's share of a stream; a longer one is gone on with over a new connection.
const STREAM_BYTES_MAX: usize = 64 * 1024 * 1024;
const PAGE: usize = 200;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Egress(#[from] egress::Error),
    /// The server's own answer (RFC 9457).
    #[error("{detail} ({code}, HTTP {status}{})", revision.as_ref().map(|revision| format!(", policy {revision}")).unwrap_or_default())]
    Refused { status: u16, code: String, detail: String, revision: Option<String> },
    #[error("the server sends what this client does not understand: {0}")]
    Garbage(String),
    #[error("the connection could not be restored within {seconds} s: {reason}")]
    GaveUp { seconds: u64, reason: String },
}

impl Error {
    /// Whether the same request may succeed in a moment.
    pub fn passing(&self) -> bool {
        match self {
            Self::Egress(error) => matches!(
                error,
                egress::Error::Connect { .. } | egress::Error::Broken { .. } | egress::Error::TimedOut { .. }
            ),
            Self::Refused { status, .. } => matches!(status, 429 | 502 | 503 | 504),
            Self::Garbage(_) | Self::GaveUp { .. } => false,
        }
    }
}

/// `soma chat`'s and `soma demo`'s way to a server.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    key: SecretString,
}

#[derive(Deserialize)]
struct Identified<Id> {
    id: Id,
}

#[derive(Deserialize)]
struct Accepted {
    run_id: RunId,
}

#[derive(Debug, Deserialize)]
pub struct Message {
    pub run_id: RunId,
    pub role: Role,
    pub content: String,
    #[serde(default)]
    pub tool_calls: Vec<ToolRequest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Run {
    /// As in `running`.
    pub state: String,
    pub usage: Usage,
    pub cost_micros: u64,
}

impl Run {
    pub fn ended(&self) -> bool {
        matches!(self.state.as_str(), "completed" | "failed" | "cancelled")
    }
}

/// A call that somebody is asked about.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Approval {
    pub id: ApprovalId,
    pub conversation_id: ConversationId,
    pub tool: String,
    pub arguments: Value,
    pub arguments_hash: String,
    pub state: String,
    pub requested_at: String,
    pub expires_at: String,
}

/// What somebody decides.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// With these arguments instead, where some are given.
    Approve(Option<Value>),
    Reject,
}

#[derive(Debug, Deserialize)]
pub struct Budget {
    /// `tenant` or `user`.
    pub scope: String,
    pub reserved_micros: u64,
    pub spent_micros: u64,
}

#[derive(Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

#[derive(Default, Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: String,
    policy_revision: Option<String>,
}

impl Client {
    /// A client of the server at `base`, and of no other.
    pub fn new(base: &Url, key: SecretString) -> Result<Self, Error> {
        let options = ClientOptions { connect_timeout: CONNECT_TIMEOUT, read_timeout: SILENCE_MAX };
        let http = Egress::new(AllowList::default()).client_for(base, options)?;
        Ok(Self { http, base: base.clone(), key })
    }

    pub async fn create_conversation(&self, agent: &str) -> Result<ConversationId, Error> {
        let made: Identified<ConversationId> = self.post("conversations", &json!({ "agent": agent })).await?;
        Ok(made.id)
    }

    /// Fails when there is no such conversation for this key.
    pub async fn find_conversation(&self, id: ConversationId) -> Result<(), Error> {
        let _: Identified<ConversationId> = self.get(&format!("conversations/{id}")).await?;
        Ok(())
    }

    /// The run that answers the message.
    pub async fn send(&self, to: ConversationId, content: &str, interrupt: bool) -> Result<RunId, Error> {
        let body = json!({ "content": content, "interrupt": interrupt });
        let accepted: Accepted = self.post(&format!("conversations/{to}/messages"), &body).await?;
        Ok(accepted.run_id)
    }

    pub async fn cancel(&self, run: RunId) -> Result<Run, Error> {
        self.post(&format!("runs/{run}/cancel"), &Value::Null).await
    }

    pub async fn run(&self, run: RunId) -> Result<Run, Error> {
        self.get(&format!("runs/{run}")).await
    }

    pub async fn budgets(&self) -> Result<Vec<Budget>, Error> {
        self.get("budgets").await
    }

    /// Approvals that nobody has decided, newest first; one page of them.
    pub async fn pending_approvals(&self) -> Result<Vec<Approval>, Error> {
        let page: Page<Approval> = self.get(&format!("approvals?state=pending&limit={PAGE}")).await?;
        Ok(page.items)
    }

    pub async fn approval(&self, id: ApprovalId) -> Result<Approval, Error> {
        self.get(&format!("approvals/{id}")).await
    }

    /// Decides about a call with just the arguments of this hash.
    pub async fn decide(
        &self,
        id: ApprovalId,
        arguments_hash: &str,
        decision: Decision,
        reason: Option<&str>,
    ) -> Result<Approval, Error> {
        let mut body = json!({ "arguments_hash": arguments_hash, "reason": reason });
        match decision {
            Decision::Approve(arguments) => {
                body["decision"] = json!("approve");
                body["arguments"] = json!(arguments);
            }
            Decision::Reject => body["decision"] = json!("reject"),
        }
        self.post(&format!("approvals/{id}/decide"), &body).await
    }

    /// A conversation's last `count` messages, oldest first.
    pub async fn last_messages(&self, id: ConversationId, count: usize) -> Result<Vec<Message>, Error> {
        let mut last: Vec<Message> = Vec::new();
        let mut before = "end".to_owned();
        while last.len() < count {
            let limit = (count - last.len()).min(PAGE);
            let path = format!("conversations/{id}/messages?limit={limit}&before={before}");
            let page: Page<Message> = self.get(&path).await?;
            last.splice(0..0, page.items);
            match page.next_cursor {
                Some(next) => before = next,
                None => break,
            }
        }
        Ok(last)
    }

    /// A run's events after number `after`. Ends after `run.done`, or when the connection does.
    pub async fn events(
        &self,
        run: RunId,
        after: i64,
    ) -> Result<BoxStream<'static, Result<RunEvent, Error>>, Error> {
        let path = format!("runs/{run}/events");
        let request = self.request(Method::GET, &path)?.header("last-event-id", after);
        let response = self.checked(request.header(header::ACCEPT, "text/event-stream")).await?;
        let base = self.base.clone();
        let events = bounded(response).eventsource().map(move |event| match event {
            Ok(event) => frame::read(&event.id, &event.data).map_err(Error::Garbage),
            Err(eventsource_stream::EventStreamError::Transport(error)) => {
                Err(egress::Error::of_call(&base, error).into())
            }
            Err(error) => Err(Error::Garbage(error.to_string())),
        });
        Ok(events.boxed())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        again(&RETRY_AFTER, || async { self.answer(self.request(Method::GET, path)?).await }).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, Error> {
        let key = Uuid::now_v7().to_string();
        again(&RETRY_AFTER, || async {
            let mut request = self.request(Method::POST, path)?.header("idempotency-key", &key);
            if !body.is_null() {
                request = request.json(body);
            }
            self.answer(request).await
        })
        .await
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, Error> {
        let address = format!("{}/api/v2/{path}", self.base.as_str().trim_end_matches('/'));
        let url: Url = address.parse().map_err(|_| egress::Error::BadUrl("it is no URL".into()))?;
        Ok(self.http.request(method, url).bearer_auth(self.key.expose_secret()))
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        let response = self.checked(request).await?;
        let body = self.body(response).await?;
        serde_json::from_slice(&body).map_err(|error| Error::Garbage(error.to_string()))
    }

    /// The response if its status says success, else what the server says is wrong.
    async fn checked(&self, request: RequestBuilder) -> Result<Response, Error> {
        let sent = request.send().await;
        let response = sent.map_err(|error| egress::Error::of_call(&self.base, error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.body(response).await.unwrap_or_default();
        Err(refusal(status, &body))
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| egress::Error::of_call(&self.base, error))?
        {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(Error::Garbage(format!("more than {BODY_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

fn bounded(response: Response) -> impl Stream<Item = reqwest::Result<impl AsRef<[u8]>>> {
    let mut left = STREAM_BYTES_MAX;
    response.bytes_stream().take_while(move |chunk| {
        let length = chunk.as_ref().map_or(0, |chunk| chunk.len());
        let fits = length <= left;
        left = left.saturating_sub(length);
        future::ready(fits)
    })
}

fn refusal(status: StatusCode, body: &[u8]) -> Error {
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    // A proxy's page is no problem+json.
    let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
    Error::Refused {
        status: status.as_u16(),
        code: or(problem.code, "http"),
        detail: or(problem.detail, status.canonical_reason().unwrap_or("the server refused")),
        revision: problem.policy_revision,
    }
}

/// Makes a call, and again after a while if that may help.
async fn again<T, F>(waits: &[Duration], call: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    for wait in waits {
        match call().await {
            Err(error) if error.passing() => tokio::time::sleep(*wait).await,
            answered => return answered,
        }
    }
    call().await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_refusal_says_what_the_server_said() {
        let body = br#"{"code":"denied","detail":"no role allows it","policy_revision":"abc"}"#;
        let error = refusal(StatusCode::FORBIDDEN, body);
        assert_eq!(error.to_string(), "no role allows it (denied, HTTP 403, policy abc)");
        assert!(!error.passing());
        let page = refusal(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(page.to_string(), "Bad Gateway (http, HTTP 502)");
        assert!(page.passing());
    }

    #[tokio::test]
    async fn a_call_is_made_again_only_while_that_may_help() {
        for (status, calls) in [(503, 3), (403, 1)] {
            let made = Cell::new(0);
            let refuse = || async {
                made.set(made.get() + 1);
                Err::<(), _>(Error::Refused {
                    status,
                    code: String::new(),
                    detail: String::new(),
                    revision: None,
                })
            };
            assert!(again(&[Duration::ZERO; 2], refuse).await.is_err());
            assert_eq!(made.get(), calls);
        }
    }
}
