//! `soma approvals`: decides about tool calls that wait for a person, over the API.

use std::process::ExitCode;

use contracts::ApprovalId;
use serde_json::Value;

use super::{
    Failure,
    chat::{
        client,
        client::{Approval, Client, Decision, Error},
        text,
    },
};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The server; SA01_URL when absent.
    #[arg(long, global = true)]
    url: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the calls that wait, newest first.
    List,
    /// Make a call, with exactly the arguments that `list` shows.
    Approve {
        id: ApprovalId,
        /// Make it with these arguments instead: a JSON object that fits the tool's schema.
        #[arg(long, value_name = "JSON", value_parser = object)]
        arguments: Option<Value>,
        #[arg(long)]
        reason: Option<String>,
    },
    /// Don't make a call; the model is told why.
    Reject {
        id: ApprovalId,
        #[arg(long)]
        reason: String,
    },
}

fn object(text: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if value.is_object() { Ok(value) } else { Err("expected a JSON object".into()) }
}

pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let client = client(arguments.url.as_deref())?;
    let done = match arguments.command {
        Command::List => list(&client).await,
        Command::Approve { id, arguments, reason } => {
            decide(&client, id, Decision::Approve(arguments), reason.as_deref()).await
        }
        Command::Reject { id, reason } => decide(&client, id, Decision::Reject, Some(&reason)).await,
    };
    done.map_err(Failure::failed)?;
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &Client) -> Result<(), Error> {
    let pending = client.pending_approvals().await?;
    if pending.is_empty() {
        eprintln!("no call waits for approval");
    }
    for approval in pending {
        show(&approval);
    }
    Ok(())
}

async fn decide(
    client: &Client,
    id: ApprovalId,
    decision: Decision,
    reason: Option<&str>,
) -> Result<(), Error> {
    let approval = client.approval(id).await?;
    show(&approval);
    let decided = client.decide(id, &approval.arguments_hash, decision, reason).await?;
    eprintln!("{}", decided.state);
    Ok(())
}

/// The whole of it: somebody decides about just these arguments.
fn show(approval: &Approval) {
    let Approval { id, tool, conversation_id, requested_at, expires_at, arguments, .. } = approval;
    println!("{id}  {tool}  asked {requested_at}, until {expires_at}, conversation {conversation_id}");
    let arguments = serde_json::to_string_pretty(arguments).unwrap_or_default();
    for line in text::neutral(&arguments).lines() {
        println!("    {line}");
    }
}
