//! The promises, held against what the clients saw, what the database says, and what really happened outside.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
};

use futures::{StreamExt, stream};
use serde_json::Value;

use super::{
    client::{Api, Frame, Turn, lock},
    inspect::{CallRow, Snapshot, StepId},
    report::{Promise, Report},
    script::{Call, Class},
};
use crate::effects::Effect;

/// Requests at once while everything is read again.
const READS_AT_ONCE: usize = 8;

/// Why a call is refused that waited for the policy in vain.
const UNDECIDED: &str = "policy_unavailable";

pub(super) struct Evidence {
    pub turns: Vec<Arc<Turn>>,
    pub database: Snapshot,
    pub outside: Vec<Effect>,
    /// At most once calls that some kill fell inside of.
    pub cut_off: HashSet<StepId>,
}

/// Reads through the API: every run's events again, every conversation's messages, every run's state.
pub(super) async fn by_api(api: &Api, turns: &[Arc<Turn>]) {
    let again = stream::iter(turns).map(|turn| read_again(api, turn));
    again.buffer_unordered(READS_AT_ONCE).collect::<()>().await;
    let conversations: HashSet<&str> = turns.iter().map(|turn| turn.conversation.as_str()).collect();
    let messages = stream::iter(conversations).map(|conversation| messages_of(api, conversation, turns));
    messages.buffer_unordered(READS_AT_ONCE).collect::<()>().await;
}

/// Every run has ended, so no question is open.
pub(super) async fn nobody_is_asked_any_more(api: &Api) {
    match api.pending_approvals().await {
        Ok(pending) if pending.is_empty() => {}
        other => api.violated(Promise::Ended, format!("approvals are pending after all runs: {other:?}")),
    }
}

/// No kill tore the chain, whoever wrote to it, and each message that was accepted is in it.
pub(super) async fn the_audit_is_whole(api: &Api, accepted: usize) {
    match api.verified_audit().await {
        Ok(found) if found["ok"] == true && found["entries"].as_u64() >= Some(accepted as u64) => {}
        other => api.violated(Promise::Audit, format!("the audit of {accepted} messages: {other:?}")),
    }
}

/// A follower that was cut off has seen what one sees who reads all of it at once.
async fn read_again(api: &Api, turn: &Turn) {
    let mut frames: Vec<Frame> = Vec::new();
    let run = &turn.run;
    let ended = api.listen(run, 0, |frame| frames.push(frame)).await;
    if !matches!(ended, Ok(true)) {
        api.violated(
            Promise::Events,
            format!("the events of run {run} can't be read to their end: {ended:?}"),
        );
    }
    let gapless = frames.iter().zip(1..).all(|(frame, sequence)| frame.sequence == sequence);
    let done = frames.iter().filter(|frame| frame.kind == "run.done").count();
    if !gapless || done != 1 {
        let sequences: Vec<_> = frames.iter().map(|frame| (frame.sequence, frame.kind.as_str())).collect();
        api.violated(Promise::Events, format!("the events of run {run} have gaps or ends: {sequences:?}"));
    }
    let followed = lock(&turn.frames);
    if *followed != frames {
        let what =
            format!("run {run}: its follower has {} events, there are {}", followed.len(), frames.len());
        let apart = followed.iter().zip(&frames).find(|(own, fresh)| own != fresh);
        api.violated(Promise::Events, format!("{what}; first difference: {apart:?}"));
    }
}

