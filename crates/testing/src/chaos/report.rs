//! What chaos found: figures and violations, for people and for machines.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// What was accepted is there, once.
    Accepted,
    /// A right request is not refused.
    Requests,
    /// Every run ends, and as it should.
    Ended,
    /// The answer is the scripted one.
    Answer,
    /// The tool calls are the scripted ones, each with one result.
    Calls,
    Repeatable,
    Transactional,
    Idempotent,
    AtMostOnce,
    /// No outcome is unknown but of such a call that a kill fell inside of.
    Unknown,
    Budget,
    Events,
    /// The audit's chain is whole, and everything accepted is in it.
    Audit,
    /// Kafka has every event that it was to be told, and those of one key in their order.
    Told,
    /// Once a server is back, messages are accepted and turns end within 30 s.
    Recovery,
    /// The program ends only when it is killed or asked to, and panics nowhere.
    Program,
    Database,
}

#[derive(Debug, Clone, Serialize)]
pub struct Violation {
    pub promise: Promise,
    pub what: String,
}

/// What went over WebSocket alone.
#[derive(Debug, Default, Serialize)]
pub struct WebSocket {
    pub turns: u64,
    /// Their calls that a person was asked about and approved.
    pub approved: u64,
    /// Connections that took the place of a broken one.
    pub reconnects: u64,
    /// Runs that were taken up again after the last event that had come.
    pub resumed: u64,
    /// Messages that were sent again since no acknowledgement had come.
    pub sent_again: u64,
}

/// What Kafka was told.
#[derive(Debug, Default, Serialize)]
pub struct Told {
    /// Different ones.
    pub events: u64,
    /// Those that came more than once.
    pub again: u64,
    /// How long it took after the last turn's end until none waited.
    pub carried_ms: u128,
}

#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub seed: u64,
    pub topology: &'static str,
    pub fault: Option<&'static str>,
    pub kills: u64,
    /// Kills by where they fell.
    pub places: BTreeMap<String, u64>,
    /// Kills that were to fall at a failpoint which was not passed in time, and fell at random instead.
    pub unreached: u64,
    pub turns: u64,
    pub completed: u64,
    pub cancelled: u64,
    /// Requests that were sent again after their connection broke.
    pub sent_again: u64,
    /// Streams that were taken up where they broke.
    pub reconnects: u64,
    /// Calls that a person was asked about and approved.
    pub approved: u64,
    pub websocket: WebSocket,
    /// Events that followers got.
    pub events: u64,
    /// Calls by class and status; a call without a result is `none`.
    pub calls: BTreeMap<String, BTreeMap<String, u64>>,
    /// Effects that really happened, by class.
    pub effects: BTreeMap<String, u64>,
    /// At most once calls whose outcome is unknown.
    pub unknown: u64,
    /// At most once calls that a kill fell inside of.
    pub cut_off: u64,
    pub cost_micros: i64,
    /// From a kill to the next time the program was ready.
    pub recovery_median_ms: u128,
    pub recovery_max_ms: u128,
    /// From a server's return to a message that was accepted and a turn that ended after it.
    pub return_median_ms: u128,
    pub return_max_ms: u128,
    /// Where there is a Kafka.
    pub told: Option<Told>,
    /// From the last start to the last run's end.
    pub settled_ms: u128,
    pub duration_s: u64,
    pub violations: Vec<Violation>,
    /// Violations beyond those that are listed.
    pub more_violations: u64,
}

impl Report {
    pub(super) fn recovered(&mut self, ready: Vec<Duration>, returns: Vec<Duration>) {
        (self.recovery_median_ms, self.recovery_max_ms) = median_and_max(ready);
        (self.return_median_ms, self.return_max_ms) = median_and_max(returns);
    }

    #[must_use]
    pub fn kept(&self) -> bool {
        self.violations.is_empty()
    }

    #[must_use]
    pub fn broke(&self, promises: &[Promise]) -> bool {
        self.violations.iter().any(|violation| promises.contains(&violation.promise))
    }

    /// How often each promise was broken.
    #[must_use]
    pub fn broken(&self) -> BTreeMap<Promise, u64> {
        let mut broken = BTreeMap::new();
        for violation in &self.violations {
            *broken.entry(violation.promise).or_default() += 1;
        }
        broken
    }
}

fn median_and_max(mut times: Vec<Duration>) -> (u128, u128) {
    times.sort_unstable();
    let median = times.get(times.len() / 2).map_or(0, Duration::as_millis);
    (median, times.last().map_or(0, Duration::as_millis))
}

/// Violations of one promise that are printed in full.
const PRINTED: usize = 4;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = self.fault.map(|fault| format!(", with the fault {fault}")).unwrap_or_default();
        let Self { seed, topology, kills, duration_s, .. } = self;
        writeln!(f, "chaos ({topology}): seed {seed}{fault}: {kills} kills in {duration_s} s")?;
        for (place, kills) in &self.places {
            writeln!(f, "  {place:<32} {kills:>6}")?;
        }
        if self.unreached > 0 {
            writeln!(f, "  {} more failpoints were not passed in time", self.unreached)?;
        }
        let Self { turns, completed, cancelled, sent_again, reconnects, approved, events, .. } = self;
        writeln!(f, "turns {turns}: {completed} completed, {cancelled} cancelled")?;
        writeln!(
            f,
            "requests sent again {sent_again}; streams taken up again {reconnects}; calls approved {approved}; events {events}"
        )?;
        let WebSocket { turns, approved, reconnects, resumed, sent_again } = &self.websocket;
        writeln!(
            f,
            "over WebSocket: turns {turns}; connections again {reconnects}; runs taken up again {resumed}; messages sent again {sent_again}; calls approved {approved}"
        )?;
        for (class, statuses) in &self.calls {
            let effects = self.effects.get(class).copied().unwrap_or(0);
            let statuses: Vec<String> =
                statuses.iter().map(|(name, count)| format!("{name} {count}")).collect();
            writeln!(f, "  {class:<16} {effects:>6} effects; calls: {}", statuses.join(", "))?;
        }
        writeln!(f, "unknown outcomes {} of at most {}", self.unknown, self.cut_off)?;
        writeln!(f, "spent {} millionths of a dollar", self.cost_micros)?;
        writeln!(
            f,
            "ready again after a kill: median {} ms, at most {} ms; all runs ended {} ms after the last start",
            self.recovery_median_ms, self.recovery_max_ms, self.settled_ms
        )?;
        if self.return_max_ms > 0 {
            writeln!(
                f,
                "work as usual after a server's return: median {} ms, at most {} ms",
                self.return_median_ms, self.return_max_ms
            )?;
        }
        if let Some(Told { events, again, carried_ms }) = &self.told {
            writeln!(
                f,
                "Kafka was told {events} events, {again} of them more than once; the last {carried_ms} ms after the last turn"
            )?;
        }
        for promise in self.broken().keys() {
            let whats = self.violations.iter().filter(|violation| violation.promise == *promise);
            for violation in whats.take(PRINTED) {
                writeln!(f, "BROKEN {promise:?}: {}", violation.what)?;
            }
        }
        match self.violations.len() as u64 + self.more_violations {
            0 => write!(f, "every promise was kept"),
            many => write!(f, "{many} violations: {:?}", self.broken()),
        }
    }
}
