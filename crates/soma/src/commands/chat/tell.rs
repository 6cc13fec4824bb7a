//! Turns a run's events into what a person is told. Keeps what the end needs: the answer and how the run ended.
//! Nothing here prints; text in a piece is as it came, and the screen makes it safe.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    frame::{Asked, Decided, Decision, Frame, RunDone, RunError, ToolResult, ToolStart, Usage},
    text,
};

/// Lines shown of a tool's output.
const OUTPUT_LINES: usize = 5;
const REVISION_CHARS: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// What goes on behind the answer.
    Quiet,
    /// What somebody should notice.
    Loud,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// The model's words, to be put right after the ones before.
    Answer(String),
    /// What was said so far stands alone: a new line.
    Break,
    /// A line of its own.
    Note(Tone, String),
}

#[derive(Debug, Default)]
pub struct Teller {
    /// Columns that a note may take.
    width: usize,
    /// The answer that is being spoken, if any of its text has come.
    speaking: Option<String>,
    /// Tools by their call's id.
    tools: HashMap<String, String>,
    answer: Option<String>,
    end: Option<RunDone>,
}

impl Teller {
    pub fn new(width: usize) -> Self {
        Self { width, ..Self::default() }
    }

    /// The whole answer, once there is one.
    pub fn answer(&self) -> Option<&str> {
        self.answer.as_deref()
    }

    pub fn completed(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.status == "completed")
    }

    pub fn tell(&mut self, frame: &Frame) -> Vec<Piece> {
        match frame {
            Frame::Delta(delta) => {
                let other = self.speaking.as_ref().is_some_and(|speaking| *speaking != delta.response_id);
                self.speaking = Some(delta.response_id.clone());
                let said = Piece::Answer(delta.delta.clone());
                if other { vec![Piece::Break, said] } else { vec![said] }
            }
            Frame::Reset(reset) => {
                if self.speaking.take_if(|speaking| *speaking == reset.response_id).is_some() {
                    let note = "the answer was cut off; it starts over";
                    return vec![Piece::Break, loud(note)];
                }
                vec![quiet("the model is asked again")]
            }
            Frame::Done(done) => {
                self.answer = Some(done.content.clone());
                vec![Piece::Break]
            }
            Frame::ToolStart(start) => self.tool_start(start),
            Frame::Decision(decision) => vec![self.decision(decision)],
            Frame::ToolResult(result) => self.tool_result(result),
            Frame::Asked(asked) => asked_for(asked),
            Frame::Decided(decided) => vec![verdict(decided)],
            Frame::Error(error) => vec![loud(&problem(error))],
            Frame::RunDone(end) => {
                self.end = Some(end.clone());
                run_done(end)
            }
            Frame::Other => Vec::new(),
        }
    }

    fn tool_start(&mut self, start: &ToolStart) -> Vec<Piece> {
        self.tools.insert(start.call_id.clone(), start.tool.clone());
        let arguments = match &start.arguments {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        vec![quiet(&text::one_line(&format!("> {} {arguments}", start.tool), self.width))]
    }

    fn decision(&self, decision: &Decision) -> Piece {
        let Decision { effect, reason, revision } = decision;
        let revision: String = revision.chars().take(REVISION_CHARS).collect();
        let line = text::one_line(&format!("{effect}: {reason} (policy {revision})"), usize::MAX);
        if effect == "allow" { quiet(&format!("  {line}")) } else { loud(&format!("  {line}")) }
    }

    fn tool_result(&mut self, result: &ToolResult) -> Vec<Piece> {
        let tool = self.tools.remove(&result.call_id).unwrap_or_else(|| "the tool".to_owned());
        let line =
            text::one_line(&format!("{tool}: {} in {} ms", result.status, result.duration_ms), self.width);
        let tone = if result.status == "success" { Tone::Quiet } else { Tone::Loud };
        let mut told = vec![Piece::Note(tone, format!("  {line}"))];
        let width = self.width.saturating_sub(4);
        let output = text::first_lines(&result.output, OUTPUT_LINES, width);
        told.extend(output.iter().map(|line| quiet(&format!("    {line}"))));
        told
    }
}

fn quiet(note: &str) -> Piece {
    Piece::Note(Tone::Quiet, note.to_owned())
}

fn loud(note: &str) -> Piece {
    Piece::Note(Tone::Loud, note.to_owned())
}

/// The arguments are told whole: somebody decides about just these.
fn asked_for(asked: &Asked) -> Vec<Piece> {
    let mut told = vec![loud(&format!("  {} waits for approval {}:", asked.tool, asked.approval_id))];
    let arguments = serde_json::to_string_pretty(&asked.arguments).unwrap_or_default();
    told.extend(arguments.lines().map(|line| loud(&format!("    {line}"))));
    told
}

fn verdict(decided: &Decided) -> Piece {
    let reason = decided.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let line = text::one_line(&format!("{}{reason}", decided.decision), usize::MAX);
    if decided.decision == "approved" { quiet(&format!("  {line}")) } else { loud(&format!("  {line}")) }
}