async fn messages_of(api: &Api, conversation: &str, turns: &[Arc<Turn>]) {
    let messages = match api.messages(conversation).await {
        Ok(messages) => messages,
        Err(refused) => {
            api.violated(
                Promise::Accepted,
                format!("conversation {conversation} can't be read: {refused:?}"),
            );
            return;
        }
    };
    let mut by_run: HashMap<&str, Vec<&Value>> = HashMap::new();
    for message in &messages {
        by_run.entry(message["run_id"].as_str().unwrap_or_default()).or_default().push(message);
    }
    for turn in turns.iter().filter(|turn| turn.conversation == conversation) {
        let own = by_run.remove(turn.run.as_str()).unwrap_or_default();
        let state = match api.get::<Value>(&format!("/api/v2/runs/{}", turn.run)).await {
            Ok(run) => run["state"].as_str().unwrap_or_default().to_owned(),
            Err(refused) => {
                api.violated(Promise::Accepted, format!("run {} can't be read: {refused:?}", turn.run));
                continue;
            }
        };
        said(api, turn, &own, &state);
    }
    for (run, messages) in by_run {
        let what = format!("{} messages of run {run}, which nobody was told of", messages.len());
        api.violated(Promise::Accepted, what);
    }
}

/// What stands in the conversation of one turn.
fn said(api: &Api, turn: &Turn, messages: &[&Value], state: &str) {
    let run = &turn.run;
    let of_role =
        |role: &'static str| messages.iter().copied().filter(move |message| message["role"] == role);
    let content = |message: &Value| message["content"].as_str().unwrap_or_default().to_owned();
    let users: Vec<_> = of_role("user").collect();
    let right = users.len() == 1
        && users[0]["id"] == turn.message.as_str()
        && content(users[0]) == turn.script.content;
    if !right {
        api.violated(Promise::Accepted, format!("run {run}: its message should be there once: {users:?}"));
    }
    let answers: Vec<String> =
        of_role("assistant").filter(|message| message.get("tool_calls").is_none()).map(content).collect();
    let results: Vec<String> = of_role("tool").map(content).collect();
    for (call, result) in turn.script.calls.iter().zip(&results) {
        let undecided = api.undecided.load(Ordering::SeqCst) && result.contains(UNDECIDED);
        // Another result than success is that nothing is known, and only of these calls; or that the run was cancelled.
        if *result != call.success() && call.class != Class::AtMostOnce && state != "cancelled" && !undecided
        {
            api.violated(Promise::Calls, format!("run {run}, {call:?}: its result is {result:?}"));
        }
    }
    let scripted = turn.script.calls.len();
    if results.len() > scripted || (state == "completed" && results.len() < scripted) {
        let what = format!("run {run} ({state}) tells {} results of {scripted} calls", results.len());
        api.violated(Promise::Calls, what);
    }
    if state == "completed" {
        let last_result = results.last().map_or("", String::as_str);
        let wanted = turn.script.answer_after(last_result);
        if answers != [wanted.clone()] {
            api.violated(Promise::Answer, format!("run {run} answers {answers:?}, not {wanted:?}"));
        }
    }
}

impl Evidence {
    /// Holds the database and the world outside against the turns, and counts.
    pub(super) fn weigh(&self, api: &Api, report: &mut Report) {
        let mut tally = Tally { api, report, outside: HashMap::new(), inside: HashMap::new() };
        for effect in &self.outside {
            tally.outside.entry(&effect.cause.note).or_default().push(effect);
        }
        for ((key, note), count) in &self.database.effects {
            tally.inside.entry(note).or_default().push((key, *count));
        }
        for turn in &self.turns {
            self.turn(turn, &mut tally);
        }
        let strays = tally.outside.len() + tally.inside.len();
        if strays > 0 {
            let notes: Vec<_> = tally.outside.keys().take(5).collect();
            api.violated(
                Promise::Calls,
                format!("{strays} effects belong to no call of any turn: {notes:?}"),
            );
        }
        self.totals(api, report);
    }

