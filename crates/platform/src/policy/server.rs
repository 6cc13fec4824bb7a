//! An OPA server that evaluates the policy, asked over its REST API.
//!
//! An answer counts only if it was made from the revision that this program has: a server whose bundle is older, newer
//! or somebody else's decides nothing here. Whatever else goes wrong decides nothing either, and the caller denies.

use std::{collections::BTreeMap, time::Duration};

use reqwest::{Client, StatusCode};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::egress::{self, ClientOptions, Egress};

/// For one question. A request waits for it, so a server that is stuck must not hold everything up.
const TIMEOUT: Duration = Duration::from_secs(1);
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A server that can be asked. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Server {
    client: Client,
    base: Url,
}

/// Why a question was not decided.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Call(#[from] egress::Error),
    #[error("the OPA server has not answered within {} s", TIMEOUT.as_secs())]
    TimedOut,
    #[error("the OPA server answers {status} ({said})")]
    Status { status: StatusCode, said: String },
    #[error("the OPA server's answer is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    #[error("the OPA server's answer is not what its API describes")]
    Shape,
    #[error("the OPA server serves no bundle with a revision: give it what `soma policy bundle` writes")]
    NoRevision,
    #[error(
        "the OPA server serves revision `{theirs}` and this program has `{ours}`: give it what this program's \
         `soma policy bundle` writes"
    )]
    OtherRevision { theirs: String, ours: String },
}

impl Error {
    /// The same for whoever asks: without what tells where the server is.
    pub(super) fn for_anybody(&self) -> String {
        match self {
            Self::Call(_) | Self::TimedOut => "does not answer".to_owned(),
            error => error.to_string(),
        }
    }
}

#[derive(Serialize)]
struct Question<'a, Input> {
    input: &'a Input,
}

#[derive(Deserialize)]
struct Answer {
    /// Absent where the rule is undefined.
    #[serde(default)]
    result: serde_json::Value,
    #[serde(default)]
    provenance: Provenance,
}

#[derive(Default, Deserialize)]
struct Provenance {
    #[serde(default)]
    bundles: BTreeMap<String, Bundle>,
}

#[derive(Deserialize)]
struct Bundle {
    #[serde(default)]
    revision: String,
}

/// What OPA says of a fault.
#[derive(Deserialize)]
struct Fault {
    code: String,
}

impl Server {
    /// `base` ends before `/v1/data`.
    pub fn new(base: &Url, egress: &Egress) -> Result<Self, egress::Error> {
        let options = ClientOptions { connect_timeout: TIMEOUT, read_timeout: TIMEOUT };
        Ok(Self { client: egress.client_for(base, options)?, base: base.clone() })
    }

    /// What a rule, as in `data.soma.policy.right`, comes to for an input; null where it is undefined.
    pub(super) async fn ask(
        &self,
        rule: &str,
        input: &(impl Serialize + Sync),
        revision: &str,
    ) -> Result<serde_json::Value, Error> {
        self.evaluate(rule, Some(&Question { input }), revision).await
    }

    /// Whether it would decide by this revision.
    pub(super) async fn ready(&self, revision: &str) -> Result<(), Error> {
        // Any address of the policy's does: what is asked for is in no answer.
        self.evaluate("data.soma.policy.ready", None::<&()>, revision).await.map(drop)
    }

    async fn evaluate(
        &self,
        rule: &str,
        question: Option<&(impl Serialize + Sync)>,
        revision: &str,
    ) -> Result<serde_json::Value, Error> {
        let url = self.url(rule);
        let asking = async {
            match self.call(&url, question).await {
                // A kept connection that the server closed meanwhile. To ask twice changes nothing.
                Err(Error::Call(egress::Error::Broken { .. })) => self.call(&url, question).await,
                answer => answer,
            }
        };
        let answer = tokio::time::timeout(TIMEOUT, asking).await.map_err(|_| Error::TimedOut)??;
        check_revision(&answer.provenance, revision)?;
        Ok(answer.result)
    }

    fn url(&self, rule: &str) -> Url {
        let mut url = self.base.clone();
        let before = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{before}/v1/{}", rule.replace('.', "/")));
        url.set_query(Some("provenance=true"));
        url
    }

    async fn call(&self, url: &Url, question: Option<&(impl Serialize + Sync)>) -> Result<Answer, Error> {
        let request = match question {
            Some(question) => self.client.post(url.clone()).json(question),
            None => self.client.get(url.clone()),
        };
        let mut response = request.send().await.map_err(|error| egress::Error::of_call(url, error))?;
        let (body, more) = egress::body_up_to(url, &mut response, ANSWER_BYTES_MAX).await?;
        let status = response.status();
        if status != StatusCode::OK {
            let said = serde_json::from_slice::<Fault>(&body).map(|fault| fault.code);
            return Err(Error::Status {
                status,
                said: said.unwrap_or_else(|_| "no error of OPA".to_owned()),
            });
        }
        if more {
            return Err(Error::TooLong);
        }
        serde_json::from_slice(&body).map_err(|_| Error::Shape)
    }
}

/// Every bundle that the server serves takes part in an answer, so every one has to be ours.
fn check_revision(provenance: &Provenance, ours: &str) -> Result<(), Error> {
    let mut bundles = provenance.bundles.values().map(|bundle| bundle.revision.as_str());
    let first = bundles.next().filter(|revision| !revision.is_empty()).ok_or(Error::NoRevision)?;
    match std::iter::once(first).chain(bundles).find(|theirs| *theirs != ours) {
        None => Ok(()),
        Some(theirs) => Err(Error::OtherRevision { theirs: theirs.to_owned(), ours: ours.to_owned() }),
    }
}
