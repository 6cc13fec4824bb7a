//! The policy: the one place that says whether a subject may do something to something.
//!
//! `policy/*.rego` decides, from `policy/data.json`; this module loads both and asks them. The gateway and the workers
//! call the same `decide` with the same input document. It fails closed: an error, an undefined result or an answer
//! of another shape is a denial. It never reads a database, and it knows no rule of its own.
//!
//! Who evaluates is a choice: regorus in this process, or an OPA server ([`Policy::on`]) that serves the same texts and
//! data, from a bundle that this module writes.

mod bundle;
mod catalogue;
mod document;
mod memory;
mod server;
mod suite;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use contracts::policy::{Decision, Request};
use futures::{FutureExt as _, StreamExt as _, stream};
use regorus::{CompiledPolicy, Engine, Value};
use serde::Serialize;
use sha2::{Digest, Sha256};

use memory::Memory;

pub use bundle::BundleError;
pub use catalogue::{Action, Catalogue, Role, Scope};
pub use server::Server;
pub use suite::{TestReport, TestResult};

/// The two rules that are asked for.
const DECISION: &str = "data.soma.policy.decision";
const RIGHT: &str = "data.soma.policy.right";
const TABLES: &str = "data.soma.tables";
/// Questions of one list that a server is asked at the same time.
const SERVER_AT_ONCE: usize = 16;

/// One Rego module: the file's name, for messages, and its text.
type Module = (&'static str, &'static str);

const DECISION_MODULE: Module = ("decision.rego", include_str!("../../../../policy/decision.rego"));
const TABLES_MODULE: Module = ("tables.rego", include_str!("../../../../policy/tables.rego"));
const DATA: &str = include_str!("../../../../policy/data.json");

/// Why the policy was not loaded. Nothing may start without one.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the policy does not compile: {0}")]
    Rego(String),
    #[error("the policy's data has another shape")]
    Data(#[source] serde_json::Error),
    #[error("the policy's data contradicts itself: {0}")]
    Catalogue(String),
}

/// A loaded policy, and who evaluates it. Clones share it.
#[derive(Clone)]
pub struct Policy {
    loaded: Arc<Loaded>,
    /// Absent where it is evaluated in this process.
    server: Option<Server>,
}

struct Loaded {
    decision: CompiledPolicy,
    right: CompiledPolicy,
    memory: Memory,
    catalogue: Catalogue,
    revision: String,
    /// What a server is given: the rules, and the data with the tables in it.
    rules: String,
    data: Value,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("revision", &self.loaded.revision)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Policy {
    /// The policy that this program was built with.
    pub fn load() -> Result<Self, LoadError> {
        Self::from_texts(DECISION_MODULE.1, TABLES_MODULE.1, document::parse(DATA)?)
    }

    /// The same with more data merged in: objects join, lists grow, and a value that is there already may not change.
    /// For the tools that exist only in tests.
    #[cfg(any(test, feature = "faults"))]
    pub fn load_with(extra_data: serde_json::Value) -> Result<Self, LoadError> {
        let mut data = document::parse(DATA)?;
        document::merge(&mut data, extra_data, "data").map_err(LoadError::Catalogue)?;
        Self::from_texts(DECISION_MODULE.1, TABLES_MODULE.1, data)
    }

    pub(crate) fn from_texts(rules: &str, tables: &str, data: serde_json::Value) -> Result<Self, LoadError> {
        let catalogue = Catalogue::read(&data)?;
        let revision = revision(&[rules, tables, &data.to_string()]);
        let data = with_tables(tables, &data)?;
        let mut engine = engine(&[(DECISION_MODULE.0, rules)], data.clone())?;
        let decision = engine.compile_with_entrypoint(&DECISION.into()).map_err(rego)?;
        let right = engine.compile_with_entrypoint(&RIGHT.into()).map_err(rego)?;
        let (memory, rules) = (Memory::default(), rules.to_owned());
        let loaded = Loaded { decision, right, memory, catalogue, revision, rules, data };
        Ok(Self { loaded: Arc::new(loaded), server: None })
    }

    /// The same policy, evaluated by a server from now on. Nothing is remembered then: whoever runs the server sees
    /// every question, and what it can't be asked is denied.
    #[must_use]
    pub fn on(self, server: Server) -> Self {
        Self { server: Some(server), ..self }
    }

    /// Names the texts and the data behind every decision: 16 hexadecimal digits of their SHA-256.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.loaded.revision
    }

    /// May this subject do this to that? Always answers; what goes wrong is a denial, and
    /// [`Decision::is_undecided`] where nobody could be asked.
    pub async fn decide(&self, request: &Request) -> Decision {
        match &self.server {
            None => self.loaded.memory.recall(request, || self.decide_anew(request)),
            Some(server) => self.ask_server(server, DECISION, request).await,
        }
    }

    /// The same for several questions, in their order.
    pub async fn decide_all(&self, requests: &[Request]) -> Vec<Decision> {
        match &self.server {
            None => {
                let recall = |request| self.loaded.memory.recall(request, || self.decide_anew(request));
                requests.iter().map(recall).collect()
            }
            Some(server) => self.ask_server_all(server, DECISION, requests).await,
        }
    }

    /// Has this subject the right to do each of these at all? It is what [`Self::decide`] says, but of a tool call it
    /// says nothing about the tool. For telling people what they may do, and what they may give on.
    pub async fn rights(&self, requests: &[Request]) -> Vec<Decision> {
        match &self.server {
            None => requests.iter().map(|request| self.ask_about(&self.loaded.right, request)).collect(),
            Some(server) => self.ask_server_all(server, RIGHT, requests).await,
        }
    }