    fn turn<'a>(&'a self, turn: &'a Turn, tally: &mut Tally<'a, '_>) {
        let id = &turn.run;
        let Some(run) = self.database.runs.get(id) else {
            tally
                .api
                .violated(Promise::Accepted, format!("run {id} was accepted and is not in the database"));
            turn.script.calls.iter().for_each(|call| drop(tally.take(call)));
            return;
        };
        let may_stop = turn.stop_asked.load(Ordering::SeqCst);
        let must_stop = turn.said_cancelled.load(Ordering::SeqCst);
        match run.state.as_str() {
            "completed" if !must_stop => tally.report.completed += 1,
            "cancelled" if may_stop => tally.report.cancelled += 1,
            state => {
                let what = format!("run {id} ended as {state} ({}); asked to stop: {may_stop}", run.code);
                tally.api.violated(Promise::Ended, what);
            }
        }
        self.events(id, tally.api);
        told_its_end(turn, &run.state, tally.api);
        let calls = self.database.calls.get(id).map_or(&[][..], Vec::as_slice);
        let steps = self.database.tool_steps.get(id).map_or(&[][..], Vec::as_slice);
        let finished = calls.iter().filter(|call| !call.status.is_empty()).count();
        let told = self.database.events.get(id).into_iter().flatten();
        let told = told.filter(|(_, kind)| kind == "tool.result").count();
        let scripted = turn.script.calls.len();
        let all = run.state != "completed" || (calls.len() == scripted && finished == scripted);
        if !all || calls.len() > scripted || finished != told || finished > steps.len() {
            let what = format!(
                "run {id} ({}) has {} of {} calls, {} steps, {finished} results and {told} events of results",
                run.state,
                calls.len(),
                scripted,
                steps.len()
            );
            tally.api.violated(Promise::Calls, what);
        }
        for (index, call) in turn.script.calls.iter().enumerate() {
            let made = calls.get(index);
            if let Some(made) = made
                && (made.tool != call.tool() || !made.arguments.contains(&format!("\"{}\"", call.note)))
            {
                let what = format!("run {id}, call {index}: {made:?} is not the scripted {call:?}");
                tally.api.violated(Promise::Calls, what);
            }
            let step = steps.get(index).map(|ordinal| (id.clone(), *ordinal));
            self.call(call, &run.state, made, step.as_ref(), tally);
        }
    }

    /// One call: its effects as its class promises them.
    fn call<'a>(
        &self,
        call: &'a Call,
        run_state: &str,
        made: Option<&CallRow>,
        step: Option<&StepId>,
        tally: &mut Tally<'a, '_>,
    ) {
        let keys = tally.take(call);
        let class = call.class.as_str();
        let status = made.map_or("", |made| made.status.as_str());
        *tally.report.effects.entry(class.into()).or_default() += keys.len() as u64;
        if made.is_some() {
            let name = if status.is_empty() { "none" } else { status };
            *tally.report.calls.entry(class.into()).or_default().entry(name.into()).or_default() += 1;
        }
        let count = keys.len();
        let right = match (call.class, status) {
            (Class::Repeatable, "success") => count >= 1,
            (_, "success") => count == 1,
            (Class::AtMostOnce, "unknown") => count <= 1,
            // A kill fell inside of it, and its run was cancelled before it was made again.
            (Class::Repeatable, "cancelled") => run_state == "cancelled",
            (Class::Idempotent, "cancelled") => run_state == "cancelled" && count <= 1,
            (_, "blocked") => tally.api.undecided.load(Ordering::SeqCst) && count == 0,
            // Of what may be made once it is said only before it was made.
            (Class::Transactional | Class::AtMostOnce, "cancelled") => run_state == "cancelled" && count == 0,
            // Never ended: its run was stopped. What commits with its row has not happened then.
            (Class::Transactional, "") => count == 0,
            (Class::Repeatable, "") => true,
            (_, "") => count <= 1,
            _ => false,
        };
        let promise = match call.class {
            Class::Repeatable => Promise::Repeatable,
            Class::Transactional => Promise::Transactional,
            Class::Idempotent => Promise::Idempotent,
            Class::AtMostOnce => Promise::AtMostOnce,
        };
        if !right {
            let what = format!("{class} call {} ({status:?}) had {count} effects, as {keys:?}", call.note);
            tally.api.violated(promise, what);
        }
        let key = step.map(|(run, ordinal)| format!("{run}-{ordinal}"));
        if keys.iter().any(|own| Some(own) != key.as_ref()) {
            let what = format!("{class} call {}: its step is {key:?}, its effects say {keys:?}", call.note);
            tally.api.violated(Promise::Calls, what);
        }
        if status == "unknown" {
            tally.report.unknown += 1;
            if !step.is_some_and(|step| self.cut_off.contains(step)) {
                let what = format!("call {} is unknown and no kill fell inside of it ({step:?})", call.note);
                tally.api.violated(Promise::Unknown, what);
            }
        }
    }

    fn events(&self, run: &str, api: &Api) {
        let events = self.database.events.get(run).map_or(&[][..], Vec::as_slice);
        let gapless = events.iter().zip(1..).all(|((sequence, _), wanted)| *sequence == wanted);
        let ends = events.iter().filter(|(_, kind)| kind == "run.done").count();
        let last = events.last().is_some_and(|(_, kind)| kind == "run.done");
        if !gapless || ends != 1 || !last {
            api.violated(Promise::Events, format!("run {run}: its events in the database are {events:?}"));
        }
    }

    fn totals(&self, api: &Api, report: &mut Report) {
        let (turns, runs) = (self.turns.len(), self.database.runs.len());
        if runs != turns || self.database.user_messages != turns as i64 {
            let messages = self.database.user_messages;
            let what = format!("{turns} messages were accepted; there are {messages} and {runs} runs");
            api.violated(Promise::Accepted, what);
        }
        if report.unknown > report.cut_off {
            let what = format!("{} outcomes unknown, {} calls cut off", report.unknown, report.cut_off);
            api.violated(Promise::Unknown, what);
        }
        report.cost_micros = self.database.runs.values().map(|run| run.cost).sum();
        for account in &self.database.accounts {
            if account.reserved != 0 || account.spent != report.cost_micros {
                let what = format!("runs cost {}, {account:?}", report.cost_micros);
                api.violated(Promise::Budget, what);
            }
        }
        if self.database.accounts.len() != 2
            || self.database.open_reservations != 0
            || report.cost_micros <= 0
        {
            let what = format!(
                "{} reservations are open, {} accounts spent {}",
                self.database.open_reservations,
                self.database.accounts.len(),
                report.cost_micros
            );
            api.violated(Promise::Budget, what);
        }
        if self.database.integrity != "ok" {
            api.violated(Promise::Database, self.database.integrity.clone());
        }
    }
}

