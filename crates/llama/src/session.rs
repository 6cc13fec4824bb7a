//! One context of the model and what it remembers between questions.
//!
//! A prompt's beginning that the context already holds (the same system text, the same conversation) is not
//! evaluated again.

use std::sync::atomic::{AtomicBool, Ordering};

use contracts::model::{ChatEvent, ChatRequest, ModelError, ToolSpec, Usage};
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;

use crate::load::{Loaded, PROMPT_CHUNK_TOKENS};
use crate::read::{Envelope, Utf8};
use crate::sample::{self, Sampler};
use crate::worker::{self, Events};
use crate::{Options, grammar, prompt};

/// The context's only sequence.
const SEQUENCE: u32 = 0;
const SEQUENCES: [i32; 1] = [0];

#[derive(Debug)]
pub(crate) struct Session<'model> {
    loaded: &'model Loaded,
    context: LlamaContext<'model>,
    batch: LlamaBatch<'static>,
    /// The tokens that the context has evaluated, in order.
    held: Vec<LlamaToken>,
    context_tokens: usize,
    tools: bool,
    stopping: &'model AtomicBool,
}

/// Why a generation ended.
enum End {
    Complete,
    Limit,
    /// Nobody listens any more.
    Abandoned,
    /// The worker is to end.
    Stopped,
}

impl<'model> Session<'model> {
    pub(crate) fn new(
        loaded: &'model Loaded,
        context: LlamaContext<'model>,
        options: &Options,
        stopping: &'model AtomicBool,
    ) -> Self {
        Self {
            loaded,
            context,
            batch: LlamaBatch::new(PROMPT_CHUNK_TOKENS, 1),
            held: Vec::new(),
            context_tokens: options.context_tokens as usize,
            tools: options.tools,
            stopping,
        }
    }

    /// Sends the answer's events up to `Done`, or stops when nobody listens any more.
    ///
    /// # Errors
    /// `Refused`: this question can't be answered. `Garbage`: no token fits the grammar. `Interrupted`: llama.cpp
    /// failed or the worker was stopped, and this session is no longer to be used.
    pub(crate) fn answer(&mut self, request: &ChatRequest, events: &Events) -> Result<(), ModelError> {
        let tools: &[ToolSpec] = if self.tools { &request.tools } else { &[] };
        let prompt = prompt::tokens(self.loaded, &request.messages, tools)?;
        if prompt.len() > self.context_tokens {
            return Err(ModelError::Refused(format!(
                "the prompt has {} tokens and the context holds {}",
                prompt.len(),
                self.context_tokens
            )));
        }
        let sampler = self.sampler(request, tools)?;
        self.forget_what_differs(&prompt)?;
        let writer =
            Writer { events, utf8: Utf8::default(), envelope: (!tools.is_empty()).then(Envelope::default) };
        let (end, output_tokens) = self.generate(&prompt, sampler, writer, request.output_tokens_max)?;
        let cut_at_limit = match end {
            End::Complete => false,
            End::Limit => true,
            End::Abandoned => return Ok(()),
            End::Stopped => return Err(worker::stopped()),
        };
        let usage = Usage { input_tokens: prompt.len() as u64, output_tokens };
        send(events, ChatEvent::Done { usage: Some(usage), cut_at_limit });
        Ok(())
    }

    fn sampler(&self, request: &ChatRequest, tools: &[ToolSpec]) -> Result<Sampler, ModelError> {
        let grammar = if tools.is_empty() {
            None
        } else {
            let grammar = LlamaSampler::grammar(&self.loaded.model, &grammar::of(tools), grammar::ROOT);
            Some(
                grammar
                    .map_err(|error| ModelError::Refused(format!("the tools make no grammar: {error}")))?,
            )
        };
        Ok(Sampler::new(request.temperature, grammar))
    }

