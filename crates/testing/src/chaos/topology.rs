//! An installation under test: its processes and the servers around it, each of which is killed and comes back to the
//! same data.

use std::{
    fmt,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};

use futures::{StreamExt, future::join_all, stream::FuturesUnordered};

use super::{
    client,
    engine::Server,
    install::{self, Around, Installation, Point, Process},
};

const SIGKILL: i32 = 9;
/// How long after everything is there again a gateway may say that it is not ready.
pub(super) const READY_MAX: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Victim {
    /// All processes at once: where there is one, this one.
    Program,
    /// The first or a further one of its kind.
    Process(Role, usize),
    Engine(Engine),
    /// Not killed, but stopped for so many seconds and let go on.
    Paused(Engine, u64),
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Gateway,
    /// Turns, their tool calls and events.
    Worker,
    Turns,
    Tools,
    Events,
}

/// A server of another program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    Temporal,
    Postgres,
    Redis,
    Kafka,
    Opa,
    Openbao,
}

impl Engine {
    /// Those of a cluster.
    pub(super) const ALL: [Self; 6] =
        [Self::Postgres, Self::Temporal, Self::Kafka, Self::Opa, Self::Redis, Self::Openbao];

    /// As `scripts/engines` calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Temporal => "temporal",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Kafka => "kafka",
            Self::Opa => "opa",
            Self::Openbao => "openbao",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Temporal => "Temporal",
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
            Self::Kafka => "Kafka",
            Self::Opa => "OPA",
            Self::Openbao => "OpenBao",
        })
    }
}

impl Victim {
    /// Whether a process is killed with it.
    pub(super) fn has(self, process: Self) -> bool {
        self == Self::Program || self == process
    }

    /// The server that it is, or is the pause of.
    pub(super) fn engine(self) -> Option<Engine> {
        match self {
            Self::Engine(engine) | Self::Paused(engine, _) => Some(engine),
            Self::Program | Self::Process(..) => None,
        }
    }
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program => f.write_str("the program"),
            Self::Process(Role::Gateway, _) => f.write_str("a gateway"),
            Self::Process(Role::Worker, _) => f.write_str("a worker"),
            Self::Process(Role::Turns, _) => f.write_str("a worker for turns"),
            Self::Process(Role::Tools, _) => f.write_str("a worker for tools"),
            Self::Process(Role::Events, _) => f.write_str("a worker for events"),
            Self::Engine(engine) => engine.fmt(f),
            Self::Paused(engine, seconds) => write!(f, "{engine} hangs {seconds} s"),
        }
    }
}

/// How a process ended by itself.
pub(super) type Ended = (Victim, ExitStatus);

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// How long a failpoint may not be passed, or a 202 not come, before the kill falls all the same.
    pub moment: Duration,
    /// How long all runs may take to end after the last start.
    pub settle: Duration,
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

struct Member {
    victim: Victim,
    process: Process,
    /// Where it listens, of a gateway.
    url: String,
}

pub(super) struct Topology {
    pub name: &'static str,
    pub bounds: Bounds,
    /// Whether servers that every request needs go away: clients try again then.
    pub patient: bool,
    pub installed: Installation,
    pub engines: Vec<Server>,
    members: Vec<Member>,
    /// How often clients were sent to a gateway.
    sent: usize,
    http: reqwest::Client,
}

impl Topology {
    /// `soma serve` on embedded engines: one process, one SQLite file.
    pub(super) async fn standalone(ground: &Ground<'_>) -> Self {
        let engine = [("SA01_TEMPORAL_HOST".to_owned(), "embedded:".to_owned())];
        let installed = Installation::make(ground, engine, install::in_the_environment).await;
        let bounds = Bounds { moment: Duration::from_secs(8), settle: Duration::from_secs(120) };
        Self::new("standalone", bounds, installed, Vec::new(), &[Role::Gateway])
    }

    /// The gateway and the worker as processes of their own, behind a real Temporal server, on one SQLite file. The
    /// server's own database is a file too: it survives that the server is killed.
    pub(super) async fn temporal(ground: &Ground<'_>) -> Self {
        let mut server = Server::new(Engine::Temporal, Some(&ground.folder.join("temporal.db")));
        server.start().await;
        let queue = ("SA01_TEMPORAL_CONVERSATION_QUEUE".to_owned(), server.name().to_owned());
        let installed =
            Installation::make(ground, [server.setting(), queue], install::in_the_environment).await;
        Self::new("temporal", APART, installed, vec![server], &[Role::Worker, Role::Gateway])
    }