/// The follower was told that the run ended as it did.
fn told_its_end(turn: &Turn, state: &str, api: &Api) {
    let frames = lock(&turn.frames);
    let Some(last) = frames.last() else { return };
    let data: Value = serde_json::from_str(&last.data).unwrap_or_default();
    if last.kind == "run.done" && data["payload"]["status"] != state {
        api.violated(
            Promise::Ended,
            format!("run {} ended as {state}; it was told: {}", turn.run, last.data),
        );
    }
}

/// The effects by their notes, less those that were taken, and what is counted.
struct Tally<'a, 'b> {
    api: &'b Api,
    report: &'b mut Report,
    outside: HashMap<&'a str, Vec<&'a Effect>>,
    inside: HashMap<&'a str, Vec<(&'a str, i64)>>,
}

impl Tally<'_, '_> {
    /// The keys of a call's effects, one for each effect, and in the call's own class.
    fn take(&mut self, call: &Call) -> Vec<String> {
        let outside = self.outside.remove(call.note.as_str()).unwrap_or_default();
        let inside = self.inside.remove(call.note.as_str()).unwrap_or_default();
        let key = |effect: &&Effect| match effect.class == call.class.as_str() {
            true => effect.cause.call.clone(),
            false => format!("of class {}: {}", effect.class, effect.cause.call),
        };
        let mut keys: Vec<String> = outside.iter().map(key).collect();
        for (key, count) in inside {
            keys.extend((0..count).map(|_| key.to_owned()));
        }
        keys
    }
}
