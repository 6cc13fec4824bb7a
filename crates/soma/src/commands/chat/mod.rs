//! `soma chat`: talks to an agent from a terminal.
//!
//! `client` speaks the API, `follow` keeps a run's stream through lost connections, `frame` reads it, `tell` says it
//! in words, `approve` asks about a call, `text` makes them safe, `screen` writes them. `talk` is the interactive session, `once` a single message.
//! Nothing is written to disk.

mod approve;
pub mod client;
mod editor;
pub mod follow;
pub mod frame;
mod once;
mod screen;
mod talk;
mod tell;
pub mod text;
mod turn;

use std::{pin::pin, process::ExitCode, time::Duration};

use contracts::ConversationId;
use platform::config;
use secrecy::SecretString;
use tokio::time::timeout;
use url::Url;

use super::{Failure, environment};
use client::{Client, Error};
use talk::{Talk, advice};
use turn::Interrupts;

/// Columns of an output that is no terminal.
const COLUMNS: usize = 100;
/// How long the first call may take before the user is told that it does.
const SILENCE: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The agent's slug or id.
    #[arg(long, value_name = "SLUG", default_value = "default", conflicts_with = "conversation")]
    agent: String,
    /// Go on with this conversation instead of beginning one.
    #[arg(long, value_name = "ID")]
    conversation: Option<ConversationId>,
    /// Send one message (`-` reads it from standard input), print the answer, and leave.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    once: Option<String>,
    /// The server; SA01_URL when absent.
    #[arg(long)]
    url: Option<String>,
    /// Stop the run at work in the conversation, if there is one, instead of waiting behind it.
    #[arg(long)]
    interrupt: bool,
}

/// The conversation that is talked in. `/new` replaces it.
struct Begun {
    conversation: ConversationId,
    /// It is gone on with.
    earlier: bool,
}

pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let client = client(arguments.url.as_deref())?;
    let message = arguments.once.as_deref().map(once::message).transpose()?;
    let mut begun = patiently(begin(&client, &arguments)).await?;
    let interrupts = Interrupts::start().map_err(Failure::failed)?;
    let ended = match message {
        Some(message) => {
            once::run(&client, begun.conversation, &message, arguments.interrupt, interrupts).await
        }
        None => {
            Talk::new(&client, &mut begun, &arguments.agent, arguments.interrupt, interrupts)?.run().await
        }
    };
    eprintln!("go on with: soma chat --conversation {}", begun.conversation);
    ended
}

/// A client of the server that `--url` or the settings name, with the key of the settings.
pub fn client(url: Option<&str>) -> Result<Client, Failure> {
    let environment = environment()?;
    let address = url.map(str::to_owned).or_else(|| config::lookup(&environment, "SA01_URL"));
    let name = if url.is_some() { "--url" } else { "SA01_URL" };
    let fault = |problem: String| Failure::Configuration(format!("{name}: {problem}"));
    let base = Url::parse(&address.unwrap_or_default())
        .map_err(|error| fault(format!("expected http://HOST:PORT or https://HOST ({error})")))?;
    let key = config::lookup(&environment, "SA01_API_KEY").map(SecretString::from).ok_or_else(|| {
        Failure::Configuration(
            "SA01_API_KEY: is required by this command and not set. On the server's machine, \
             `soma apikey create --email EMAIL` prints a key (`soma admin create --email EMAIL` first makes that \
             user); put it in the environment or in a private .env file."
                .into(),
        )
    })?;
    Client::new(&base, key).map_err(|error| fault(error.to_string()))
}

/// Says so when the first answer takes long: the calls behind it are being made again.
async fn patiently<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    let mut call = pin!(call);
    let answered = match timeout(SILENCE, &mut call).await {
        Ok(answered) => answered,
        Err(_) => {
            eprintln!("the server does not answer yet; trying for some seconds …");
            call.await
        }
    };
    answered.map_err(|error| Failure::Failed(advice(&error)))
}

async fn begin(client: &Client, arguments: &Arguments) -> Result<Begun, Error> {
    match arguments.conversation {
        Some(id) => {
            client.find_conversation(id).await?;
            Ok(Begun::new(id, true))
        }
        None => Ok(Begun::new(client.create_conversation(&arguments.agent).await?, false)),
    }
}