fn run_done(end: &RunDone) -> Vec<Piece> {
    let mut told = Vec::new();
    match end.status.as_str() {
        "completed" => {}
        "cancelled" => told.push(loud("cancelled; what it cost until then is settled")),
        status => told.push(loud(&format!("the run ended: {status}"))),
    }
    let Usage { input_tokens, output_tokens } = end.usage;
    if input_tokens + output_tokens > 0 || end.cost > 0.0 {
        let cost = if end.cost > 0.0 { format!(", ${:.6}", end.cost) } else { String::new() };
        told.push(quiet(&format!("{input_tokens} tokens in, {output_tokens} out{cost}")));
    }
    told
}

/// An error and what to do about it, where the server's own words do not say.
fn problem(RunError { code, message }: &RunError) -> String {
    let advice = match code.as_str() {
        "model_unavailable" | "model_interrupted" | "model_garbage" => {
            "Look whether the model's server (SA01_MODEL_URL) is well, then send the message again."
        }
        "model_refused" => "Look at SA01_MODEL_URL, SA01_MODEL_NAME and SA01_MODEL_API_KEY of the server.",
        "deadline_exceeded" | "steps_exceeded" | "tokens_exceeded" => {
            "Ask for less at a time, or raise the agent's limits."
        }
        "context_exceeded" => "A new conversation (/new) starts with an empty context.",
        _ => "",
    };
    format!("{code}: {message} {advice}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::frame::{Delta, Done, Response},
        *,
    };

    fn delta(response: &str, text: &str) -> Frame {
        Frame::Delta(Delta { response_id: response.into(), delta: text.into() })
    }

    fn said(text: &str) -> Piece {
        Piece::Answer(text.into())
    }

    fn tell(frames: &[Frame]) -> (Teller, Vec<Piece>) {
        let mut teller = Teller::new(40);
        let told = frames.iter().flat_map(|frame| teller.tell(frame)).collect();
        (teller, told)
    }

    #[test]
    fn an_answer_that_was_cut_off_is_told_anew() {
        let reset = Frame::Reset(Response { response_id: "r:1".into() });
        let done = Frame::Done(Done { response_id: "r:1".into(), content: "Hello".into() });
        let (teller, told) = tell(&[delta("r:1", "Hel"), reset.clone(), delta("r:1", "Hello"), done]);
        let over = loud("the answer was cut off; it starts over");
        assert_eq!(told, [said("Hel"), Piece::Break, over, said("Hello"), Piece::Break]);
        assert_eq!(teller.answer(), Some("Hello"));

        // Nothing of this answer was shown, so nothing is taken back.
        let (_, told) = tell(&[delta("r:0", "Let me see."), reset]);
        assert_eq!(told, [said("Let me see."), quiet("the model is asked again")]);
    }

    #[test]
    fn words_of_two_answers_do_not_run_together() {
        let (_, told) = tell(&[delta("r:0", "a"), delta("r:0", "b"), delta("r:1", "c")]);
        assert_eq!(told, [said("a"), said("b"), Piece::Break, said("c")]);
    }

    #[test]
    fn a_tool_call_is_told_in_short_and_safe_lines() {
        let start = Frame::ToolStart(ToolStart {
            call_id: "1".into(),
            tool: "code_execute".into(),
            arguments: json!({ "code": "print(1)\n".repeat(9) }),
        });
        let denied = Frame::Decision(Decision {
            effect: "deny".into(),
            reason: "no role\nallows it".into(),
            revision: "0123456789abcdef".into(),
        });
        let result = Frame::ToolResult(ToolResult {
            call_id: "1".into(),
            status: "success".into(),
            output: "\x1b[2J\nb\n".into(),
            duration_ms: 12,
        });
        let (_, told) = tell(&[start, denied, result]);
        assert_eq!(
            told,
            [
                quiet("> code_execute {\"code\":\"print(1)\\nprint…"),
                loud("  deny: no role allows it (policy 0123456789ab)"),
                quiet("  code_execute: success in 12 ms"),
                quiet("    ␛[2J"),
                quiet("    b"),
            ]
        );
    }

    #[test]
    fn the_end_tells_tokens_and_cost_when_there_are_any() {
        let end = |status: &str, input_tokens, cost| {
            let usage = Usage { input_tokens, output_tokens: 0 };
            Frame::RunDone(RunDone { status: status.into(), usage, cost })
        };
        let (teller, told) = tell(&[end("completed", 0, 0.0)]);
        assert_eq!((teller.completed(), told), (true, vec![]));
        let (teller, told) = tell(&[end("cancelled", 7, 0.5)]);
        let cancelled = loud("cancelled; what it cost until then is settled");
        assert_eq!(told, [cancelled, quiet("7 tokens in, 0 out, $0.500000")]);
        assert!(!teller.completed());
    }

    #[test]
    fn an_error_says_what_to_do() {
        let error = RunError { code: "model_unavailable".into(), message: "Refused.".into() };
        let told = problem(&error);
        assert!(told.starts_with("model_unavailable: Refused. Look whether"), "{told}");
        let other =
            RunError { code: "budget_exceeded".into(), message: "An administrator can raise it.".into() };
        assert_eq!(problem(&other), "budget_exceeded: An administrator can raise it.");
    }
}
