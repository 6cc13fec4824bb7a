//! What the demo claims, checked against the run's record, the budgets, the model's own count and the disk.

use super::{model::Asked, play::Play};
use crate::commands::chat::{
    client::{Budget, Run},
    frame::{Frame, RunEvent},
};

pub const MORAL: &str = "\
Proved: a server was killed with SIGKILL in mid-answer. The message was not lost, the tool that had run was not run
again, the listener missed nothing and heard nothing twice, and the model call that died was paid for at what had
been set aside for it: once.";

/// Everything that was seen.
#[derive(Debug)]
pub struct Record {
    /// Events as they were heard, from both servers.
    pub live: Vec<RunEvent>,
    /// The same stream, read anew from its start.
    pub whole: Vec<RunEvent>,
    /// Number of the last event before the kill.
    pub heard: i64,
    /// What the tenant's budget held for the call that was then killed, in millionths of a dollar.
    pub reserved: u64,
    pub run: Run,
    pub budgets: Vec<Budget>,
    pub asked: Asked,
    /// Lines that the tool left in its workspace: one for each time it ran.
    pub marks: usize,
}

pub fn prove(play: &mut Play, record: &Record) {
    stream(play, record);
    tool(play, record);
    answer(play, record);
    money(play, record);
}

fn stream(play: &mut Play, record: &Record) {
    let Record { live, whole, heard, .. } = record;
    let numbered = whole.iter().map(|event| event.sequence).eq((1..).take(whole.len()));
    play.claim(
        &format!("heard live over both servers: {} events, none missing, none twice", live.len()),
        numbered && live == whole,
    );
    let resumed = live.iter().find(|event| event.sequence > *heard);
    play.claim(
        &format!("the second server went on right after #{heard}"),
        resumed.is_some_and(|event| event.sequence == heard + 1),
    );
    play.claim("the run is completed", record.run.state == "completed");
}

fn tool(play: &mut Play, record: &Record) {
    let starts = count(&record.whole, |frame| matches!(frame, Frame::ToolStart(_)));
    let results: Vec<(i64, &str)> = record.whole.iter().filter_map(result).collect();
    let before = results.first().is_some_and(|(sequence, _)| *sequence <= record.heard);
    play.claim(
        "the tool ran once: one tool.start and one tool.result, both before the kill",
        starts == 1 && results.len() == 1 && before,
    );
    let wrote = record.whole.iter().any(|event| match &event.frame {
        Frame::ToolStart(start) => start.tool == "code_execute",
        _ => false,
    });
    if wrote {
        play.claim("the program left its mark in the workspace once", record.marks == 1);
    }
    let Asked { tool_calls, answers_begun, answers_ended } = record.asked;
    play.claim(
        &format!(
            "the model was asked {} times: for the tool call {tool_calls}, for the answer {answers_begun}, heard to \
             its end {answers_ended}",
            tool_calls + answers_begun
        ),
        record.asked == Asked { tool_calls: 1, answers_begun: 2, answers_ended: 1 },
    );
}

fn answer(play: &mut Play, record: &Record) {
    let resets: Vec<i64> =
        record.whole.iter().filter(|event| is_reset(event)).map(|event| event.sequence).collect();
    let after = resets.first().copied().unwrap_or_default();
    play.claim(
        "one chat.reset took back what the dead server had said",
        resets.len() == 1 && after > record.heard,
    );
    let told: String = record
        .whole
        .iter()
        .filter(|event| event.sequence > after)
        .filter_map(|event| match &event.frame {
            Frame::Delta(delta) => Some(delta.delta.as_str()),
            _ => None,
        })
        .collect();
    let stored = record.whole.iter().find_map(|event| match &event.frame {
        Frame::Done(done) => Some(done.content.as_str()),
        _ => None,
    });
    let result = record.whole.iter().find_map(result).map_or("", |(_, output)| output.trim());
    play.claim(
        &format!("the pieces after it are the stored answer, and it holds the tool's result ({result})"),
        !result.is_empty() && stored == Some(told.as_str()) && told.contains(result),
    );
}

fn money(play: &mut Play, record: &Record) {
    let Record { run, reserved, budgets, .. } = record;
    // The demo's prices: one and two millionths of a dollar.
    let heard = run.usage.input_tokens + 2 * run.usage.output_tokens;
    play.line(&format!(
        "        {} tokens in and {} out of the two calls that ended: {} (all in millionths of a dollar)",
        run.usage.input_tokens, run.usage.output_tokens, heard
    ));
    play.claim(
        &format!("the call that was killed settled at the {reserved} set aside for it, for the provider may charge it"),
        *reserved > 0 && run.cost_micros == heard + reserved,
    );
    play.claim(
        &format!(
            "the budgets of tenant and user have both spent the run's {} and hold nothing back",
            run.cost_micros
        ),
        budgets.len() == 2
            && budgets
                .iter()
                .all(|budget| budget.reserved_micros == 0 && budget.spent_micros == run.cost_micros),
    );
}

fn is_reset(event: &RunEvent) -> bool {
    matches!(event.frame, Frame::Reset(_))
}

fn result(event: &RunEvent) -> Option<(i64, &str)> {
    match &event.frame {
        Frame::ToolResult(result) if result.status == "success" => Some((event.sequence, &result.output)),
        _ => None,
    }
}

fn count(events: &[RunEvent], which: impl Fn(&Frame) -> bool) -> usize {
    events.iter().filter(|event| which(&event.frame)).count()
}
