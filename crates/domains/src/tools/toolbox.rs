//! The tools by name: their schemas, the check of a model's arguments against them, and the call.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use contracts::{ConversationId, RunId, TenantId, model::ToolSpec};
use futures::future::BoxFuture;
use platform::{
    config::Config,
    database::Tx,
    durable::{Effect, StepError},
    egress::Egress,
    policy::{self, Policy},
};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{code, fetch, files, time, workspaces};

/// A call that takes longer is given up.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(90);
/// What a model is given of a tool's output.
pub(crate) const OUTPUT_BYTES_MAX: usize = 32 * 1024;
/// What a conversation's files may have together, once one is uploaded or written by a tool. A program that
/// `code_execute` runs is bound by its file size alone.
pub(crate) const WORKSPACE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Arguments longer than this are refused before they are parsed.
const ARGUMENTS_BYTES_MAX: usize = 1024 * 1024;
/// How many faults in its arguments a model is told of.
const FAULTS_TOLD_MAX: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Success,
    Error,
    Timeout,
    /// The policy said no.
    Blocked,
    Cancelled,
    /// The process died while the call was under way, and it may not be made again.
    Unknown,
}

impl Status {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Blocked => "blocked",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }
}

/// A change that must commit together with the call's result.
pub type Change = Arc<dyn for<'a> Fn(&'a Tx) -> BoxFuture<'a, Result<(), StepError>> + Send + Sync>;

/// What a call came to.
pub struct Outcome {
    pub status: Status,
    /// What the model is told.
    pub output: String,
    pub change: Option<Change>,
}

impl Outcome {
    pub fn success(output: impl Into<String>) -> Self {
        Self { status: Status::Success, output: output.into(), change: None }
    }

    pub fn error(output: impl Into<String>) -> Self {
        Self { status: Status::Error, output: output.into(), change: None }
    }

    pub fn of(status: Status, output: impl Into<String>) -> Self {
        Self { status, output: output.into(), change: None }
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcome")
            .field("status", &self.status)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}

/// One call: whose, where, and with what.
#[derive(Debug, Clone)]
pub struct Call {
    pub tenant: TenantId,
    pub conversation: ConversationId,
    pub run: RunId,
    pub arguments: Value,
    /// The conversation's folder; it outlives the run.
    pub workspace: PathBuf,
    /// The same at every attempt at this call.
    pub idempotency_key: String,
    /// Fires when the run is cancelled.
    pub cancel: CancellationToken,
}

pub trait Tool: Send + Sync + fmt::Debug {
    fn spec(&self) -> ToolSpec;
    fn effect(&self) -> Effect;
    /// Why the tool can't work on this machine; `None` when it can.
    fn unavailable(&self) -> Option<String> {
        None
    }
    fn call(&self, call: Call) -> BoxFuture<'static, Outcome>;
}

#[derive(Debug)]
struct Entry {
    tool: Arc<dyn Tool>,
    spec: ToolSpec,
    schema: Result<jsonschema::Validator, String>,
}

/// The toolbox, which is there once the sandbox has been tried: the server need not wait for that to listen.
#[derive(Debug, Clone)]
pub struct Tools(watch::Receiver<Option<Arc<Toolbox>>>);

impl Tools {
    pub fn start(config: &Config, egress: &Egress, sandbox: BoxFuture<'static, Probed>) -> Self {
        let (there, tools) = watch::channel(None);
        let (workspaces, egress) = (workspaces::folder(config), egress.clone());
        tokio::spawn(async move {
            let sandbox = sandbox.await;
            if let Probed::Here(Err(missing)) = &sandbox {
                tracing::warn!(%missing, "no sandbox can be made: code_execute refuses");
            }
            there.send_replace(Some(Arc::new(Toolbox::new(workspaces, &egress, sandbox))));
        });
        Self(tools)
    }

