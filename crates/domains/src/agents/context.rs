//! What a model is shown: the agent's prompt, then as much of the conversation's end as fits.
//!
//! The rule: the system prompt and the run's own messages always stay; older messages are left out from the oldest
//! on, whole runs at a time, until the rest fits the model's context less the room for the answer and for the tools.
//! If the run's own messages alone don't fit, their tool results are shortened, the oldest first. A run whose context
//! was cut says so (`context_cut`).

use contracts::{
    RunId,
    model::{ChatMessage, ChatModel, Role, ToolSpec},
};

use crate::conversations::journal::TranscriptMessage;

/// Tokens that a message's frame costs beside its text.
const FRAME_TOKENS: u32 = 8;
/// What is left of a tool's result that had to be shortened.
const SHORTENED_CHARS: usize = 500;
const SHORTENED: &str = "\n[shortened: the conversation is longer than the model's context]";
/// Stands for the result of a call that was never made, since a model's protocol wants one for each.
const NOT_RUN: &str = "[this call was not made: the run was stopped]";

/// What fits.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Context {
    pub messages: Vec<ChatMessage>,
    pub input_tokens: u32,
    pub cut: bool,
}

/// `None` when not even the prompt and the last message fit.
pub(super) fn fit(
    model: &dyn ChatModel,
    prompt: &str,
    transcript: &[TranscriptMessage],
    own: RunId,
    tools: &[ToolSpec],
    output_tokens: u32,
) -> Option<Context> {
    let tools_tokens = serde_json::to_string(tools).map_or(0, |text| model.count_tokens(&text));
    let room = model.profile().context_tokens.checked_sub(output_tokens)?.checked_sub(tools_tokens)?;
    let system = ChatMessage::text(Role::System, prompt);
    let room = room.checked_sub(cost(model, &system))?;

    let mut own_messages: Vec<ChatMessage> =
        with_results(transcript.iter().filter(|message| message.run == own));
    let mut cut = false;
    let mut own_cost: u32 = own_messages.iter().map(|message| cost(model, message)).sum();
    for index in 0..own_messages.len() {
        if own_cost <= room {
            break;
        }
        if let Some(message) = own_messages.get_mut(index).filter(|message| message.role == Role::Tool) {
            let before = cost(model, message);
            cut |= shorten(&mut message.content);
            own_cost = own_cost.saturating_sub(before.saturating_sub(cost(model, message)));
        }
    }
    if own_cost > room {
        return None;
    }

    // Whole runs, from the newest back: half a run would be a question without its answer.
    let mut left = room - own_cost;
    let mut older: Vec<Vec<ChatMessage>> = Vec::new();
    for run in runs_newest_first(transcript, own) {
        let messages = with_results(run.iter());
        let run_cost: u32 = messages.iter().map(|message| cost(model, message)).sum();
        if run_cost > left {
            cut = true;
            break;
        }
        left -= run_cost;
        older.push(messages);
    }
    let mut messages = vec![system];
    messages.extend(older.into_iter().rev().flatten());
    messages.append(&mut own_messages);
    let input_tokens = messages.iter().map(|message| cost(model, message)).sum::<u32>() + tools_tokens;
    Some(Context { messages, input_tokens, cut })
}

/// What was said before a run as its asker tells it: each message of a user begins what can be left out by itself.
pub(super) fn told(said: Vec<ChatMessage>) -> Vec<TranscriptMessage> {
    let mut run = RunId::new();
    let place = |message: ChatMessage| {
        if message.role == Role::User {
            run = RunId::new();
        }
        TranscriptMessage { run, message }
    };
    said.into_iter().map(place).collect()
}

fn cost(model: &dyn ChatModel, message: &ChatMessage) -> u32 {
    let calls: u32 = message
        .tool_calls
        .iter()
        .map(|call| FRAME_TOKENS + model.count_tokens(&call.name) + model.count_tokens(&call.arguments))
        .sum();
    FRAME_TOKENS + model.count_tokens(&message.content) + calls
}

fn shorten(content: &mut String) -> bool {
    let Some((end, _)) = content.char_indices().nth(SHORTENED_CHARS) else { return false };
    content.truncate(end);
    content.push_str(SHORTENED);
    true
}

fn runs_newest_first(
    transcript: &[TranscriptMessage],
    own: RunId,
) -> impl Iterator<Item = &[TranscriptMessage]> {
    transcript
        .chunk_by(|a, b| a.run == b.run)
        .rev()
        .filter(move |run| run.first().is_some_and(|message| message.run != own))
}

/// Messages of one run, each tool call followed by a result.
fn with_results<'a>(run: impl Iterator<Item = &'a TranscriptMessage>) -> Vec<ChatMessage> {
    let mut messages: Vec<ChatMessage> = Vec::new();
    let mut waiting: Vec<String> = Vec::new();
    for message in run {
        let message = &message.message;
        if message.role == Role::Tool {
            waiting.retain(|id| message.tool_call_id.as_ref() != Some(id));
        } else {
            close(&mut messages, &mut waiting);
        }
        waiting.extend(message.tool_calls.iter().map(|call| call.id.clone()));
        messages.push(message.clone());
    }
    // Calls at the very end are the ones about to be made, or were never made: either way a model is not asked
    // before they have results.
    close(&mut messages, &mut waiting);
    messages
}

fn close(messages: &mut Vec<ChatMessage>, waiting: &mut Vec<String>) {
    for id in waiting.drain(..) {
        let mut result = ChatMessage::text(Role::Tool, NOT_RUN);
        result.tool_call_id = Some(id);
        messages.push(result);
    }
}
