//! The terminal: the answer goes to standard output, notes beside it or to standard error. Whatever comes from a
//! model, a tool or a server passes [`text::neutral`] here before a terminal sees it.

use std::io::{self, IsTerminal, Write};

use super::{
    tell::{Piece, Tone},
    text,
};

const DIM: &str = "\x1b[2m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// Where things are said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A talk: everything on standard output, in the order in which it happens.
    Talk,
    /// One answer: standard output is its text as it comes, everything else is on standard error.
    Stream,
    /// One answer into a pipe: only [`Screen::final_answer`] writes to standard output.
    Hold,
}

#[derive(Debug)]
pub struct Screen {
    mode: Mode,
    /// The cursor on standard output is not at a line's start.
    mid_line: bool,
    colours: bool,
}

impl Screen {
    pub fn talk() -> Self {
        Self { mode: Mode::Talk, mid_line: false, colours: io::stdout().is_terminal() }
    }

    /// For a single answer: what was printed into a pipe can't be taken back, so there it waits for its end.
    pub fn once() -> Self {
        let mode = if io::stdout().is_terminal() { Mode::Stream } else { Mode::Hold };
        let colours = io::stdout().is_terminal() && io::stderr().is_terminal();
        Self { mode, mid_line: false, colours }
    }

    pub fn show(&mut self, pieces: &[Piece]) -> io::Result<()> {
        for piece in pieces {
            match piece {
                Piece::Answer(text) => self.answer(text)?,
                Piece::Break => self.end_line()?,
                Piece::Note(tone, text) => self.note(*tone, text)?,
            }
        }
        Ok(())
    }

    /// Writes the model's words as they come.
    fn answer(&mut self, raw: &str) -> io::Result<()> {
        if self.mode == Mode::Hold || raw.is_empty() {
            return Ok(());
        }
        let safe = text::neutral(raw);
        let mut out = io::stdout().lock();
        out.write_all(safe.as_bytes())?;
        out.flush()?;
        self.mid_line = !safe.ends_with('\n');
        Ok(())
    }

    /// Writes what [`Mode::Hold`] held back: the answer as it is, and a newline.
    pub fn final_answer(&mut self, raw: &str) -> io::Result<()> {
        if self.mode != Mode::Hold {
            return self.end_line();
        }
        let mut out = io::stdout().lock();
        out.write_all(raw.as_bytes())?;
        out.write_all(b"\n")?;
        out.flush()
    }

    pub fn end_line(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.mid_line) {
            writeln!(io::stdout().lock())?;
        }
        Ok(())
    }

    /// Writes a line of its own.
    pub fn note(&mut self, tone: Tone, raw: &str) -> io::Result<()> {
        self.end_line()?;
        let line = self.painted(tone, raw);
        match self.mode {
            Mode::Talk => writeln!(io::stdout().lock(), "{line}"),
            Mode::Stream | Mode::Hold => writeln!(io::stderr().lock(), "{line}"),
        }
    }

    /// Writes a line to standard error, whatever the mode.
    pub fn aside(&mut self, raw: &str) -> io::Result<()> {
        self.end_line()?;
        let colours = self.colours && io::stderr().is_terminal();
        let line = if colours { self.painted(Tone::Loud, raw) } else { text::neutral(raw) };
        writeln!(io::stderr().lock(), "{line}")
    }

    fn painted(&self, tone: Tone, raw: &str) -> String {
        let safe = text::neutral(raw);
        if !self.colours {
            return safe;
        }
        let colour = match tone {
            Tone::Quiet => DIM,
            Tone::Loud => YELLOW,
        };
        format!("{colour}{safe}{PLAIN}")
    }
}