    /// Waits, right after the start, for the sandbox's trial to end.
    pub async fn get(&self) -> Result<Arc<Toolbox>, NoTools> {
        let mut tools = self.0.clone();
        let there = tools.wait_for(Option::is_some).await.map_err(|_| NoTools)?;
        there.clone().ok_or(NoTools)
    }
}

/// The sandbox's trial did not end: its task panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tools could not be set up; the log says why")]
pub struct NoTools;

impl From<NoTools> for StepError {
    fn from(error: NoTools) -> Self {
        Self::failed("no_tools", error)
    }
}

/// What became of the search for a sandbox.
#[derive(Debug)]
pub enum Probed {
    Here(Result<sandbox::Sandbox, sandbox::Unavailable>),
    /// This process calls no tools: workers for tools do.
    Elsewhere,
}

#[derive(Debug)]
pub struct Toolbox {
    tools: BTreeMap<String, Entry>,
    workspaces: PathBuf,
}

impl Toolbox {
    fn new(workspaces: PathBuf, egress: &Egress, sandbox: Probed) -> Self {
        let all: Vec<Arc<dyn Tool>> = vec![
            Arc::new(code::CodeExecute::new(sandbox)),
            Arc::new(files::FileRead),
            Arc::new(files::FileWrite),
            Arc::new(files::FileList),
            Arc::new(fetch::HttpFetch::new(egress.clone())),
            Arc::new(time::Timestamp),
            #[cfg(feature = "faults")]
            Arc::new(super::effects::Effects(Effect::Repeatable)),
            #[cfg(feature = "faults")]
            Arc::new(super::effects::Effects(Effect::Transactional)),
            #[cfg(feature = "faults")]
            Arc::new(super::effects::Effects(Effect::Idempotent)),
            #[cfg(feature = "faults")]
            Arc::new(super::effects::Effects(Effect::AtMostOnce)),
        ];
        let entry = |tool: Arc<dyn Tool>| {
            let spec = tool.spec();
            // A rule can count from nothing to one only if it has seen nothing.
            metrics::counter!("tool_executor_requests_total", "tool" => spec.name.clone(), "status" => "unknown")
                .increment(0);
            let schema = jsonschema::validator_for(&spec.parameters).map_err(|error| error.to_string());
            (spec.name.clone(), Entry { tool, spec, schema })
        };
        Self { tools: all.into_iter().map(entry).collect(), workspaces }
    }

    pub fn specs(&self) -> impl Iterator<Item = &ToolSpec> {
        self.tools.values().map(|entry| &entry.spec)
    }

    /// What a model is told of the tools on an agent's list.
    #[must_use]
    pub fn specs_of(&self, names: &[String]) -> Vec<ToolSpec> {
        self.specs().filter(|spec| names.contains(&spec.name)).cloned().collect()
    }

    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<dyn Tool>> {
        self.tools.get(name).map(|entry| Arc::clone(&entry.tool))
    }

    #[must_use]
    pub fn workspace_of(&self, tenant: TenantId, conversation: ConversationId) -> PathBuf {
        self.workspaces.join(tenant.to_string()).join(conversation.to_string())
    }

    /// A model's arguments as JSON that fits the tool's schema, or what to tell the model.
    pub fn check(&self, name: &str, arguments: &str) -> Result<Value, String> {
        let Some(entry) = self.tools.get(name) else {
            let known: Vec<&str> = self.tools.keys().map(String::as_str).collect();
            return Err(format!("There is no tool `{name}`. The tools are: {}.", known.join(", ")));
        };
        if arguments.len() > ARGUMENTS_BYTES_MAX {
            return Err(format!("The arguments are longer than {ARGUMENTS_BYTES_MAX} bytes."));
        }
        // A model that calls a tool without arguments often sends nothing at all.
        let text = if arguments.trim().is_empty() { "{}" } else { arguments };
        let value: Value =
            serde_json::from_str(text).map_err(|error| format!("The arguments are no JSON: {error}."))?;
        let schema =
            entry.schema.as_ref().map_err(|error| format!("The tool's schema is broken: {error}."))?;
        let faults: Vec<String> =
            schema.iter_errors(&value).take(FAULTS_TOLD_MAX).map(|fault| fault.to_string()).collect();
        if faults.is_empty() {
            return Ok(value);
        }
        Err(format!("The arguments don't fit the tool's schema: {}.", faults.join("; ")))
    }
}

/// The policy that the program was built with; a test-only build knows its test tools too.
pub fn load_policy() -> Result<Policy, policy::LoadError> {
    #[cfg(feature = "faults")]
    return Policy::load_with(super::effects::catalogue());
    #[cfg(not(feature = "faults"))]
    Policy::load()
}

/// The first bytes of an output, cut between two characters, with a note when something was cut.
#[must_use]
pub(crate) fn bounded(mut output: String) -> String {
    if output.len() > OUTPUT_BYTES_MAX {
        let mut end = OUTPUT_BYTES_MAX;
        while !output.is_char_boundary(end) {
            end -= 1;
        }
        output.truncate(end);
        output.push_str("\n[cut here: the output was longer]");
    }
    output
}
