//! The interactive talk: a prompt, the commands, one turn after another.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use contracts::{ConversationId, RunId, model::Role};

use super::{
    Begun, COLUMNS,
    client::{Client, Error, Message},
    editor::{Lines, Typed},
    screen::Screen,
    tell::{Piece, Teller, Tone},
    text,
    turn::{self, Broken, Ended, Interrupts},
};
use crate::commands::Failure;

/// Messages shown when a conversation is gone on with, and by `/history`.
const SHOWN: usize = 10;
const HISTORY_SHOWN: usize = 40;
/// Lines shown of an earlier message.
const MESSAGE_LINES: usize = 12;

const PROMPT: &str = "you> ";

const HELP: &str = "\
/new       begin another conversation with the same agent
/history   show the last messages
/cancel    stop the run that answers the last message
/help      show this
/quit      leave; Ctrl-D too
Ctrl-C     cancels the run at work; a second one leaves
A tool call that needs approval is shown with its arguments, and you are asked.
A message that begins with a slash: type the slash twice.";

enum Next {
    GoOn,
    Leave,
}

pub struct Talk<'a> {
    client: &'a Client,
    begun: &'a mut Begun,
    agent: &'a str,
    interrupt: bool,
    screen: Screen,
    interrupts: Interrupts,
    lines: Lines,
    columns: usize,
    last_run: Option<RunId>,
}

impl<'a> Talk<'a> {
    pub fn new(
        client: &'a Client,
        begun: &'a mut Begun,
        agent: &'a str,
        interrupt: bool,
        interrupts: Interrupts,
    ) -> Result<Self, Failure> {
        let (screen, lines) = (Screen::talk(), Lines::start().map_err(Failure::failed)?);
        Ok(Self {
            client,
            begun,
            agent,
            interrupt,
            screen,
            interrupts,
            lines,
            columns: COLUMNS,
            last_run: None,
        })
    }

    pub async fn run(&mut self) -> Result<ExitCode, Failure> {
        if self.begun.earlier {
            self.go_on().await.map_err(Failure::failed)?;
        } else {
            self.note("/help lists the commands, Ctrl-D leaves")?;
        }
        loop {
            let typed = tokio::select! {
                typed = self.lines.next(PROMPT) => typed.map_err(Failure::failed)?,
                // A terminal's own Ctrl-C reaches the editor; this one is for a talk that is piped in.
                () = self.interrupts.next(), if !io::stdin().is_terminal() => return Ok(ExitCode::FAILURE),
            };
            if let Some(columns) = typed.1 {
                self.columns = columns.saturating_sub(1).max(20);
            }
            let next = match typed.0 {
                Typed::End => return Ok(ExitCode::SUCCESS),
                Typed::Interrupted => {
                    self.note("Ctrl-D or /quit leaves")?;
                    continue;
                }
                Typed::Line(line) => self.line(line.trim()).await,
            };
            match next {
                Ok(Next::GoOn) => {}
                Ok(Next::Leave) => return Ok(ExitCode::SUCCESS),
                // The server's trouble ends a turn, not the talk.
                Err(Broken::Client(error)) => {
                    self.screen.note(Tone::Loud, &advice(&error)).map_err(Failure::failed)?;
                }
                Err(broken @ Broken::Output(_)) => return Err(Failure::failed(broken)),
            }
        }
    }

    async fn line(&mut self, line: &str) -> Result<Next, Broken> {
        if let Some(message) = line.strip_prefix('/').filter(|rest| rest.starts_with('/')) {
            return self.say(message).await;
        }
        match line {
            "" => {}
            "/quit" | "/exit" => return Ok(Next::Leave),
            "/help" => self.screen.note(Tone::Quiet, HELP)?,
            "/history" => self.history(HISTORY_SHOWN).await?,
            "/new" => {
                self.begun.conversation = self.client.create_conversation(self.agent).await?;
                self.begun.earlier = false;
                self.last_run = None;
                let note = format!("conversation {}", self.begun.conversation);
                self.screen.note(Tone::Quiet, &note)?;
            }
            "/cancel" => self.cancel().await?,
            command if command.starts_with('/') => {
                let note = "there is no such command; /help lists them, and // begins a message with a slash";
                self.screen.note(Tone::Loud, note)?;
            }
            message => return self.say(message).await,
        }
        Ok(Next::GoOn)
    }