    /// Processes are started in this order.
    pub(super) fn new(
        name: &'static str,
        bounds: Bounds,
        installed: Installation,
        engines: Vec<Server>,
        roles: &[Role],
    ) -> Self {
        let mut members: Vec<Member> = Vec::new();
        for role in roles {
            let alike = |member: &&Member| matches!(member.victim, Victim::Process(own, _) if own == *role);
            let number = members.iter().filter(alike).count();
            let victim = Victim::Process(*role, number);
            members.push(Member { victim, process: Process::new(*role), url: String::new() });
        }
        // One server that hangs or is away leaves requests without what they need.
        let patient = engines.len() > 1;
        Self { name, bounds, patient, installed, engines, members, sent: 0, http: client::http() }
    }

    fn server(&mut self, engine: Engine) -> &mut Server {
        let found = self.engines.iter_mut().find(|server| server.engine == engine);
        found.expect("every engine of a plan was made")
    }

    fn members_of(&mut self, victim: Victim) -> impl Iterator<Item = &mut Member> {
        self.members.iter_mut().filter(move |member| victim.has(member.victim))
    }

    /// Starts what isn't running, one process of it armed. Answers since when all servers are there, once every gateway
    /// is ready; or how a process ended before that.
    pub(super) async fn start(&mut self, armed: Option<(Victim, Point)>) -> Result<Instant, Ended> {
        for server in &mut self.engines {
            if !server.is_up() {
                server.start().await;
            }
        }
        let servers_since = Instant::now();
        for Member { victim, process, url } in &mut self.members {
            if !process.runs() {
                let of_this = armed.filter(|(armed, _)| armed.has(*victim));
                let started = process.start(&self.installed, of_this.map(|(_, point)| point)).await;
                *url = started.map_err(|status| (*victim, status))?;
            }
        }
        if self.patient {
            self.await_ready().await;
        }
        Ok(servers_since)
    }

    /// Waits until each gateway says that it is ready, which is a part of being back.
    async fn await_ready(&self) {
        for url in self.gateways() {
            let ready = async {
                loop {
                    let asked = self.http.get(format!("{url}/health/ready")).send().await;
                    if asked.is_ok_and(|answer| answer.status() == 200) {
                        return;
                    }
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            };
            let ready = tokio::time::timeout(READY_MAX, ready).await;
            assert!(ready.is_ok(), "a gateway is not ready {READY_MAX:?} after all is there");
        }
    }

    fn gateways(&self) -> Vec<&String> {
        let up = self.members.iter().filter(|member| member.process.runs());
        up.filter(|member| matches!(member.victim, Victim::Process(Role::Gateway, _)))
            .map(|member| &member.url)
            .collect()
    }

    /// Where clients go now: to another gateway each time, where there is one.
    pub(super) fn base(&mut self) -> Option<String> {
        self.sent += 1;
        let gateways = self.gateways();
        (!gateways.is_empty()).then(|| gateways[self.sent % gateways.len()].clone())
    }

    /// Whether it is started, as far as is known.
    pub(super) fn runs(&mut self, victim: Victim) -> bool {
        match victim.engine() {
            Some(engine) => self.server(engine).is_up(),
            None => self.members_of(victim).any(|member| member.process.runs()),
        }
    }

    /// Waits until a process ends by itself.
    pub(super) async fn ended(&mut self) -> Ended {
        let mut ends: FuturesUnordered<_> = self
            .members
            .iter_mut()
            .map(async |member| (member.victim, member.process.ended().await))
            .collect();
        match ends.next().await {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }

    /// Kills with SIGKILL what has not ended already, and waits until it is gone. Answers the ids of the processes that
    /// are; `Err` when a server had ended and nobody knew.
    pub(super) async fn kill(&mut self, victim: Victim) -> Result<Vec<u32>, String> {
        match victim {
            Victim::Engine(engine) => self.server(engine).kill().await.map(|()| Vec::new()),
            Victim::Paused(engine, seconds) => {
                let pause = Duration::from_secs(seconds);
                self.server(engine).pause(pause).await.map(|()| Vec::new())
            }
            Victim::Program | Victim::Process(..) => {
                let mut killed = Vec::new();
                for member in self.members_of(victim) {
                    killed.extend(member.process.kill().await);
                }
                Ok(killed)
            }
        }
    }

    /// Asks every process to stop, as an operator would.
    pub(super) async fn stop(&mut self) -> Vec<Ended> {
        let stop = async |member: &mut Member| (member.victim, member.process.stop().await);
        join_all(self.members.iter_mut().map(stop)).await
    }
}

/// What a lost worker had begun is taken up after its heartbeat is missed, which takes 7 s.
pub(super) const APART: Bounds = Bounds { moment: Duration::from_secs(30), settle: Duration::from_secs(240) };
