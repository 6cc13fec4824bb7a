//! One turn as its user sees it: shown until the run's end, cancelled by Ctrl-C, left by a second one.

use std::io;

use contracts::RunId;
use futures::{
    FutureExt,
    future::{BoxFuture, OptionFuture},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    approve::{self, Answer},
    client::{Client, Error},
    editor::{LineRead, Lines, Typed},
    follow::{Follow, Happening},
    frame::{Asked, Frame},
    screen::Screen,
    tell::{Piece, Teller, Tone},
};

#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error(transparent)]
    Client(#[from] Error),
    /// Whoever read the output went away.
    #[error("the output can't be written: {0}")]
    Output(#[from] io::Error),
}

#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// The run's last event has come.
    Run,
    /// The user would not wait for it.
    Left,
}

/// Ctrl-C. From now on it no longer ends the program by itself.
#[derive(Debug)]
pub struct Interrupts(Signal);

impl Interrupts {
    pub fn start() -> io::Result<Self> {
        Ok(Self(signal(SignalKind::interrupt())?))
    }

    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Shows a run's events to its end. With `lines`, whoever talks is asked about calls that need approval.
pub async fn show(
    client: &Client,
    run: RunId,
    screen: &mut Screen,
    teller: &mut Teller,
    interrupts: &mut Interrupts,
    lines: Option<&Lines>,
) -> Result<Ended, Broken> {
    let mut follow = Follow::new(client, run, 0);
    let mut cancelling = false;
    let mut cancel: OptionFuture<_> = None.into();
    // The call that is asked about, and the line that is being typed about it.
    let mut asked: Option<Asked> = None;
    let mut typed: NextLine<'_> = None.into();
    let mut typing = false;
    loop {
        let interrupted = tokio::select! {
            () = interrupts.next() => true,
            Some(answered) = &mut cancel, if cancelling => {
                cancel = None.into();
                if let Err(error) = answered {
                    let note = format!("it could not be cancelled: {error} (Ctrl-C again leaves)");
                    screen.note(Tone::Loud, &note)?;
                }
                false
            }
            Some(line) = &mut typed, if typing => {
                (typed, typing) = (None.into(), false);
                match line.map(|(typed, _)| typed) {
                    Ok(Typed::Line(line)) => {
                        if let Some(question) = asked.take()
                            && !decide(client, &question, &line, screen).await?
                        {
                            asked = Some(question);
                            (typed, typing) = (next_line(lines), true);
                        }
                        false
                    }
                    Ok(Typed::Interrupted) => true,
                    Ok(Typed::End) | Err(_) => false,
                }
            }
            happening = follow.next() => match happening? {
                None => {
                    if typing {
                        screen.note(Tone::Quiet, "Enter goes on")?;
                        drop(typed.await);
                    }
                    return Ok(Ended::Run);
                }
                Some(Happening::Event(event)) => {
                    screen.show(&teller.tell(&event.frame))?;
                    match event.frame {
                        Frame::Asked(question) if lines.is_some() => {
                            screen.note(Tone::Quiet, approve::HELP)?;
                            asked = Some(question);
                            if !typing {
                                (typed, typing) = (next_line(lines), true);
                            }
                        }
                        Frame::Asked(question) => {
                            let note = format!("  to decide: soma approvals approve {}", question.approval_id);
                            screen.note(Tone::Loud, &note)?;
                        }
                        Frame::Decided(decided) => {
                            asked.take_if(|asked| asked.approval_id == decided.approval_id);
                        }
                        _ => {}
                    }
                    false
                }
                Some(Happening::Lost(reason)) => {
                    screen.show(&[Piece::Break])?;
                    screen.aside(&format!("connection lost, resuming ({reason})"))?;
                    false
                }
                Some(Happening::Resumed) => {
                    screen.aside("resumed")?;
                    false
                }
            },
        };
        if !interrupted {
            continue;
        }
        if cancelling {
            screen.note(Tone::Loud, "left without waiting")?;
            return Ok(Ended::Left);
        }
        cancelling = true;
        asked = None;
        screen.note(Tone::Loud, "cancelling … (Ctrl-C again leaves without waiting)")?;
        cancel = Some(Box::pin(client.cancel(run))).into();
    }
}

type NextLine<'a> = OptionFuture<BoxFuture<'a, LineRead>>;

fn next_line(lines: Option<&Lines>) -> NextLine<'_> {
    lines.map(|lines| lines.next(approve::PROMPT).boxed()).into()
}

/// Does what was typed about a call. False when it was no answer.
async fn decide(client: &Client, asked: &Asked, line: &str, screen: &mut Screen) -> Result<bool, io::Error> {
    let (decision, reason) = match approve::read(line) {
        Answer::Decided(decision, reason) => (decision, reason),
        Answer::Later => {
            screen.note(Tone::Quiet, "undecided; the run waits")?;
            return Ok(true);
        }
        Answer::Unclear(why) => {
            screen.note(Tone::Loud, &why)?;
            return Ok(false);
        }
    };
    let decided = client.decide(asked.approval_id, &asked.arguments_hash, decision, reason.as_deref()).await;
    if let Err(error) = decided {
        screen.note(Tone::Loud, &error.to_string())?;
        // Somebody else decided, or may not be asked again: the stream tells how it goes on.
        return Ok(!matches!(error, Error::Refused { status: 422, .. }));
    }
    Ok(true)
}