    async fn say(&mut self, message: &str) -> Result<Next, Broken> {
        let run = self.client.send(self.begun.conversation, message, self.interrupt).await?;
        self.follow(run).await
    }

    async fn follow(&mut self, run: RunId) -> Result<Next, Broken> {
        self.last_run = Some(run);
        let mut teller = Teller::new(self.columns);
        let shown = turn::show(
            self.client,
            run,
            &mut self.screen,
            &mut teller,
            &mut self.interrupts,
            Some(&self.lines),
        )
        .await;
        self.screen.end_line()?;
        Ok(match shown? {
            Ended::Run => Next::GoOn,
            Ended::Left => Next::Leave,
        })
    }

    async fn cancel(&mut self) -> Result<(), Broken> {
        let Some(run) = self.last_run else {
            return Ok(self.screen.note(Tone::Quiet, "nothing was sent yet")?);
        };
        let ended = self.client.run(run).await?.ended();
        if ended {
            return Ok(self.screen.note(Tone::Quiet, "the last run is over already")?);
        }
        let run = self.client.cancel(run).await?;
        Ok(self.screen.note(Tone::Quiet, &format!("the run is {}", run.state))?)
    }

    /// Shows where the conversation stands, and follows a run that is still at work.
    async fn go_on(&mut self) -> Result<(), Broken> {
        self.history(SHOWN).await?;
        let Some(run) = self.last_run else { return Ok(()) };
        if !self.client.run(run).await?.ended() {
            self.screen.note(Tone::Quiet, "its last message is still being answered:")?;
            self.follow(run).await?;
        }
        Ok(())
    }

    async fn history(&mut self, count: usize) -> Result<(), Broken> {
        let messages = self.client.last_messages(self.begun.conversation, count).await?;
        if messages.is_empty() {
            return Ok(self.screen.note(Tone::Quiet, "nothing was said yet")?);
        }
        self.last_run = messages.last().map(|message| message.run_id);
        for message in &messages {
            let pieces = earlier(message, self.columns);
            self.screen.show(&pieces)?;
        }
        Ok(())
    }

    fn note(&mut self, note: &str) -> Result<(), Failure> {
        self.screen.note(Tone::Quiet, note).map_err(Failure::failed)
    }
}

/// An earlier message, in short.
fn earlier(message: &Message, columns: usize) -> Vec<Piece> {
    let lines = text::first_lines(&message.content, MESSAGE_LINES, usize::MAX);
    match message.role {
        Role::User => vec![Piece::Answer(format!("you> {}", lines.join("\n"))), Piece::Break],
        Role::Assistant | Role::System => {
            let mut pieces = vec![Piece::Answer(lines.join("\n")), Piece::Break];
            pieces.extend(message.tool_calls.iter().map(|call| {
                let line = text::one_line(&format!("> {} {}", call.name, call.arguments), columns);
                Piece::Note(Tone::Quiet, line)
            }));
            pieces
        }
        Role::Tool => {
            vec![Piece::Note(
                Tone::Quiet,
                format!("    {}", text::one_line(&message.content, columns.saturating_sub(4))),
            )]
        }
    }
}

/// What went wrong and what to do.
pub fn advice(error: &Error) -> String {
    match error {
        Error::GaveUp { .. } => {
            format!(
                "{error}. What was sent is stored and goes on when the server is back: /history shows it."
            )
        }
        error if error.passing() => format!("{error}. Is `soma serve` running, and SA01_URL its address?"),
        Error::Refused { status: 401, .. } => {
            format!(
                "{error}. SA01_API_KEY holds no valid key; `soma apikey create --email EMAIL` prints one."
            )
        }
        error => error.to_string(),
    }
}

impl Begun {
    pub fn new(conversation: ConversationId, earlier: bool) -> Self {
        Self { conversation, earlier }
    }
}
