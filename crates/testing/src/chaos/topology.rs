//! What is killed: the processes of an installation, started on one database again and again.

use std::{
    fmt,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use super::{
    install::{Around, Installation, Point, Process},
    plan::{self, Planned},
    random::Random,
};

const SIGKILL: i32 = 9;

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Victim {
    /// The one process that does everything.
    Program,
    Gateway,
    Worker,
    Engine(Engine),
    /// Not killed, but stopped for a while and let go on.
    Paused(Engine),
}

/// A server of another program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    Temporal,
    Postgres,
    Redis,
    Opa,
}

impl Engine {
    /// As `scripts/engines` calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Temporal => "temporal",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Opa => "opa",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Temporal => "the Temporal server",
            Self::Postgres => "the PostgreSQL server",
            Self::Redis => "the Redis server",
            Self::Opa => "the OPA server",
        })
    }
}

impl Victim {
    /// Whether tool calls end with it.
    pub(super) fn calls_tools(self) -> bool {
        matches!(self, Self::Program | Self::Worker)
    }

    /// Whether what a call came to may not be recorded where it is gone for a moment.
    pub(super) fn records_calls(self) -> bool {
        matches!(self, Self::Engine(Engine::Postgres) | Self::Paused(Engine::Postgres))
    }
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program => f.write_str("the program"),
            Self::Gateway => f.write_str("the gateway"),
            Self::Worker => f.write_str("the worker"),
            Self::Engine(engine) => engine.fmt(f),
            Self::Paused(engine) => write!(f, "{engine} paused"),
        }
    }
}

/// How a process ended by itself.
pub(super) type Ended = (Victim, ExitStatus);

/// How long things may take on a topology.
pub(super) struct Bounds {
    /// How long a failpoint may not be passed, or a 202 not come, before the kill falls all the same.
    pub moment: Duration,
    /// How long all runs may take to end after the last start.
    pub settle: Duration,
}

/// An installation under test.
pub(super) trait Topology {
    const NAME: &'static str;
    const BOUNDS: Bounds;
    /// Whether servers that every request needs go away: clients try again then, and use no WebSocket.
    const PATIENT: bool = false;

    fn plan(kills: u32, random: &mut Random) -> Vec<Planned>;

    /// Starts what isn't running, one process of it armed. Answers the gateway's base URL once all are ready, or how
    /// one ended before.
    async fn start(&mut self, armed: Option<(Victim, Point)>) -> Result<String, Ended>;

    /// Whether it is started, as far as is known.
    fn runs(&self, victim: Victim) -> bool;

    /// Waits until a process ends by itself.
    async fn ended(&mut self) -> Ended;

    /// Kills a process with SIGKILL, unless it has ended already, and waits until it is gone. `Err` when it had ended
    /// and nobody knew.
    async fn kill(&mut self, victim: Victim) -> Result<(), String>;

    /// Asks every process to stop, as an operator would.
    async fn stop(&mut self) -> Vec<Ended>;

    fn installation(&self) -> &Installation;
}

/// Whether a process was killed, by whomever.
pub(super) fn killed(status: ExitStatus) -> bool {
    status.signal() == Some(SIGKILL)
}

/// What a topology is made from.
pub(super) struct Ground<'a> {
    pub soma: &'a Path,
    pub folder: PathBuf,
    pub around: Around<'a>,
}

/// `soma serve` on embedded engines: one process, one SQLite file.
pub(super) struct Standalone {
    installed: Installation,
    process: Process,
    url: String,
}

impl Standalone {
    pub(super) async fn install(ground: &Ground<'_>) -> Self {
        let engine = [("SA01_TEMPORAL_HOST", "embedded:".to_owned())];
        let installed = Installation::make(ground.soma, &ground.folder, &ground.around, engine).await;
        Self { installed, process: Process::gateway(), url: String::new() }
    }
}

impl Topology for Standalone {
    const NAME: &'static str = "standalone";
    const BOUNDS: Bounds = Bounds { moment: Duration::from_secs(8), settle: Duration::from_secs(120) };

    fn plan(kills: u32, random: &mut Random) -> Vec<Planned> {
        plan::plan(kills, random).into_iter().map(|moment| (Victim::Program, moment)).collect()
    }

    async fn start(&mut self, armed: Option<(Victim, Point)>) -> Result<String, Ended> {
        if !self.process.runs() {
            let started = self.process.start(&self.installed, armed.map(|(_, point)| point)).await;
            self.url = started.map_err(|status| (Victim::Program, status))?;
        }
        Ok(self.url.clone())
    }

    fn runs(&self, _victim: Victim) -> bool {
        self.process.runs()
    }

    async fn ended(&mut self) -> Ended {
        (Victim::Program, self.process.ended().await)
    }

    async fn kill(&mut self, _victim: Victim) -> Result<(), String> {
        self.process.kill().await;
        Ok(())
    }

    async fn stop(&mut self) -> Vec<Ended> {
        vec![(Victim::Program, self.process.stop().await)]
    }

    fn installation(&self) -> &Installation {
        &self.installed
    }
}
