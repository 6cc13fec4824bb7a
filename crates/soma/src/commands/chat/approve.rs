//! Asks whoever talks about a call that needs approval, and reads what they typed.

use serde_json::Value;

use super::client::Decision;

pub const PROMPT: &str = "approve? ";

pub const HELP: &str = "\
y            make the call with these arguments
e {JSON}     make it with these instead
n REASON     don't make it; the model is told why
(nothing)    leave it undecided: somebody else may decide, in the browser or by `soma approvals`";

/// What was typed after the prompt.
#[derive(Debug, PartialEq)]
pub enum Answer {
    Decided(Decision, Option<String>),
    /// Left to others.
    Later,
    /// No answer, and why.
    Unclear(String),
}

pub fn read(line: &str) -> Answer {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    match word {
        "" => Answer::Later,
        "y" | "yes" if rest.is_empty() => Answer::Decided(Decision::Approve(None), None),
        "n" | "no" if rest.is_empty() => Answer::Unclear("say why after the n: the model is told".into()),
        "n" | "no" => Answer::Decided(Decision::Reject, Some(rest.to_owned())),
        "e" | "edit" => match serde_json::from_str::<Value>(rest) {
            Ok(arguments) if arguments.is_object() => {
                Answer::Decided(Decision::Approve(Some(arguments)), None)
            }
            Ok(_) => Answer::Unclear("expected a JSON object after the e".into()),
            Err(error) => Answer::Unclear(format!("expected a JSON object after the e ({error})")),
        },
        _ => Answer::Unclear(HELP.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_plain_yes_approves_and_only_a_reason_rejects() {
        assert_eq!(read(" y "), Answer::Decided(Decision::Approve(None), None));
        assert_eq!(read("n too risky"), Answer::Decided(Decision::Reject, Some("too risky".into())));
        let edited = Decision::Approve(Some(json!({ "path": "b" })));
        assert_eq!(read(r#"e {"path": "b"}"#), Answer::Decided(edited, None));
        assert_eq!(read(""), Answer::Later);
        for unclear in ["n", "yes please", "e", "e 7", "e {", "Y", "ok", "yn"] {
            assert!(matches!(read(unclear), Answer::Unclear(_)), "{unclear}");
        }
    }
}