    /// Whether questions are decided now, or why not.
    pub async fn ready(&self) -> Result<(), String> {
        match &self.server {
            // Loaded at the start, or there was no start.
            None => Ok(()),
            Some(server) => server.ready(self.revision()).await.map_err(|error| {
                tracing::error!(%error, "the policy's server is not ready");
                error.for_anybody()
            }),
        }
    }

    /// A decision in this process, without the memory of what was asked before.
    #[must_use]
    pub fn decide_anew(&self, request: &Request) -> Decision {
        self.ask_about(&self.loaded.decision, request)
    }

    /// The same for an input document as it is, for `soma policy eval`.
    #[must_use]
    pub fn evaluate(&self, input: serde_json::Value) -> Decision {
        match document::from_json(input) {
            Some(input) => self.ask(&self.loaded.decision, input),
            None => self.error("the input is no document"),
        }
    }

    /// Runs the policy's own tests, `policy/*_test.rego`, for `soma policy test`.
    #[must_use]
    pub fn test() -> TestReport {
        suite::run()
    }

    /// What may be granted: actions, roles and the tenants' names for roles.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.loaded.catalogue
    }

    /// Whether the catalogue has this action. A pattern such as `agent:*` is none.
    #[must_use]
    pub fn is_action(&self, name: &str) -> bool {
        self.loaded.catalogue.actions.contains_key(name)
    }

    /// Whether a subject may carry this name: a role, or a tenant's name for some.
    #[must_use]
    pub fn is_role(&self, name: &str) -> bool {
        self.loaded.catalogue.roles.contains_key(name)
            || self.loaded.catalogue.tenant_roles.contains_key(name)
    }

    fn ask_about(&self, rule: &CompiledPolicy, request: &Request) -> Decision {
        match document::from_request(request) {
            Some(input) => self.ask(rule, input),
            None => self.error("the request is no document"),
        }
    }

    fn ask(&self, rule: &CompiledPolicy, input: Value) -> Decision {
        let answer = match rule.eval_with_input(input) {
            Ok(answer) => answer,
            Err(error) => return self.error(&error.to_string()),
        };
        self.read(&answer)
    }

    async fn ask_server_all(&self, server: &Server, rule: &str, requests: &[Request]) -> Vec<Decision> {
        let asked = requests.iter().map(|request| self.ask_server(server, rule, request).boxed());
        stream::iter(asked.collect::<Vec<_>>()).buffered(SERVER_AT_ONCE).collect().await
    }

    async fn ask_server(&self, server: &Server, rule: &str, input: &(impl Serialize + Sync)) -> Decision {
        match server.ask(rule, input, self.revision()).await {
            Ok(answer) => match document::from_json(answer) {
                Some(answer) => self.read(&answer),
                None => self.error("the server's answer is no document"),
            },
            Err(error) => {
                tracing::error!(revision = self.revision(), %error, "the policy's server decided nothing");
                Decision::undecided(&error.to_string(), self.revision())
            }
        }
    }

    fn read(&self, answer: &Value) -> Decision {
        match document::to_decision(answer, self.revision()) {
            Some(decision) => decision,
            None => {
                tracing::error!(revision = self.revision(), "policy gave a malformed decision");
                self.deny("malformed_decision")
            }
        }
    }

    fn deny(&self, reason: &str) -> Decision {
        Decision::deny(reason, self.revision())
    }

    fn error(&self, message: &str) -> Decision {
        tracing::error!(revision = self.revision(), message, "policy was not evaluated");
        self.deny(&format!("policy_error: {}", summary(message)))
    }
}

/// An engine with these modules and this data.
fn engine(modules: &[(&str, &str)], data: Value) -> Result<Engine, LoadError> {
    let mut engine = Engine::new();
    for (name, text) in modules {
        engine.add_policy((*name).to_owned(), (*text).to_owned()).map_err(rego)?;
    }
    engine.add_data(data).map_err(rego)?;
    Ok(engine)
}

/// The data with the tables in it, so that a decision looks up what `tables.rego` would compute for every one anew.
fn with_tables(tables: &str, data: &serde_json::Value) -> Result<Value, LoadError> {
    let data = document::from_json(data.clone())
        .ok_or_else(|| LoadError::Catalogue("data is no document".to_owned()))?;
    let mut engine = engine(&[(TABLES_MODULE.0, tables)], data)?;
    let results = engine.eval_query(TABLES.to_owned(), false).map_err(rego)?;
    let tables = results
        .result
        .first()
        .and_then(|result| result.expressions.first())
        .map(|expression| expression.value.clone())
        .filter(|tables| tables.as_object().is_ok_and(|tables| !tables.is_empty()))
        .ok_or_else(|| LoadError::Rego(format!("{TABLES} is undefined")))?;
    engine.add_data(document::object([("soma", document::object([("tables", tables)]))])).map_err(rego)?;
    Ok(engine.get_data())
}

/// regorus's errors are `anyhow`'s, which no other part of this crate needs.
fn rego(error: impl fmt::Display) -> LoadError {
    LoadError::Rego(error.to_string())
}

/// Each text goes in with its length, so that no two lists of texts run together into the same bytes.
fn revision(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    let mut digest = hex::encode(hash.finalize());
    digest.truncate(16);
    digest
}

/// regorus prints the source around an error; a reason has room for the last line, which says what it was.
fn summary(message: &str) -> &str {
    message.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("unknown")
}
