//! What the demo says as it goes: steps, events as they come, and what held and what did not.

use std::io::{self, Write};

use crate::commands::chat::{
    frame::{Frame, RunEvent},
    text,
};

const COLUMNS: usize = 90;

/// Says things on standard output, and keeps count of what did not hold.
#[derive(Debug, Default)]
pub struct Play {
    steps: usize,
    /// Pieces of an answer stand behind each other in one line.
    mid_line: bool,
    failed: usize,
    silent: bool,
}

impl Play {
    /// Listens without a word.
    pub fn silent() -> Self {
        Self { silent: true, ..Self::default() }
    }

    pub fn step(&mut self, told: &str) {
        self.steps += 1;
        let heading = format!("\n{}. {told}", self.steps);
        self.line(&heading);
    }

    pub fn line(&mut self, told: &str) {
        let start = if std::mem::take(&mut self.mid_line) { "\n" } else { "" };
        self.write(&format!("{start}{}\n", text::neutral(told)));
    }

    pub fn event(&mut self, event: &RunEvent) {
        let RunEvent { sequence, kind, frame } = event;
        if let Frame::Delta(delta) = frame {
            if !std::mem::replace(&mut self.mid_line, true) {
                self.write(&format!("   #{sequence:<3} {kind:<16} "));
            }
            self.write(&text::neutral(&delta.delta));
            return;
        }
        let said = text::one_line(&words(frame), COLUMNS);
        self.line(&format!("   #{sequence:<3} {kind:<16} {said}"));
    }

    /// States what the demo claims, and whether it is so.
    pub fn claim(&mut self, claim: &str, held: bool) {
        if !held {
            self.failed += 1;
        }
        self.line(&format!("   {}  {claim}", if held { "yes" } else { "NO " }));
    }

    pub fn failed(&self) -> usize {
        self.failed
    }

    /// Whether anybody still reads does not change what holds.
    fn write(&self, told: &str) {
        if !self.silent {
            let mut out = io::stdout().lock();
            drop(out.write_all(told.as_bytes()).and_then(|()| out.flush()));
        }
    }
}

fn words(frame: &Frame) -> String {
    match frame {
        Frame::Delta(delta) => delta.delta.clone(),
        Frame::Reset(_) => "what was said above is void, the answer starts over".to_owned(),
        Frame::Done(done) => format!("{} characters in all", done.content.chars().count()),
        Frame::ToolStart(start) => format!("{} {}", start.tool, start.arguments),
        Frame::Decision(decision) => format!("{}: {}", decision.effect, decision.reason),
        Frame::ToolResult(result) => {
            format!("{} in {} ms: {}", result.status, result.duration_ms, result.output)
        }
        Frame::Error(error) => format!("{}: {}", error.code, error.message),
        Frame::RunDone(done) => done.status.clone(),
        Frame::Asked(_) | Frame::Decided(_) | Frame::Other => String::new(),
    }
}
