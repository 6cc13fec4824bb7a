//! Choosing the next token.

use std::hash::{BuildHasher, Hasher, RandomState};

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;

/// The usual cut before the dice are thrown (llama.cpp's own defaults).
const TOP_K: i32 = 40;
const TOP_P: f32 = 0.95;
const KEEP_MIN: usize = 1;

/// The logits of the last token that was evaluated.
const LAST: i32 = -1;

#[derive(Debug)]
pub(crate) struct Sampler {
    chain: LlamaSampler,
    grammar: Option<LlamaSampler>,
}

impl Sampler {
    /// Greedy without a temperature (none, zero or no number), else by chance with a fresh seed.
    pub(crate) fn new(temperature: Option<f32>, grammar: Option<LlamaSampler>) -> Self {
        let chain = match temperature.filter(|degrees| degrees.is_finite() && *degrees > 0.0) {
            None => LlamaSampler::greedy(),
            Some(degrees) => {
                let seed = (random() >> 32) as u32;
                tracing::debug!(seed, degrees, "sampling by chance");
                LlamaSampler::chain_simple([
                    LlamaSampler::top_k(TOP_K),
                    LlamaSampler::top_p(TOP_P, KEEP_MIN),
                    LlamaSampler::temp(degrees),
                    LlamaSampler::dist(seed),
                ])
            }
        };
        Self { chain, grammar }
    }

    /// The next token; none when the grammar lets no token through.
    ///
    /// llama.cpp ends the process when its grammar is given a token that it forbids, so a token is tried first.
    pub(crate) fn choose(&mut self, context: &LlamaContext<'_>, model: &LlamaModel) -> Option<LlamaToken> {
        let Some(grammar) = &mut self.grammar else {
            return Some(self.chain.sample(context, LAST));
        };
        let token = pick(&mut self.chain, context.token_data_array_ith(LAST))
            .filter(|token| permits(grammar, *token))
            .or_else(|| {
                // Asking the grammar for every token of the vocabulary is slow, so only when the first choice fails.
                let mut candidates = context.token_data_array_ith(LAST);
                candidates.apply_sampler(grammar);
                candidates.data.retain(|candidate| candidate.logit().is_finite());
                pick(&mut self.chain, candidates)
            })?;
        if !model.vocab().is_eog(token) {
            grammar.accept(token);
        }
        Some(token)
    }
}

fn pick(chain: &mut LlamaSampler, mut candidates: LlamaTokenDataArray) -> Option<LlamaToken> {
    if candidates.data.is_empty() {
        return None;
    }
    candidates.apply_sampler(chain);
    candidates.selected_token()
}

fn permits(grammar: &mut LlamaSampler, token: LlamaToken) -> bool {
    let mut alone = LlamaTokenDataArray::new(vec![LlamaTokenData::new(token, 1.0, 0.0)], false);
    alone.apply_sampler(grammar);
    alone.data.first().is_some_and(|candidate| candidate.logit().is_finite())
}

/// A number that differs every time: the standard library's hasher is keyed by the operating system. For seeds and
/// for names of calls, never for secrets.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
