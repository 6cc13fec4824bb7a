//! `soma chat --once`: one message in, its answer out. Standard output holds the answer and nothing else.

use std::{
    io::{self, Read},
    process::ExitCode,
};

use contracts::ConversationId;

use super::{
    COLUMNS,
    client::Client,
    screen::Screen,
    talk::advice,
    tell::Teller,
    turn::{self, Broken, Ended, Interrupts},
};
use crate::commands::Failure;

/// More than the server takes; it says how much that is.
const INPUT_BYTES_MAX: u64 = 1024 * 1024;

/// The message itself, or what standard input holds when it is `-`.
pub fn message(text: &str) -> Result<String, Failure> {
    if text != "-" {
        return Ok(text.to_owned());
    }
    let mut message = String::new();
    io::stdin()
        .lock()
        .take(INPUT_BYTES_MAX)
        .read_to_string(&mut message)
        .map_err(|error| Failure::Failed(format!("standard input can't be read as text: {error}")))?;
    Ok(message.trim_end_matches(['\r', '\n']).to_owned())
}

pub async fn run(
    client: &Client,
    conversation: ConversationId,
    message: &str,
    interrupt: bool,
    mut interrupts: Interrupts,
) -> Result<ExitCode, Failure> {
    let mut screen = Screen::once();
    let mut teller = Teller::new(COLUMNS);
    let sent = client.send(conversation, message, interrupt);
    let run = tokio::select! {
        run = sent => run.map_err(|error| Failure::Failed(advice(&error)))?,
        () = interrupts.next() => return Ok(ExitCode::FAILURE),
    };
    let ended = match turn::show(client, run, &mut screen, &mut teller, &mut interrupts, None).await {
        Ok(ended) => ended,
        Err(Broken::Client(error)) => return Err(Failure::Failed(advice(&error))),
        Err(broken @ Broken::Output(_)) => return Err(Failure::failed(broken)),
    };
    if ended == Ended::Run && teller.completed() {
        screen.final_answer(teller.answer().unwrap_or_default()).map_err(Failure::failed)?;
        return Ok(ExitCode::SUCCESS);
    }
    screen.end_line().map_err(Failure::failed)?;
    Ok(ExitCode::FAILURE)
}
