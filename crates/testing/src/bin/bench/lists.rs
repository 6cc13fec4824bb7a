//! How long a page of each list takes on an install with as much in it as a team makes in years.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    install::{Api, Install},
    round,
};

/// Messages and audit entries of the install that is measured.
const MESSAGES: &str = "1000000";
const AUDIT: &str = "100000";
/// Requests for each kind of page.
const REQUESTS: usize = 400;
/// Pages that are walked to find conversations for the other measurements.
const WALKED: usize = 20;

/// A kind of page, and the path of the n-th request for one.
type Kind<'a> = (&'a str, Box<dyn Fn(usize) -> String + 'a>);

/// Fills the install.
pub fn seed(install: &Install) -> f64 {
    let start = Instant::now();
    install.run(&["dev", "seed", "--messages", MESSAGES, "--audit", AUDIT]);
    start.elapsed().as_secs_f64()
}

/// Median and 99th percentile of each kind of page, in milliseconds, one request after the other.
pub async fn pages(api: &Api) -> Value {
    let mut measured = BTreeMap::new();
    let mut conversations = Vec::new();
    let mut cursors = vec![String::new()];
    for _ in 0..WALKED {
        let cursor = cursors.last().cloned().unwrap_or_default();
        let page = api.get(&format!("/api/v2/conversations?limit=200&cursor={cursor}")).await;
        let items = page["items"].as_array().expect("items");
        conversations.extend(items.iter().map(|item| text(&item["id"])));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursors.push(next.to_owned());
    }
    let long = longest(api, &conversations).await;
    let actor = text(&api.get("/api/v2/audit?limit=1").await["items"][0]["actor_id"]);
    let after = audit_cursors(api).await;
    let of = |items: &[String], number: usize| items[number * 7919 % items.len()].clone();
    let kinds: [Kind<'_>; 18] = [
        ("conversations", Box::new(|n| format!("/api/v2/conversations?cursor={}", of(&cursors, n)))),
        (
            "conversations_of_agent",
            Box::new(|n| format!("/api/v2/conversations?agent=default&cursor={}", of(&cursors, n))),
        ),
        ("messages", Box::new(|n| format!("/api/v2/conversations/{}/messages", of(&conversations, n)))),
        (
            "messages_last",
            Box::new(|n| format!("/api/v2/conversations/{}/messages?before=end", of(&conversations, n))),
        ),
        (
            "messages_of_a_long_one",
            Box::new(|n| {
                let (id, marks) = &long;
                format!("/api/v2/conversations/{id}/messages?cursor={}", of(marks, n))
            }),
        ),
        ("runs_of_a_long_one", Box::new(|_| format!("/api/v2/conversations/{}/runs", long.0))),
        ("search_common_word", Box::new(|_| "/api/v2/conversations/search?q=ce".to_owned())),
        ("search_two_words", Box::new(|n| format!("/api/v2/conversations/search?q=di%20{}", word(n)))),
        ("search_rare_word", Box::new(|n| format!("/api/v2/conversations/search?q={}", word(n)))),
        ("search_nothing", Box::new(|_| "/api/v2/conversations/search?q=qqqqqq".to_owned())),
        ("audit", Box::new(|n| format!("/api/v2/audit?cursor={}", of(&after, n)))),
        ("audit_actor", Box::new(|n| format!("/api/v2/audit?actor={actor}&cursor={}", of(&after, n)))),
        ("audit_action", Box::new(|n| format!("/api/v2/audit?action=agent:create&cursor={}", of(&after, n)))),
        ("audit_refused", Box::new(|n| format!("/api/v2/audit?effect=deny&cursor={}", of(&after, n)))),
        ("audit_resource", Box::new(|n| format!("/api/v2/audit?resource_id=agent-{}", n * 10 + 6))),
        ("audit_actor_and_action", Box::new(|_| format!("/api/v2/audit?actor={actor}&action=no:such"))),
        ("audit_text", Box::new(|n| format!("/api/v2/audit?q=number%22:{}", n * 37))),
        ("audit_no_such_text", Box::new(|n| format!("/api/v2/audit?q=nothing&cursor={}", of(&after, n)))),
    ];
    for (kind, path) in kinds {
        let mut times = Vec::with_capacity(REQUESTS);
        for number in 0..REQUESTS {
            let path = path(number);
            let start = Instant::now();
            api.get(&path).await;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        measured.insert(kind.to_owned(), json!({ "median": at(&times, 50), "p99": at(&times, 99) }));
    }
    json!({ "messages": MESSAGES, "audit_entries": AUDIT, "pages_ms": measured })
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

fn at(sorted: &[Duration], percent: usize) -> f64 {
    let index = (sorted.len() * percent / 100).min(sorted.len() - 1);
    round(sorted[index].as_secs_f64() * 1000.0)
}

/// A word that is said seldom: `soma dev seed` makes them of these syllables, the longest the most seldom.
fn word(number: usize) -> String {
    let syllables = ["ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu"];
    format!("{}{}{}", syllables[number % 10], syllables[number / 10 % 10], ["gu", "ha", "je"][number % 3])
}

/// The conversation with the most messages, and a mark on every tenth page of it.
async fn longest(api: &Api, conversations: &[String]) -> (String, Vec<String>) {
    // It was made first, and is the one that was not touched since.
    let mut page = api.get("/api/v2/conversations?limit=200").await;
    while let Some(next) = page["next_cursor"].as_str() {
        page = api.get(&format!("/api/v2/conversations?limit=200&cursor={next}")).await;
    }
    let oldest = page["items"].as_array().expect("items").iter().rev().take(2).map(|item| text(&item["id"]));
    let mut marks = Vec::new();
    for id in oldest.chain(conversations.first().cloned()) {
        let mut cursor = String::new();
        loop {
            let page =
                api.get(&format!("/api/v2/conversations/{id}/messages?limit=200&cursor={cursor}")).await;
            let Some(next) = page["next_cursor"].as_str() else { break };
            next.clone_into(&mut cursor);
            marks.push(cursor.clone());
        }
        if !marks.is_empty() {
            return (id, marks);
        }
    }
    panic!("no conversation is longer than a page");
}

async fn audit_cursors(api: &Api) -> Vec<String> {
    let mut cursors = vec![String::new()];
    loop {
        let cursor = cursors.last().cloned().unwrap_or_default();
        let page = api.get(&format!("/api/v2/audit?limit=200&cursor={cursor}")).await;
        let Some(next) = page["next_cursor"].as_str() else { return cursors };
        cursors.push(next.to_owned());
    }
}
