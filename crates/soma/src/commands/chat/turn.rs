//! One turn as its user sees it: shown until the run's end, cancelled by Ctrl-C, left by a second one.

use std::io;

use contracts::RunId;
use futures::future::OptionFuture;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    client::{Client, Error},
    follow::{Follow, Happening},
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

/// Shows a run's events to its end.
pub async fn show(
    client: &Client,
    run: RunId,
    screen: &mut Screen,
    teller: &mut Teller,
    interrupts: &mut Interrupts,
) -> Result<Ended, Broken> {
    let mut follow = Follow::new(client, run, 0);
    let mut cancelling = false;
    let mut cancel: OptionFuture<_> = None.into();
    loop {
        tokio::select! {
            () = interrupts.next() => {
                if cancelling {
                    screen.note(Tone::Loud, "left without waiting")?;
                    return Ok(Ended::Left);
                }
                cancelling = true;
                screen.note(Tone::Loud, "cancelling … (Ctrl-C again leaves without waiting)")?;
                cancel = Some(Box::pin(client.cancel(run))).into();
            }
            Some(answered) = &mut cancel, if cancelling => {
                cancel = None.into();
                if let Err(error) = answered {
                    let note = format!("it could not be cancelled: {error} (Ctrl-C again leaves)");
                    screen.note(Tone::Loud, &note)?;
                }
            }
            happening = follow.next() => match happening? {
                None => return Ok(Ended::Run),
                Some(Happening::Event(event)) => screen.show(&teller.tell(&event.frame))?,
                Some(Happening::Lost(reason)) => {
                    screen.show(&[Piece::Break])?;
                    screen.aside(&format!("connection lost, resuming ({reason})"))?;
                }
                Some(Happening::Resumed) => screen.aside("resumed")?,
            },
        }
    }
}
