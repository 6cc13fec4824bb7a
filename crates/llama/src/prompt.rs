//! From messages to the tokens of a prompt.
//!
//! The model's chat template is rendered over marks instead of the messages' texts, and each text is tokenized apart
//! from the template, as plain text. So a message that spells `<|im_start|>system` stays words and never opens a
//! turn.
//!
//! llama.cpp's template engine knows no tools. Calls are shown as the JSON that `grammar` asks for, results as messages
//! of the user.

use contracts::model::{ChatMessage, ModelError, Role, ToolRequest, ToolSpec};
use llama_cpp_2::model::LlamaChatMessage;
use llama_cpp_2::token::LlamaToken;

use crate::grammar::{ANSWER_OPEN, ARGUMENTS_OPEN, TOOL_OPEN, quoted};
use crate::load::Loaded;

/// Private-use characters around a message's index: no template has them.
const MARK_OPEN: char = '\u{E000}';
const MARK_CLOSE: char = '\u{E001}';

struct Turn {
    role: &'static str,
    text: String,
}

/// # Errors
/// `Refused`: there are no messages, or the template does not render them.
pub(crate) fn tokens(
    loaded: &Loaded,
    messages: &[ChatMessage],
    tools: &[ToolSpec],
) -> Result<Vec<LlamaToken>, ModelError> {
    if messages.is_empty() {
        return Err(ModelError::Refused("there are no messages".to_owned()));
    }
    let turns = turns(messages, tools);
    let rendered = render(loaded, &turns)?;
    tokenize(loaded, &rendered, &turns)
        .ok_or_else(|| ModelError::Refused("the model's chat template leaves messages out".to_owned()))
}

fn turns(messages: &[ChatMessage], tools: &[ToolSpec]) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::with_capacity(messages.len() + 1);
    for message in messages {
        let (role, text) = match message.role {
            Role::Tool => (Role::User, result_text(message, messages)),
            Role::Assistant => (Role::Assistant, assistant_text(message, !tools.is_empty())),
            role => (role, message.content.clone()),
        };
        turns.push(Turn { role: role.as_str(), text });
    }
    if !tools.is_empty() {
        let told = tools_text(tools);
        match turns.first_mut().filter(|turn| turn.role == Role::System.as_str()) {
            Some(system) => system.text = format!("{}\n\n{told}", system.text),
            None => turns.insert(0, Turn { role: Role::System.as_str(), text: told }),
        }
    }
    turns
}

fn tools_text(tools: &[ToolSpec]) -> String {
    let mut text = format!(
        "Reply with one line of JSON and nothing else. To answer: {ANSWER_OPEN}your answer\"}}. \
         To use a tool first: {TOOL_OPEN}\"its name\"{ARGUMENTS_OPEN}{{}}}}, with the arguments that its schema asks for. \
         Use a tool only when the answer needs one. The tools:"
    );
    for tool in tools {
        text.push_str(&format!(
            "\n- {}: {} Schema of its arguments: {}",
            tool.name, tool.description, tool.parameters
        ));
    }
    text
}

/// What the assistant said, in the shape it is to keep to.
fn assistant_text(message: &ChatMessage, with_tools: bool) -> String {
    let mut lines: Vec<String> = Vec::with_capacity(1 + message.tool_calls.len());
    if !message.content.is_empty() {
        lines.push(if with_tools {
            format!("{{\"answer\": {}}}", quoted(&message.content))
        } else {
            message.content.clone()
        });
    }
    lines.extend(message.tool_calls.iter().map(call_text));
    lines.join("\n")
}

fn call_text(call: &ToolRequest) -> String {
    format!("{TOOL_OPEN}{}{ARGUMENTS_OPEN}{}}}", quoted(&call.name), call.arguments)
}

fn result_text(result: &ChatMessage, messages: &[ChatMessage]) -> String {
    let call = result
        .tool_call_id
        .as_ref()
        .and_then(|id| messages.iter().flat_map(|message| &message.tool_calls).find(|call| call.id == *id));
    match call {
        Some(call) => format!("Result of the tool {}:\n{}", call.name, result.content),
        None => format!("Result of a tool:\n{}", result.content),
    }
}

fn render(loaded: &Loaded, turns: &[Turn]) -> Result<String, ModelError> {
    let marked: Result<Vec<LlamaChatMessage>, _> = turns
        .iter()
        .enumerate()
        .map(|(index, turn)| {
            LlamaChatMessage::new(turn.role.to_owned(), format!("{MARK_OPEN}{index}{MARK_CLOSE}"))
        })
        .collect();
    let refused = |reason: String| ModelError::Refused(format!("the model's chat template failed: {reason}"));
    let marked = marked.map_err(|error| refused(error.to_string()))?;
    loaded
        .model
        .apply_chat_template(&loaded.template, &marked, true)
        .map_err(|error| refused(error.to_string()))
}

/// None when a turn is missing from what was rendered, or is there twice.
fn tokenize(loaded: &Loaded, rendered: &str, turns: &[Turn]) -> Option<Vec<LlamaToken>> {
    let vocabulary = loaded.model.vocab();
    let mut tokens = Vec::new();
    if vocabulary.should_add_bos() {
        tokens.push(vocabulary.bos());
    }
    let mut parts = rendered.split(MARK_OPEN);
    tokens.extend(vocabulary.tokenize(parts.next()?.as_bytes(), false, true));
    for (expected, part) in parts.enumerate() {
        let (index, after) = part.split_once(MARK_CLOSE)?;
        let turn = turns.get(expected).filter(|_| index.parse() == Ok(expected))?;
        tokens.extend(vocabulary.tokenize(turn.text.as_bytes(), false, false));
        tokens.extend(vocabulary.tokenize(after.as_bytes(), false, true));
    }
    (rendered.matches(MARK_OPEN).count() == turns.len()).then_some(tokens)
}

#[cfg(test)]
mod tests {
    use contracts::model::{ChatMessage, Role, ToolRequest, ToolSpec};
    use serde_json::json;

    use super::turns;

    #[test]
    fn calls_and_results_are_shown_where_the_template_has_no_tools() {
        let call = ToolRequest { id: "1".to_owned(), name: "clock".to_owned(), arguments: "{}".to_owned() };
        let messages = [
            ChatMessage::text(Role::User, "What time is it?"),
            ChatMessage { tool_calls: vec![call], ..ChatMessage::text(Role::Assistant, "") },
            ChatMessage { tool_call_id: Some("1".to_owned()), ..ChatMessage::text(Role::Tool, "noon") },
            ChatMessage::text(Role::Assistant, "It is \"noon\"."),
        ];
        let tool = ToolSpec {
            name: "clock".to_owned(),
            description: "Tells the time.".to_owned(),
            parameters: json!({}),
        };

        let shown: Vec<_> =
            turns(&messages, &[tool]).into_iter().map(|turn| (turn.role, turn.text)).skip(1).collect();

        let expected = [
            ("user", "What time is it?"),
            ("assistant", r#"{"tool": "clock", "arguments": {}}"#),
            ("user", "Result of the tool clock:\nnoon"),
            ("assistant", r#"{"answer": "It is \"noon\"."}"#),
        ];
        assert_eq!(shown, expected.map(|(role, text)| (role, text.to_owned())));
    }
}
