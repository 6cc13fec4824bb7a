//! What the scripted model answers. A script looks at the conversation and nothing else, so the same request gets
//! the same answer however often it is made, and any number may be under way at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::body::Bytes;

use super::{ParsedRequest, directive};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Streamed in chunks of a few words, all at once. Cut at the request's `max_tokens` (four characters are a
    /// token), with `finish_reason` "length".
    Text(String),
    /// Tool calls: (name, arguments as the model's own text).
    Tools(Vec<(String, String)>),
    /// These bytes as the body, one network write each, with status 200.
    Raw(Vec<Bytes>),
    /// An HTTP status with this body.
    Status(u16, String),
    /// Status 200 and something that isn't JSON.
    Garbage,
    /// The text, then the connection breaks: no `finish_reason`, no `[DONE]`, no end of the body.
    StopMidStream { text: String },
    /// Not even a status line, for as long as the client waits.
    NeverAnswers,
    /// A pause before each chunk.
    Slow { text: String, per_chunk: Duration },
    /// The first chunk, then nothing until [`super::ScriptedModel::release`], then the rest.
    Hold { text: String },
}

type Decide = dyn Fn(&ParsedRequest) -> Answer + Send + Sync;

#[derive(Clone)]
pub struct Script(Arc<Decide>);

impl std::fmt::Debug for Script {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Script")
    }
}

impl Script {
    pub fn new(decide: impl Fn(&ParsedRequest) -> Answer + Send + Sync + 'static) -> Self {
        Self(Arc::new(decide))
    }

    #[must_use]
    pub fn always(answer: Answer) -> Self {
        Self::new(move |_| answer.clone())
    }

    /// The last user message says what to do: see [`directive`]'s own words.
    #[must_use]
    pub fn by_directive() -> Self {
        Self::new(directive::answer)
    }

    /// This answer when the last user message has `text`; else what `self` answers. Of several rules the one added
    /// last is asked first.
    #[must_use]
    pub fn when(self, text: impl Into<String>, answer: Answer) -> Self {
        let text = text.into();
        Self::new(move |request| {
            if request.last_user_text().contains(&text) { answer.clone() } else { self.answer(request) }
        })
    }

    /// The first `count` requests get `answer`, later ones what `self` answers: for retries. The one script that
    /// remembers something.
    #[must_use]
    pub fn after_failing(self, count: usize, answer: Answer) -> Self {
        let seen = AtomicUsize::new(0);
        Self::new(move |request| {
            if seen.fetch_add(1, Ordering::Relaxed) < count { answer.clone() } else { self.answer(request) }
        })
    }

    #[must_use]
    pub fn answer(&self, request: &ParsedRequest) -> Answer {
        (self.0)(request)
    }
}
