//! Loading the GGUF: weights, tokenizer and chat template. Done once, by the worker.

use std::num::NonZeroU32;
use std::sync::OnceLock;
use std::thread;
use std::time::Instant;

use llama_cpp_2::LogOptions;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::model::{LlamaChatTemplate, LlamaModel};

use crate::{Options, logs};

/// Tokens of a prompt that are evaluated at once: how long an abandoned question can hold the worker.
pub(crate) const PROMPT_CHUNK_TOKENS: usize = 128;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("llama.cpp did not start: {0}")]
    Backend(&'static str),
    #[error("the file was not loaded: {reason}")]
    File { reason: String },
    #[error("the file has no chat template")]
    NoTemplate,
    #[error("a context of {asked} tokens was asked for, and the model was trained for {trained}")]
    ContextTooLong { asked: u32, trained: u32 },
    #[error("no context could be made: {reason}")]
    Context { reason: String },
}

#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) model: LlamaModel,
    pub(crate) template: LlamaChatTemplate,
}

impl Loaded {
    pub(crate) fn count_tokens(&self, text: &str) -> u32 {
        let tokens = self.model.vocab().tokenize(text.as_bytes(), false, false);
        u32::try_from(tokens.len()).unwrap_or(u32::MAX)
    }
}

pub(crate) fn model(options: &Options) -> Result<Loaded, Error> {
    let backend = backend()?;
    let started = Instant::now();
    let parameters = LlamaModelParams::default().with_n_gpu_layers(0);
    let (model, lines) = logs::capture(|| LlamaModel::load_from_file(backend, &options.path, &parameters));
    let model = model.map_err(|error| Error::File { reason: lines.explain(&error) })?;
    let trained = model.n_ctx_train();
    if options.context_tokens > trained {
        return Err(Error::ContextTooLong { asked: options.context_tokens, trained });
    }
    let template = model.chat_template(None).map_err(|_| Error::NoTemplate)?;
    tracing::info!(
        model = options.name,
        load_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "the embedded model is loaded"
    );
    Ok(Loaded { model, template })
}

pub(crate) fn context<'model>(
    options: &Options,
    loaded: &'model Loaded,
) -> Result<LlamaContext<'model>, Error> {
    let backend = backend()?;
    let threads = i32::try_from(threads(options)).unwrap_or(i32::MAX);
    let chunk = u32::try_from(PROMPT_CHUNK_TOKENS).unwrap_or(u32::MAX);
    let parameters = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(options.context_tokens))
        .with_n_batch(chunk)
        .with_n_ubatch(chunk)
        .with_n_threads(threads)
        .with_n_threads_batch(threads);
    let (context, lines) = logs::capture(|| loaded.model.new_context(backend, parameters));
    context.map_err(|error| Error::Context { reason: lines.explain(&error) })
}

/// All cores but one, where nothing else is said. llama.cpp's threads spin while they wait for each other, so with one
/// thread a core any other work stalls them all: on two cores that were also compiling, two threads wrote 3 to 33
/// tokens a second and one thread 97. With little else to do, two wrote 115.
fn threads(options: &Options) -> usize {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    options.threads.unwrap_or_else(|| cores() - 1).max(1)
}

/// llama.cpp's state for the whole process. It is never torn down: a model may be in use until the process ends.
fn backend() -> Result<&'static LlamaBackend, Error> {
    static BACKEND: OnceLock<Option<LlamaBackend>> = OnceLock::new();
    BACKEND
        .get_or_init(|| {
            llama_cpp_2::send_logs_to_tracing(LogOptions::default());
            LlamaBackend::init().ok()
        })
        .as_ref()
        .ok_or(Error::Backend("something else in this process started it"))
}
