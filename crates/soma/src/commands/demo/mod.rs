//! `soma demo`: a server is killed in the middle of an answer, and the run ends as if nothing had happened.
//!
//! Needs no model and no network: `model` plays the model, `stage` is an install in a temporary folder whose
//! processes are this very executable, `play` tells what happens. Every claim is checked; one that does not hold
//! makes the demo fail.

mod model;
mod play;
mod proof;
mod stage;

use std::{process::ExitCode, time::Duration};

use contracts::RunId;
use platform::config;
use sandbox::{Language, Sandbox};
use secrecy::SecretString;
use serde_json::json;
use tokio::{net::TcpStream, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Failure,
    chat::{
        client::Client,
        follow::{Follow, Happening},
        frame::{Frame, RunEvent},
    },
    environment, stop_on_signal,
};
use model::{Model, ToolCall};
use play::Play;
use proof::{Record, prove};
use stage::{Server, Stage, signal_of};

/// Pieces of the answer that are heard before the server is killed.
const PIECES_HEARD: usize = 4;
/// For the story from the first message to the last event; it takes some seconds.
const TIME_MAX: Duration = Duration::from_secs(120);
const QUESTION: &str = "What is the sum of the squares of 1 to 100? Let a program work it out.";
const QUESTION_OF_TIME: &str = "What time is it?";
/// Left in the workspace by the tool each time it runs: a line.
const MARK: &str = "ran.txt";
const KEYS: [&str; 2] = ["SECRET_KEY", "SA01_CRYPTO_FERNET_KEY"];

pub async fn run() -> Result<ExitCode, Failure> {
    let keys = keys()?;
    let stop = CancellationToken::new();
    stop_on_signal(&stop)?;
    // When it is stopped the story is dropped, and with it the processes and the folder.
    match stop.run_until_cancelled(timeout(TIME_MAX, story(keys))).await {
        None => Err(Failure::failed("the demo was stopped")),
        Some(Err(_)) => Err(Failure::Failed(format!("the demo took longer than {} s", TIME_MAX.as_secs()))),
        Some(Ok(told)) => told,
    }
}

/// The only settings that the demo takes from the real configuration.
fn keys() -> Result<Vec<(&'static str, SecretString)>, Failure> {
    let environment = environment()?;
    let looked_up = KEYS.map(|name| (name, config::lookup(&environment, name).map(SecretString::from)));
    let missing: Vec<&str> =
        looked_up.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| *name).collect();
    if !missing.is_empty() {
        let problem = format!(
            "{}: required and not set; `soma keygen` prints keys as dotenv lines for the environment or a private \
             .env file",
            missing.join(", ")
        );
        return Err(Failure::Configuration(problem));
    }
    Ok(looked_up.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}

