//! The standard script: the last user message says what the model does.
//!
//! The message may hold, anywhere in its text, first tool calls and then one ending:
//!
//! | directive | what the model does |
//! |---|---|
//! | `[[tool NAME {json}]]` | calls the tool; one call per model step, the next one after this one's result |
//! | `[[also NAME {json}]]` | one more call in the same step as the `tool` or `also` before it |
//! | `[[say TEXT]]` | answers TEXT, in which `{result}` stands for the last tool result |
//! | `[[pad N]]` | answers N characters |
//! | `[[slow MS TEXT]]` | answers TEXT with a pause of MS milliseconds before each chunk |
//! | `[[hold TEXT]]` | answers the first chunk, then waits for `ScriptedModel::release` |
//! | `[[midstream TEXT]]` | answers TEXT (may be left out), then the connection breaks |
//! | `[[garbage]]` | answers something that isn't JSON |
//! | `[[hang]]` | never answers |
//! | `[[status N]]` | answers with HTTP status N |
//!
//! - The ending comes once every call has its result. The first ending counts. Without one, the model says
//!   `done: {result}` after tool calls, and `echo: ` and the user's text when there are no directives at all.
//! - Whether a tool was offered to the model makes no difference: it calls it all the same.
//! - JSON arguments may themselves hold `]]`. Arguments that aren't JSON end at the next `]]` and are sent as they
//!   are; none at all are `{}`.
//! - `[[` that starts no known directive is plain text.
//! - The user's text that is quoted in another call's prompt (a title, a summary) is followed there too if it is in
//!   the last user message.

use std::time::Duration;

use serde::de::IgnoredAny;

use super::{Answer, ParsedRequest};

/// Steps of tool calls, then the ending.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    steps: Vec<Vec<(String, String)>>,
    ending: Option<Ending>,
}

#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Say(String),
    Pad(usize),
    Slow(Duration, String),
    Hold(String),
    MidStream(String),
    Garbage,
    Hang,
    Status(u16),
}

pub(super) fn answer(request: &ParsedRequest) -> Answer {
    let text = request.last_user_text();
    let plan = Plan::read(text);
    let mut results_before = 0;
    let done = request.tool_results_since_user();
    for step in &plan.steps {
        if results_before >= done {
            return Answer::Tools(step.clone());
        }
        results_before += step.len();
    }
    let result = request.last_tool_result().unwrap_or("");
    match plan.ending {
        Some(ending) => ending.answer(result),
        None if plan.steps.is_empty() => Answer::Text(format!("echo: {text}")),
        None => Answer::Text(format!("done: {result}")),
    }
}

impl Ending {
    fn answer(self, result: &str) -> Answer {
        let fill = |text: String| text.replace("{result}", result);
        match self {
            Self::Say(text) => Answer::Text(fill(text)),
            Self::Pad(characters) => Answer::Text(padding(characters)),
            Self::Slow(per_chunk, text) => Answer::Slow { text: fill(text), per_chunk },
            Self::Hold(text) => Answer::Hold { text: fill(text) },
            Self::MidStream(text) => Answer::StopMidStream { text: fill(text) },
            Self::Garbage => Answer::Garbage,
            Self::Hang => Answer::NeverAnswers,
            Self::Status(code) => Answer::Status(code, format!("scripted status {code}")),
        }
    }
}

/// Words of five letters and a space, cut to the length asked for.
pub(super) fn padding(characters: usize) -> String {
    "lorem ".chars().cycle().take(characters).collect()
}

impl Plan {
    fn read(text: &str) -> Self {
        let mut plan = Self::default();
        let mut rest = text;
        while let Some(at) = rest.find("[[") {
            rest = &rest[at + 2..];
            let length = plan.directive(rest);
            rest = &rest[length..];
        }
        plan
    }

    /// Reads what follows `[[` and returns how much of it was taken: nothing when it's no directive.
    fn directive(&mut self, text: &str) -> usize {
        let word_end = text.find(|character: char| !character.is_ascii_lowercase()).unwrap_or(text.len());
        let (word, rest) = text.split_at(word_end);
        if matches!(word, "tool" | "also") {
            let Some((call, left)) = read_call(rest) else {
                return 0;
            };
            match self.steps.last_mut() {
                Some(step) if word == "also" => step.push(call),
                _ => self.steps.push(vec![call]),
            }
            return text.len() - left.len();
        }
        let Some(end) = rest.find("]]") else { return 0 };
        let Some(ending) = read_ending(word, rest[..end].trim()) else {
            return 0;
        };
        self.ending.get_or_insert(ending);
        word_end + end + 2
    }
}

/// ` NAME {json}]]rest` into the call and the rest.
fn read_call(text: &str) -> Option<((String, String), &str)> {
    let text = text.strip_prefix(' ')?.trim_start();
    let name_end =
        text.find(|character: char| character.is_whitespace() || character == ']').filter(|&end| end > 0)?;
    let (name, rest) = text.split_at(name_end);
    let rest = rest.trim_start();
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<IgnoredAny>();
    if let Some(Ok(_)) = values.next() {
        let (json, after) = rest.split_at(values.byte_offset());
        if let Some(left) = after.trim_start().strip_prefix("]]") {
            return Some(((name.to_owned(), json.to_owned()), left));
        }
    }
    let (arguments, left) = rest.split_once("]]")?;
    let arguments = match arguments.trim() {
        "" => "{}",
        arguments => arguments,
    };
    Some(((name.to_owned(), arguments.to_owned()), left))
}

fn read_ending(word: &str, text: &str) -> Option<Ending> {
    Some(match word {
        "say" => Ending::Say(text.to_owned()),
        "pad" => Ending::Pad(text.parse().ok()?),
        "slow" => {
            let (milliseconds, text) =
                text.split_once(' ').unwrap_or((text, "slow and steady wins the race"));
            Ending::Slow(Duration::from_millis(milliseconds.parse().ok()?), text.to_owned())
        }
        "hold" => Ending::Hold(or_filler(text)),
        "midstream" => Ending::MidStream(or_filler(text)),
        "garbage" => Ending::Garbage,
        "hang" => Ending::Hang,
        "status" => Ending::Status(text.parse().ok().filter(|code| (200..=599).contains(code))?),
        _ => return None,
    })
}

fn or_filler(text: &str) -> String {
    if text.is_empty() {
        "this answer has several words and more than one chunk".to_owned()
    } else {
        text.to_owned()
    }
}
