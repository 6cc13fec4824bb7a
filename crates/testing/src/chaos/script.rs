//! One scripted turn: the message that makes the model call test tools in a row, and what must come of it.

use super::random::Random;

/// Tool calls of one turn.
const CALLS_MAX: u64 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Class {
    Repeatable,
    Transactional,
    Idempotent,
    AtMostOnce,
}

impl Class {
    pub(super) const ALL: [Self; 4] =
        [Self::Repeatable, Self::Transactional, Self::Idempotent, Self::AtMostOnce];

    /// The test tool whose effects are of this class.
    pub(super) fn tool(self) -> String {
        format!("fx_{}", self.as_str())
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Repeatable => "repeatable",
            Self::Transactional => "transactional",
            Self::Idempotent => "idempotent",
            Self::AtMostOnce => "at_most_once",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub class: Class,
    /// Unique in the whole run of chaos, so that an effect tells its call.
    pub note: String,
}

impl Call {
    pub(super) fn tool(&self) -> String {
        self.class.tool()
    }

    /// What the tool says when it succeeds.
    pub(super) fn success(&self) -> String {
        format!("done: {}", self.note)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Script {
    /// The message, unique too.
    pub content: String,
    pub calls: Vec<Call>,
    /// The answer, in which `{result}` stands for the last call's.
    answer: String,
}

impl Script {
    pub(super) fn new(number: u64, random: &mut Random) -> Self {
        let calls = calls(number, random);
        let mut content = format!("message {number}: ");
        for (index, call) in calls.iter().enumerate() {
            // Now and then two calls come from one model call.
            let word = if index > 0 && random.chance(20) { "also" } else { "tool" };
            content += &format!("[[{word} {} {{\"note\": \"{}\"}}]] ", call.tool(), call.note);
        }
        let mut answer = format!("answer {number}");
        if !calls.is_empty() {
            answer += ": {result}";
        }
        let ending = if random.chance(40) {
            answer += "; slow and steady wins the race";
            format!("[[slow {} {answer}]]", 5 + random.below(30))
        } else {
            format!("[[say {answer}]]")
        };
        Self { content: content + &ending, calls, answer }
    }

    pub(super) fn answer_after(&self, last_result: &str) -> String {
        self.answer.replace("{result}", last_result)
    }
}

fn calls(number: u64, random: &mut Random) -> Vec<Call> {
    let mut classes = match random.below(10) {
        0 => Vec::new(),
        // All of them in a row, the order as it comes.
        1..=5 => {
            let mut all = Class::ALL.to_vec();
            random.shuffle(&mut all);
            all
        }
        _ => Vec::new(),
    };
    let more = if classes.is_empty() { random.below(CALLS_MAX) } else { random.below(2) };
    for _ in 0..more {
        // What may happen once only is what kills should find most often.
        classes.push(match random.below(10) {
            0 => Class::Repeatable,
            1..=2 => Class::Transactional,
            3..=5 => Class::Idempotent,
            _ => Class::AtMostOnce,
        });
    }
    let call = |(index, class)| Call { class, note: format!("n{number}.{index}") };
    classes.into_iter().enumerate().map(call).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_notes_are_unique_and_short() {
        let mut random = Random::new(1);
        let scripts: Vec<Script> = (0..200).map(|number| Script::new(number, &mut random)).collect();
        let mut seen = std::collections::HashSet::new();
        for script in &scripts {
            assert!(seen.insert(script.content.clone()));
            assert!(script.calls.iter().all(|call| seen.insert(call.note.clone())));
            assert!(script.content.len() < 600, "{}", script.content);
            assert!(!script.answer_after("x").contains("{result}"));
        }
    }
}
