//! `code_execute`: runs a program that the model wrote, in the sandbox, in the conversation's workspace.

use contracts::model::ToolSpec;
use futures::future::BoxFuture;
use platform::durable::Effect;
use sandbox::{Job, Language, Limits, Outcome as Ended, Sandbox};
use serde_json::{Value, json};

use super::{Call, Outcome, Probed, Status, Tool};

#[derive(Debug)]
pub(super) struct CodeExecute(Probed);

impl CodeExecute {
    pub(super) fn new(sandbox: Probed) -> Self {
        Self(sandbox)
    }
}

impl Tool for CodeExecute {
    fn spec(&self) -> ToolSpec {
        let languages: Vec<&str> = match &self.0 {
            Probed::Here(Ok(sandbox)) => {
                sandbox.languages().iter().map(|language| language.as_str()).collect()
            }
            Probed::Here(Err(_)) => vec![Language::Python.as_str(), Language::Bash.as_str()],
            // Whoever makes the call says so where it lacks one.
            Probed::Elsewhere => Language::ALL.map(Language::as_str).to_vec(),
        };
        ToolSpec {
            name: "code_execute".into(),
            description:
                "Runs a program and answers what it printed. No network; files lie in the working directory \
                          and stay there for the next call."
                    .into(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "language": { "type": "string", "enum": languages },
                    "code": { "type": "string", "description": "The whole program." },
                },
                "required": ["language", "code"],
                "additionalProperties": false,
            }),
        }
    }

    /// A program can do anything to its workspace: running it twice is not running it once.
    fn effect(&self) -> Effect {
        Effect::AtMostOnce
    }

    fn unavailable(&self) -> Option<String> {
        let Probed::Here(Err(missing)) = &self.0 else { return None };
        Some(missing.to_string())
    }

    fn call(&self, call: Call) -> BoxFuture<'static, Outcome> {
        let sandbox = match &self.0 {
            Probed::Here(Ok(sandbox)) => sandbox.clone(),
            Probed::Here(Err(missing)) => {
                let output = format!("Code can't be run here, since no sandbox can be made: {missing}");
                return Box::pin(async move { Outcome::error(output) });
            }
            Probed::Elsewhere => {
                return Box::pin(async { Outcome::error("Code is run by workers for tools alone.") });
            }
        };
        Box::pin(async move { run(&sandbox, call).await })
    }
}

async fn run(sandbox: &Sandbox, call: Call) -> Outcome {
    let text = |name: &str| call.arguments.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let Ok(language) = text("language").parse::<Language>() else {
        return Outcome::error("This language is not known here.");
    };
    let root = call.workspace.clone();
    let opened = tokio::task::spawn_blocking(move || sandbox::Workspace::open(&root).map(drop)).await;
    match opened {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Outcome::error(format!("The workspace can't be opened: {error}.")),
        Err(error) => return Outcome::error(format!("The workspace can't be opened: {error}.")),
    }
    let job = Job { language, code: text("code"), workspace: call.workspace, limits: Limits::default() };
    let report = match sandbox.run(job, call.cancel).await {
        Ok(report) => report,
        Err(error) => return Outcome::error(format!("The program could not be started: {error}.")),
    };
    let (status, how) = match report.outcome {
        Ended::Exited(0) => (Status::Success, "exit code 0".to_owned()),
        Ended::Exited(code) => (Status::Error, format!("exit code {code}")),
        Ended::Signalled(signal) => (Status::Error, format!("killed by signal {signal}")),
        Ended::TimedOut => (Status::Timeout, "stopped: out of time".to_owned()),
        Ended::OutOfMemory => (Status::Error, "stopped: out of memory".to_owned()),
        Ended::Cancelled => (Status::Cancelled, "stopped: the run was cancelled".to_owned()),
    };
    let mut output = report.stdout;
    if !report.stderr.is_empty() {
        output.push_str("\n[stderr]\n");
        output.push_str(&report.stderr);
    }
    if report.truncated {
        output.push_str("\n[cut here: it printed more]");
    }
    if status != Status::Success {
        output.push_str("\n[");
        output.push_str(&how);
        output.push(']');
    }
    Outcome::of(status, output)
}
