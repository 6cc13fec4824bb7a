//! `file_read`, `file_write` and `file_list`: the conversation's workspace, which no path and no symlink leads out of.

use contracts::model::ToolSpec;
use futures::future::BoxFuture;
use platform::durable::Effect;
use sandbox::Workspace;
use serde_json::{Value, json};

use super::{
    Call, Outcome, Tool,
    toolbox::{OUTPUT_BYTES_MAX, WORKSPACE_BYTES_MAX},
};

const ENTRIES_MAX: usize = 1000;

#[derive(Debug)]
pub(super) struct FileRead;
#[derive(Debug)]
pub(super) struct FileWrite;
#[derive(Debug)]
pub(super) struct FileList;

fn text<'a>(arguments: &'a Value, name: &str) -> &'a str {
    arguments.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Runs file work where it may block.
fn blocking(
    call: Call,
    work: impl FnOnce(Workspace, Value) -> Result<String, sandbox::FileError> + Send + 'static,
) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        let done = tokio::task::spawn_blocking(move || {
            let workspace = Workspace::open(&call.workspace)?.with_bytes_max(WORKSPACE_BYTES_MAX);
            work(workspace, call.arguments)
        });
        match done.await {
            Ok(Ok(output)) => Outcome::success(output),
            Ok(Err(error)) => Outcome::error(format!("{error}.")),
            Err(error) => Outcome::error(format!("The file's worker failed: {error}.")),
        }
    })
}

impl Tool for FileRead {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "file_read".into(),
            description: "Reads a text file of the workspace.".into(),
            parameters: json!({
                "type": "object",
                "properties": { "path": { "type": "string", "description": "Relative to the workspace." } },
                "required": ["path"],
                "additionalProperties": false,
            }),
        }
    }

    fn effect(&self) -> Effect {
        Effect::Repeatable
    }

    fn call(&self, call: Call) -> BoxFuture<'static, Outcome> {
        blocking(call, |workspace, arguments| {
            let (bytes, cut) = workspace.read(text(&arguments, "path"), OUTPUT_BYTES_MAX)?;
            let mut content = String::from_utf8_lossy(&bytes).into_owned();
            if cut {
                content.push_str("\n[cut here: the file is longer]");
            }
            Ok(content)
        })
    }
}

impl Tool for FileWrite {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "file_write".into(),
            description: "Writes a text file of the workspace, in place of what was there.".into(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "path": { "type": "string", "description": "Relative to the workspace; folders are made." },
                    "content": { "type": "string" },
                },
                "required": ["path", "content"],
                "additionalProperties": false,
            }),
        }
    }

    /// Replacing a file by the same content twice is replacing it once.
    fn effect(&self) -> Effect {
        Effect::Idempotent
    }

    fn call(&self, call: Call) -> BoxFuture<'static, Outcome> {
        blocking(call, |workspace, arguments| {
            let content = text(&arguments, "content");
            workspace.write(text(&arguments, "path"), content.as_bytes())?;
            Ok(format!("Wrote {} bytes.", content.len()))
        })
    }
}

impl Tool for FileList {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "file_list".into(),
            description: "Lists a folder of the workspace: name, kind and size of each entry.".into(),
            parameters: json!({
                "type": "object",
                "properties": { "path": { "type": "string", "description": "Relative to the workspace; the workspace itself when absent." } },
                "additionalProperties": false,
            }),
        }
    }

    fn effect(&self) -> Effect {
        Effect::Repeatable
    }

    fn call(&self, call: Call) -> BoxFuture<'static, Outcome> {
        blocking(call, |workspace, arguments| {
            let (entries, cut) = workspace.list(text(&arguments, "path"), ENTRIES_MAX)?;
            Ok(json!({ "entries": entries, "cut": cut }).to_string())
        })
    }
}