async fn story(keys: Vec<(&'static str, SecretString)>) -> Result<ExitCode, Failure> {
    let mut play = Play::default();
    let (question, call) = task(&mut play).await;
    let model = Model::start(call).await.map_err(Failure::failed)?;

    let stage = Stage::new(keys, model.base_url())?;
    play.step("An install of its own, in a private folder that is removed at the end");
    play.line(&format!("   {}", stage.folder().display()));
    let key = stage.prepare().await?;
    play.line("   soma migrate; soma admin create; soma apikey create");

    play.step("The server starts");
    let mut first = stage.serve().await?;
    play.line(&format!("   process {}, {}", first.pid, first.url()?));
    let told = tell(&mut play, question, &stage, &model, (&mut first, key)).await;
    if told.is_err() {
        play.line(&format!("the server's log ends with:\n{}", stage.log_tail()));
    }
    told
}

/// A program in the sandbox where there can be one, else the clock.
async fn task(play: &mut Play) -> (&'static str, ToolCall) {
    match Sandbox::probe().await {
        Ok(sandbox) if sandbox.languages().contains(&Language::Python) => {
            let code =
                format!("open({MARK:?}, 'a').write('ran\\n')\nprint(sum(n * n for n in range(1, 101)))\n");
            let arguments = json!({ "language": "python", "code": code });
            (QUESTION, ToolCall { tool: "code_execute", arguments })
        }
        _ => {
            play.line("(no sandbox with Python can be made here, so the tool of this demo is the clock)");
            (QUESTION_OF_TIME, ToolCall { tool: "timestamp", arguments: json!({}) })
        }
    }
}

async fn tell(
    play: &mut Play,
    question: &str,
    stage: &Stage,
    model: &Model,
    (first, key): (&mut Server, SecretString),
) -> Result<ExitCode, Failure> {
    let client = Client::new(first.url()?, key.clone()).map_err(Failure::failed)?;
    play.step("A message is sent, and its run's events come as they happen");
    play.line(&format!("   you: {question}"));
    let conversation = client.create_conversation("default").await.map_err(Failure::failed)?;
    let run = client.send(conversation, question, false).await.map_err(Failure::failed)?;
    let mut live = listen_until_cut(play, &client, run).await?;
    let held = client.budgets().await.map_err(Failure::failed)?;
    let reserved =
        held.iter().find(|budget| budget.scope == "tenant").map_or(0, |budget| budget.reserved_micros);
    let heard = live.last().map_or(0, |event| event.sequence);

    play.step("The server is killed in the middle of the answer: SIGKILL, no last word");
    let address = first.address();
    let ended = first.kill().await?;
    play.line(&format!("   process {}: {ended}", first.pid));
    let refused = match address {
        Some(address) => TcpStream::connect(address).await.is_err(),
        None => false,
    };
    play.claim(
        "it died by signal 9, and nothing listens at its address any more",
        signal_of(ended) == Some(9) && refused,
    );

    play.step("Another server starts on the same data");
    let second = stage.serve().await?;
    play.line(&format!("   process {}, {}", second.pid, second.url()?));

    play.step(&format!("The stream is gone on with there, after event #{heard} (Last-Event-ID)"));
    let client = Client::new(second.url()?, key).map_err(Failure::failed)?;
    live.extend(listen(play, &client, run, heard).await?);

    play.step("What the record says");
    let whole = listen(&mut Play::silent(), &client, run, 0).await?;
    let record = Record {
        live,
        whole,
        heard,
        reserved,
        run: client.run(run).await.map_err(Failure::failed)?,
        budgets: client.budgets().await.map_err(Failure::failed)?,
        asked: model.asked(),
        marks: stage::lines_of(stage.folder(), MARK).map_err(Failure::failed)?,
    };
    prove(play, &record);
    drop(second);
    play.line("");
    if play.failed() > 0 {
        return Err(Failure::Failed(format!("{} claims of the demo did not hold", play.failed())));
    }
    play.line(proof::MORAL);
    Ok(ExitCode::SUCCESS)
}

/// Hears the tool's result and the beginning of the answer to it.
async fn listen_until_cut(play: &mut Play, client: &Client, run: RunId) -> Result<Vec<RunEvent>, Failure> {
    let mut events = Vec::new();
    let mut follow = Follow::new(client, run, 0);
    let mut pieces = 0;
    while let Some(happening) = follow.next().await.map_err(Failure::failed)? {
        let Happening::Event(event) = happening else { continue };
        play.event(&event);
        let answering = events.iter().any(|event: &RunEvent| matches!(event.frame, Frame::ToolResult(_)));
        pieces += usize::from(answering && matches!(event.frame, Frame::Delta(_)));
        events.push(event);
        if pieces == PIECES_HEARD {
            return Ok(events);
        }
    }
    Err(Failure::failed("the run ended before there was anything to kill"))
}

/// Hears what follows event `after`, to the end.
async fn listen(play: &mut Play, client: &Client, run: RunId, after: i64) -> Result<Vec<RunEvent>, Failure> {
    let mut events = Vec::new();
    let mut follow = Follow::new(client, run, after);
    while let Some(happening) = follow.next().await.map_err(Failure::failed)? {
        match happening {
            Happening::Event(event) => {
                play.event(&event);
                events.push(event);
            }
            Happening::Lost(reason) => play.line(&format!("   connection lost: {reason}")),
            Happening::Resumed => play.line("   resumed"),
        }
    }
    Ok(events)
}
