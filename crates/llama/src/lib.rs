//! The embedded model: llama.cpp in this process, behind `contracts::model::ChatModel`.
//!
//! `LlamaModel` -> `worker` (one thread, a bounded queue) -> `session` (prompt, sampling, reading the answer).
//! The GGUF is loaded at the first question, not before. One question is answered at a time; the others wait in the
//! queue, and a full queue refuses. Nothing is written to stdout or stderr, and nothing here is unsafe.

mod estimate;
mod grammar;
mod load;
mod logs;
mod prompt;
mod read;
mod sample;
mod session;
mod worker;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contracts::model::{ChatEvent, ChatModel, ChatRequest, ModelError, ModelProfile};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;

use worker::{Job, Worker};

/// Questions that wait while one is being answered.
pub const QUEUE_MAX: usize = 32;

/// A token makes one event at most; then come the end, or an error.
const EVENTS_BESIDES_TOKENS: usize = 2;

const GGUF_MAGIC: [u8; 4] = *b"GGUF";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// A GGUF file that brings its own chat template.
    pub path: PathBuf,
    /// The model's name, as its profile gives it.
    pub name: String,
    /// Tokens of input and output together; no more than the model was trained for.
    pub context_tokens: u32,
    /// Whether tools are offered to the model. Off, those of a request are ignored.
    pub tools: bool,
    /// Threads that compute; when absent, all cores but one.
    pub threads: Option<usize>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the model file {} can't be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not a GGUF model file", path.display())]
    NotGguf { path: PathBuf },
    #[error("the model's context must hold at least one token")]
    NoContext,
}

/// Dropping it, once its streams are gone too, stops the worker and waits for it.
#[derive(Debug)]
pub struct LlamaModel {
    profile: ModelProfile,
    worker: Arc<Worker>,
}

impl LlamaModel {
    /// Looks at the file and loads nothing.
    ///
    /// # Errors
    /// The file is absent, unreadable or no GGUF, or the context is empty.
    pub fn new(options: Options) -> Result<Self, Error> {
        check_magic(&options.path)?;
        if options.context_tokens == 0 {
            return Err(Error::NoContext);
        }
        let profile = ModelProfile {
            name: options.name.clone(),
            context_tokens: options.context_tokens,
            tools: options.tools,
        };
        Ok(Self { profile, worker: Arc::new(Worker::new(options)) })
    }

    /// Interrupts every answer, refuses all further questions, and waits until nothing computes any more: a second
    /// or less. A process that may exit before its last stream is dropped calls this first.
    pub fn stop(&self) {
        self.worker.stop();
    }
}

impl ChatModel for LlamaModel {
    fn shut_down(&self) {
        self.stop();
    }

    fn profile(&self) -> &ModelProfile {
        &self.profile
    }

    fn count_tokens(&self, text: &str) -> u32 {
        match self.worker.loaded() {
            Some(loaded) => loaded.count_tokens(text),
            None => estimate::tokens_at_most(text),
        }
    }

    fn chat(&self, request: ChatRequest) -> BoxStream<'static, Result<ChatEvent, ModelError>> {
        // Room for the whole answer, so that a reader that dawdles never makes the worker wait.
        let tokens_max = request.output_tokens_max.min(self.profile.context_tokens) as usize;
        let (events, receiver) = mpsc::channel(tokens_max + EVENTS_BESIDES_TOKENS);
        match self.worker.send(Job { request, events }) {
            Ok(()) => answer(receiver, Arc::clone(&self.worker)),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }
}

fn check_magic(path: &Path) -> Result<(), Error> {
    let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
    let mut start = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(GGUF_MAGIC.len() as u64).read_to_end(&mut start).map_err(unreadable)?;
    if start == GGUF_MAGIC { Ok(()) } else { Err(Error::NotGguf { path: path.to_owned() }) }
}

/// The worker's events as a stream that always ends in `Done` or an error, even when the worker dies. It keeps the
/// worker alive.
fn answer(
    receiver: mpsc::Receiver<Result<ChatEvent, ModelError>>,
    worker: Arc<Worker>,
) -> BoxStream<'static, Result<ChatEvent, ModelError>> {
    stream::unfold(Some((receiver, worker)), |open| async {
        let (mut receiver, worker) = open?;
        let event = receiver
            .recv()
            .await
            .unwrap_or_else(|| Err(ModelError::Interrupted("the model's thread ended".to_owned())));
        let last = matches!(event, Ok(ChatEvent::Done { .. }) | Err(_));
        Some((event, (!last).then_some((receiver, worker))))
    })
    .boxed()
}