    /// Leaves in the context what the prompt begins with. The prompt's last token is always evaluated again: it is
    /// what the next one is chosen from.
    fn forget_what_differs(&mut self, prompt: &[LlamaToken]) -> Result<(), ModelError> {
        let alike = self.held.iter().zip(prompt).take_while(|(held, new)| held == new).count();
        let keep = alike.min(prompt.len().saturating_sub(1));
        let from = u32::try_from(keep).map_err(|error| broken(&error))?;
        if self
            .context
            .clear_kv_cache_seq(Some(SEQUENCE), Some(from), None)
            .map_err(|error| broken(&error))?
        {
            self.held.truncate(keep);
        } else {
            // Some models can't forget a part.
            self.context.clear_kv_cache();
            self.held.clear();
        }
        Ok(())
    }

    /// Evaluates the prompt, then writes token by token. Returns why it ended and how many tokens were made.
    fn generate(
        &mut self,
        prompt: &[LlamaToken],
        mut sampler: Sampler,
        mut writer: Writer<'_>,
        output_tokens_max: u32,
    ) -> Result<(End, u64), ModelError> {
        let model = &self.loaded.model;
        let fresh = prompt.get(self.held.len()..).unwrap_or_default();
        for chunk in fresh.chunks(PROMPT_CHUNK_TOKENS) {
            if let Some(end) = self.unwanted(&writer) {
                return Ok((end, 0));
            }
            self.evaluate(chunk)?;
        }
        for made in 1..=u64::from(output_tokens_max) {
            if let Some(end) = self.unwanted(&writer) {
                return Ok((end, made));
            }
            let token = sampler
                .choose(&self.context, model)
                .ok_or_else(|| ModelError::Garbage("no token fits the grammar".to_owned()))?;
            if model.vocab().is_eog(token) {
                return Ok((End::Complete, made));
            }
            writer.write(&model.vocab().token_to_piece(token, false, None));
            if writer.is_complete() {
                return Ok((End::Complete, made));
            }
            if made == u64::from(output_tokens_max) || self.held.len() == self.context_tokens {
                return Ok((End::Limit, made));
            }
            self.evaluate(&[token])?;
        }
        Ok((End::Limit, 0))
    }

    fn unwanted(&self, writer: &Writer<'_>) -> Option<End> {
        if self.stopping.load(Ordering::Relaxed) {
            Some(End::Stopped)
        } else {
            writer.events.is_closed().then_some(End::Abandoned)
        }
    }

    fn evaluate(&mut self, tokens: &[LlamaToken]) -> Result<(), ModelError> {
        self.batch.clear();
        for (index, token) in tokens.iter().enumerate() {
            let position = i32::try_from(self.held.len() + index).map_err(|error| broken(&error))?;
            let last = index + 1 == tokens.len();
            self.batch.add(*token, position, &SEQUENCES, last).map_err(|error| broken(&error))?;
        }
        self.context.decode(&mut self.batch).map_err(|error| broken(&error))?;
        self.held.extend_from_slice(tokens);
        Ok(())
    }
}

/// Turns pieces of text into events.
struct Writer<'events> {
    events: &'events Events,
    utf8: Utf8,
    /// Present when the answer keeps to the grammar.
    envelope: Option<Envelope>,
}

impl Writer<'_> {
    fn write(&mut self, piece: &[u8]) {
        let text = self.utf8.push(piece);
        let event = match &mut self.envelope {
            Some(envelope) => envelope.push(&text, || format!("call-{:016x}", sample::random())),
            None => (!text.is_empty()).then_some(ChatEvent::Delta(text)),
        };
        if let Some(event) = event {
            send(self.events, event);
        }
    }

    fn is_complete(&self) -> bool {
        self.envelope.as_ref().is_some_and(Envelope::is_complete)
    }
}

/// The channel has room for a whole answer, so this fails only when nobody listens, which the loop notices.
fn send(events: &Events, event: ChatEvent) {
    let _ = events.try_send(Ok(event));
}

fn broken(error: &dyn std::error::Error) -> ModelError {
    ModelError::Interrupted(format!("llama.cpp failed: {error}"))
}
