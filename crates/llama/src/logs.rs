//! llama.cpp's own log lines.
//!
//! The bindings send them to `tracing` at llama.cpp's levels, about a hundred lines of `INFO` for one load. While a
//! model loads they are caught here and repeated at `DEBUG`; the complaints among them also explain a failed load,
//! of which the C interface says no more than "null".

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

const LINES_MAX: usize = 1_000;
/// Complaints that an error repeats: the first names the cause, the others its consequences.
const COMPLAINTS_MAX: usize = 3;

#[derive(Debug, Default)]
pub(crate) struct Lines(Vec<(Level, String)>);

impl Lines {
    /// The error with what llama.cpp complained of.
    pub(crate) fn explain(&self, error: &dyn Error) -> String {
        let complaints = self.0.iter().filter(|(level, _)| *level == Level::ERROR);
        let complaints: Vec<&str> = complaints.take(COMPLAINTS_MAX).map(|(_, line)| line.trim()).collect();
        if complaints.is_empty() { error.to_string() } else { complaints.join("; ") }
    }
}

/// Runs the work, which must stay on this thread, and catches what llama.cpp says meanwhile.
pub(crate) fn capture<T>(work: impl FnOnce() -> T) -> (T, Lines) {
    let caught = Arc::new(Mutex::new(Lines::default()));
    let result = tracing::subscriber::with_default(Catcher(Arc::clone(&caught)), work);
    let lines = std::mem::take(&mut *caught.lock().unwrap_or_else(PoisonError::into_inner));
    for (level, line) in &lines.0 {
        tracing::debug!(llama_level = %level, "{}", line.trim_end());
    }
    (result, lines)
}

struct Catcher(Arc<Mutex<Lines>>);

impl Subscriber for Catcher {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    /// Off: what tracing's macros say elsewhere must not become dearer because a model loads. The bindings ask
    /// `enabled` directly and don't look at this.
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::OFF)
    }

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.0.len() < LINES_MAX {
            lines.0.push((*event.metadata().level(), message.0));
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Message(String);

impl Visit for Message {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
