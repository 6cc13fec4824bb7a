//! What Kafka was told, held against the database: each event at least once, and those of one key in their order.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use platform::{
    database::{Location, Sql},
    params,
};

use super::{
    client::Api,
    inspect,
    report::{Promise, Told},
};
use crate::topics::{Found, Topics};

/// How long events may wait once Kafka is there and nothing more happens.
const CARRIED_MAX: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const TOPICS: [&str; 5] =
    ["conversation.outbound", "tool.requests", "tool.results", "llm.metrics", "audit.events"];
/// What a run's stream has as well.
const IN_BOTH: [&str; 2] = ["run.done", "tool.result"];

pub(super) async fn check(api: &Api, database: &Location, kafka: &str) -> Told {
    let carried = await_carried(api, database).await;
    let topics = Topics::new(kafka, "");
    let read = move || TOPICS.iter().flat_map(|topic| topics.read(topic)).collect::<Vec<Found>>();
    let found = tokio::task::spawn_blocking(read).await.expect("the topics are read");
    let mut events = Events::default();
    found.iter().for_each(|found| events.take(found));
    let wanted = Wanted::read(database).await;
    for (what, count) in &wanted.of_runs {
        let told = events.of_runs.get(what).copied().unwrap_or(0);
        if told != *count {
            let (run, kind) = what;
            api.violated(Promise::Told, format!("run {run}: {count} {kind} happened and {told} were told"));
        }
    }
    let untold: Vec<_> = wanted.hashes.difference(&events.hashes).collect();
    if !untold.is_empty() || events.hashes.len() != wanted.hashes.len() {
        let (entries, told) = (wanted.hashes.len(), events.hashes.len());
        let some = untold.iter().take(3).collect::<Vec<_>>();
        let what = format!(
            "{entries} entries of the audit were made and {told} told; missing are {}: {some:?}",
            untold.len()
        );
        api.violated(Promise::Told, what);
    }
    for disorder in events.disorder {
        api.violated(Promise::Told, disorder);
    }
    let again = found.len() - events.ids.len();
    Told { events: events.ids.len() as u64, again: again as u64, carried_ms: carried.as_millis() }
}

/// Waits until no event waits in the outbox. None may be dead.
async fn await_carried(api: &Api, database: &Location) -> Duration {
    let begun = Instant::now();
    let connection = inspect::open(database).await;
    loop {
        let sql = "SELECT state, COUNT(*) AS many FROM outbox GROUP BY state";
        let rows = connection.all(sql, params![]).await.expect("the outbox is read");
        let row = |row: &platform::database::Row| {
            Ok::<_, platform::database::Error>((row.text("state")?, row.int("many")?))
        };
        let states: HashMap<_, _> = rows.iter().map(|one| row(one).expect("a state and a count")).collect();
        let waits = states.contains_key("pending");
        if !waits || begun.elapsed() > CARRIED_MAX {
            if !states.is_empty() {
                api.violated(Promise::Told, format!("in the outbox are left, by state: {states:?}"));
            }
            break;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    connection.close().await.expect("a connection can be closed");
    begun.elapsed()
}

/// What must have been told.
struct Wanted {
    /// By run and type.
    of_runs: HashMap<(String, String), i64>,
    /// Of the audit's entries.
    hashes: HashSet<String>,
}

impl Wanted {
    async fn read(database: &Location) -> Self {
        let connection = inspect::open(database).await;
        let sql = "SELECT run_id, kind, COUNT(*) AS many FROM run_events GROUP BY run_id, kind";
        let rows = connection.all(sql, params![]).await.expect("events are read");
        let mut of_runs = HashMap::new();
        for row in &rows {
            let kind = row.text("kind").expect("a type");
            if IN_BOTH.contains(&kind.as_str()) {
                of_runs.insert((row.text("run_id").expect("a run"), kind), row.int("many").expect("a count"));
            }
        }
        // A call is told when it is decided that it is made or not: one that a person is asked about waits for that.
        let sql = "SELECT run_id, payload FROM run_events WHERE kind = 'policy.decision'";
        for row in connection.all(sql, params![]).await.expect("decisions are read") {
            let decision: serde_json::Value = row.json("payload").expect("a decision");
            if decision["effect"] != "ask" {
                let what = (row.text("run_id").expect("a run"), "tool.start".to_owned());
                *of_runs.entry(what).or_insert(0) += 1;
            }
        }
        let sql = "SELECT id FROM runs WHERE state = 'completed'";
        for row in connection.all(sql, params![]).await.expect("runs are read") {
            of_runs.insert((row.text("id").expect("a run"), "assistant.final".to_owned()), 1);
        }
        let sql = "SELECT hash FROM audit_entries WHERE hash IS NOT NULL";
        let rows = connection.all(sql, params![]).await.expect("the audit is read");
        let hashes = rows.iter().map(|row| row.text("hash").expect("a hash")).collect();
        connection.close().await.expect("a connection can be closed");
        Self { of_runs, hashes }
    }
}

/// What was told, each event once.
#[derive(Default)]
struct Events {
    ids: HashSet<String>,
    of_runs: HashMap<(String, String), i64>,
    hashes: HashSet<String>,
    /// The last entry of each tenant's audit.
    last_entry: HashMap<String, i64>,
    disorder: Vec<String>,
}

impl Events {
    fn take(&mut self, found: &Found) {
        let header = |name: &str| found.headers.get(name).cloned().unwrap_or_default();
        if !self.ids.insert(header("event_id")) {
            return;
        }
        let kind = header("event_type");
        if kind != "audit.entry" {
            *self.of_runs.entry((header("correlation_id"), kind)).or_default() += 1;
            return;
        }
        let event = found.json();
        let entry = &event["entry"];
        self.hashes.insert(entry["hash"].as_str().unwrap_or_default().to_owned());
        let sequence = entry["sequence"].as_i64().unwrap_or_default();
        let before = self.last_entry.insert(found.key.clone(), sequence);
        if before.is_some_and(|before| before + 1 != sequence) {
            let (tenant, before) = (&found.key, before.unwrap_or_default());
            self.disorder.push(format!("tenant {tenant}: entry {sequence} was told after {before}"));
        }
    }
}
