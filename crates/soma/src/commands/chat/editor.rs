//! The line editor, in a thread of its own: it blocks. What was typed is remembered while the program runs and never
//! written to disk.

use std::{
    io,
    sync::mpsc::{self, Receiver, Sender},
    thread,
};

use rustyline::{Config, Editor, error::ReadlineError, history::MemHistory};
use tokio::sync::oneshot;

#[derive(Debug)]
pub enum Typed {
    Line(String),
    /// Ctrl-C: what was typed is thrown away.
    Interrupted,
    /// Ctrl-D, or the end of a piped input.
    End,
}

#[derive(Debug)]
pub struct Lines(Sender<Question>);

/// A prompt, and where the line that is typed after it goes.
type Question = (&'static str, oneshot::Sender<LineRead>);

/// What was typed, and the terminal's columns, if it is one.
pub type LineRead = Result<(Typed, Option<usize>), ReadlineError>;

impl Lines {
    pub fn start() -> io::Result<Self> {
        let (ask, asked) = mpsc::channel();
        thread::Builder::new().name("editor".into()).spawn(move || edit(&asked))?;
        Ok(Self(ask))
    }

    /// Waits for the next line.
    pub async fn next(&self, prompt: &'static str) -> LineRead {
        let (answer, answered) = oneshot::channel();
        let gone = || ReadlineError::Io(io::Error::other("the line editor is gone"));
        self.0.send((prompt, answer)).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn edit(asked: &Receiver<Question>) {
    let mut editor = match Editor::<(), MemHistory>::with_history(Config::default(), MemHistory::new()) {
        Ok(editor) => editor,
        Err(error) => {
            if let Ok((_, answer)) = asked.recv() {
                drop(answer.send(Err(error)));
            }
            return;
        }
    };
    while let Ok((prompt, answer)) = asked.recv() {
        let typed = match editor.readline(prompt) {
            Ok(line) => {
                // History is a comfort: without it the talk goes on.
                drop(editor.add_history_entry(line.as_str()));
                Ok(Typed::Line(line))
            }
            Err(ReadlineError::Interrupted) => Ok(Typed::Interrupted),
            Err(ReadlineError::Eof) => Ok(Typed::End),
            Err(error) => Err(error),
        };
        let columns = editor.dimensions().map(|(columns, _)| usize::from(columns));
        drop(answer.send(typed.map(|typed| (typed, columns))));
    }
}
