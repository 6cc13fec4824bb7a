//! What chaos is to do: what the program runs on, who is killed and how often, and which promise is broken.

use std::{path::PathBuf, time::Duration};

use super::report::Promise;

/// A promise that the program breaks on purpose (`SOMA_FAULT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Steps that have effects are forgotten when the process ends.
    LedgerOff,
    /// Changes are answered before they are on disk.
    AckEarly,
    /// Events are taken from the outbox though Kafka has not got them.
    OutboxEarly,
}

impl Fault {
    pub const ALL: [Self; 3] = [Self::LedgerOff, Self::AckEarly, Self::OutboxEarly];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LedgerOff => "ledger_off",
            Self::AckEarly => "ack_early",
            Self::OutboxEarly => "outbox_early",
        }
    }

    /// The promises of which at least one must be seen broken.
    #[must_use]
    pub fn breaks(self, topology: Kind) -> &'static [Promise] {
        match self {
            Self::LedgerOff => &[Promise::AtMostOnce],
            // No kill of PostgreSQL is aimed at a message's commit: what is lost may be how a run or a call of it ended.
            Self::AckEarly if matches!(topology, Kind::Cluster(_)) => {
                &[Promise::Accepted, Promise::Ended, Promise::Calls]
            }
            Self::AckEarly => &[Promise::Accepted],
            Self::OutboxEarly => &[Promise::Told],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One process on embedded engines.
    Standalone,
    /// Gateway and worker apart, behind a Temporal server, on one SQLite file.
    Temporal,
    /// Two gateways and a worker or two of each kind, on servers of PostgreSQL, Redis, Kafka, Temporal, OPA and OpenBao.
    Cluster(Scenario),
}

/// Who is killed in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// Processes and servers, both; servers hang for 5 s at most.
    Mixed,
    /// Gateways and workers alone.
    Processes,
    /// Servers alone: each is killed, hangs for 5 s and hangs for 30 s, as often as each other.
    Engines,
    /// PostgreSQL alone, every 5 to 40 s.
    Restarts,
}

impl Scenario {
    /// A fault of the kind that this one is there to find.
    #[must_use]
    pub fn fault(self) -> Fault {
        match self {
            Self::Mixed | Self::Processes => Fault::LedgerOff,
            Self::Engines => Fault::OutboxEarly,
            Self::Restarts => Fault::AckEarly,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Options {
    /// The program, built with the feature `faults`.
    pub soma: PathBuf,
    pub kills: u32,
    /// Kills go on until so many messages were accepted, in place of so many kills.
    pub turns: Option<u64>,
    pub seed: u64,
    pub fault: Option<Fault>,
    pub conversations: u32,
    /// What the program runs on.
    pub topology: Kind,
    /// No kill after this time; too few kills are a violation.
    pub time_max: Duration,
    /// Says how far it is on standard error.
    pub progress: bool,
}

impl Options {
    #[must_use]
    pub fn new(soma: PathBuf) -> Self {
        Self {
            soma,
            kills: 300,
            turns: None,
            seed: 1,
            fault: None,
            conversations: 5,
            topology: Kind::Standalone,
            time_max: Duration::from_secs(20 * 60),
            progress: false,
        }
    }
}
