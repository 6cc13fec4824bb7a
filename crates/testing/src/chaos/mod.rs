//! Chaos: kills the real program again and again while it works, and checks afterwards that it kept its promises.
//!
//! Clients talk to agents in several conversations at once, some by requests and Server-Sent Events, some by WebSocket
//! alone; each message makes the scripted model call test tools whose effects are counted outside the program. Kills
//! fall at random moments and at every failpoint, the program is started again on the same database, and clients go on.
//! At the end every run must have ended as it should, every effect must have happened as often as its class allows, and
//! every event must have been seen once.
//!
//! With a fault switched on the same checks must find something: that is what they are worth.

mod check;
mod client;
mod cluster;
mod engine;
mod inspect;
mod install;
mod load;
mod options;
mod outside;
mod plan;
mod plan_cluster;
mod random;
mod report;
mod script;
mod socket;
mod told;
mod topology;

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

pub use options::{Fault, Kind, Options, Scenario};
pub use report::{Promise, Report, Violation, WebSocket};

use check::Evidence;
use client::{Api, Turn, Way, lock};
use inspect::Snapshot;
use install::{Around, Point};
use load::Load;
use outside::Outside;
use plan::Moment;
use random::Random;
use topology::{Ended, Engine, Ground, READY_MAX, Topology, Victim, killed};

use crate::{ScriptedModel, model_server};

/// A moment that is a time comes after that time, or a little later.
const LATE: Duration = Duration::from_secs(1);
/// How long a moment is waited for with a promise broken on purpose: few turns get far then.
const MOMENT_BROKEN_MAX: Duration = Duration::from_secs(2);
/// Cancelled turns in a hundred while a failpoint is waited for that only they pass.
const CANCELS_WANTED: u64 = 60;
/// How long all runs may take to end with a promise broken on purpose: what hangs then hangs for ever.
const SETTLE_BROKEN_MAX: Duration = Duration::from_secs(20);
/// A tool call waits some ten seconds for a policy that does not answer, and is refused then.
const UNDECIDED_S: u64 = 8;
/// What was sent to a server before a kill is done there after this time.
const SENT_BEFORE: Duration = Duration::from_millis(200);
/// Kills between two lines that say how far it is.
const PROGRESS_EVERY: u64 = 25;

/// Runs chaos against the program on one of its topologies.
///
/// # Panics
/// When it can't do its work: the program can't be run, has no faults built in, or does not start.
pub async fn run(options: &Options) -> Report {
    if options.progress {
        say(&format!("chaos: seed {}, {} kills", options.seed, options.kills));
    }
    let folder = tempfile::tempdir().expect("a folder of its own");
    let mut random = Random::new(options.seed);
    let outside = Outside::start(random.fork());
    let model = ScriptedModel::start_with(model_server::Options { recorded_max: 0, ..Default::default() })
        .expect("a port");
    let (model_url, effects_url) = (model.base_url(), outside.url());
    let ground = Ground {
        soma: &options.soma,
        folder: folder.path().to_owned(),
        around: Around { model_url: &model_url, effects_url: &effects_url },
    };
    let topology = match options.topology {
        Kind::Standalone => Topology::standalone(&ground).await,
        Kind::Temporal => Topology::temporal(&ground).await,
        Kind::Cluster(_) => cluster::install(&ground).await,
    };
    let report = Chaos::new(options, topology, random).run(&outside).await;
    if !report.kept() && options.fault.is_none() {
        let kept = folder.keep();
        let text = serde_json::to_string_pretty(&report).expect("a report is JSON");
        std::fs::write(kept.join("report.json"), text).expect("the report can be written");
        say(&format!("the database, the log and the report are kept in {}", kept.display()));
    }
    report
}

#[expect(clippy::print_stderr, reason = "a command line tells how far it is")]
fn say(line: &str) {
    eprintln!("{line}");
}

struct Chaos<'a> {
    options: &'a Options,
    topology: Topology,
    api: Arc<Api>,
    random: Random,
    report: Report,
    cut_off: HashSet<inspect::StepId>,
    /// When the installation went down and was not ready since.
    down_since: Option<Instant>,
    recoveries: Vec<Duration>,
    /// The server that was away, and is back once all is started.
    away: Option<Victim>,
    /// How long it took from a server's return to work as usual.
    returns: Vec<Duration>,
}

impl<'a> Chaos<'a> {
    fn new(options: &'a Options, topology: Topology, random: Random) -> Self {
        let api = Api::new(&topology.installed.api_key, topology.patient);
        let report = Report {
            seed: options.seed,
            topology: topology.name,
            fault: options.fault.map(Fault::as_str),
            ..Report::default()
        };
        Self {
            options,
            topology,
            api,
            random,
            report,
            cut_off: HashSet::new(),
            down_since: None,
            recoveries: Vec::new(),
            away: None,
            returns: Vec::new(),
        }
    }

    async fn run(mut self, outside: &Outside) -> Report {
        let begun = Instant::now();
        self.start(None).await.expect("the program starts");
        self.expect_test_tools().await;
        self.api.make_careful_agent().await.expect("an agent can be made");
        self.topology.kill(Victim::Program).await.expect("it has just answered");
        // What all conversations need is there for good: a promise that is broken on them leaves none to look at.
        if let Some(fault) = self.options.fault {
            self.topology.installed.break_from_now_on(fault);
        }
        self.api.base.send_replace(None);
        let load = Load::start(&self.api, self.options.conversations, &mut self.random);
        self.kill_all(&load, begun).await;
        let started = Instant::now();
        self.start(None).await.expect("the program starts after the last kill");
        let settle_max =
            if self.options.fault.is_some() { SETTLE_BROKEN_MAX } else { self.topology.bounds.settle };
        let (turns, settled) = load.settle(settle_max).await;
        self.report.settled_ms = started.elapsed().as_millis();
        if settled {
            check::by_api(&self.api, &turns).await;
            check::nobody_is_asked_any_more(&self.api).await;
            check::the_audit_is_whole(&self.api, turns.len()).await;
            self.kafka_has_all().await;
        } else {
            let open: Vec<_> =
                turns.iter().filter(|turn| !*turn.done.borrow()).map(|turn| &turn.run).collect();
            let what = format!("within {settle_max:?} {} runs have not ended: {open:?}", open.len());
            self.api.violated(Promise::Ended, what);
        }
        for (who, status) in self.topology.stop().await {
            if !status.success() {
                self.api.violated(Promise::Program, format!("asked to stop, {who} ended with {status}"));
            }
        }
        self.finish(turns, outside, begun).await
    }

    async fn finish(mut self, turns: Vec<Arc<Turn>>, outside: &Outside, begun: Instant) -> Report {
        let log = std::fs::read_to_string(&self.topology.installed.log).unwrap_or_default();
        for line in log.lines().filter(|line| line.contains("panicked at")) {
            self.api.violated(Promise::Program, line.to_owned());
        }
        self.report.turns = turns.len() as u64;
        self.report.events = turns.iter().map(|turn| lock(&turn.frames).len() as u64).sum();
        self.websocket(&turns);
        let evidence = Evidence {
            turns,
            database: Snapshot::read(&self.topology.installed.database).await,
            outside: outside.effects().await,
            cut_off: self.cut_off,
        };
        evidence.weigh(&self.api, &mut self.report);
        self.report.recovered(self.recoveries, self.returns);
        self.report.sent_again = self.api.sent_again.load(Ordering::Relaxed);
        self.report.reconnects = self.api.reconnects.load(Ordering::Relaxed);
        self.report.duration_s = begun.elapsed().as_secs();
        (self.report.violations, self.report.more_violations) = self.api.violations();
        self.report
    }

    /// Counts what went over WebSocket, and what was approved at all.
    fn websocket(&mut self, turns: &[Arc<Turn>]) {
        let over: HashSet<&str> =
            turns.iter().filter(|turn| turn.way == Way::WebSocket).map(|turn| turn.run.as_str()).collect();
        let approved = lock(&self.api.approved);
        self.report.approved = approved.len() as u64;
        let counts = &self.api.websocket;
        self.report.websocket = WebSocket {
            turns: over.len() as u64,
            approved: approved.iter().filter(|run| over.contains(run.as_str())).count() as u64,
            reconnects: counts.reconnects.load(Ordering::Relaxed),
            resumed: counts.resumed.load(Ordering::Relaxed),
            sent_again: counts.sent_again.load(Ordering::Relaxed),
        };
    }

    /// Holds what Kafka was told against the database, where there is a Kafka.
    async fn kafka_has_all(&mut self) {
        let kafka = self.topology.engines.iter().find(|server| server.engine == Engine::Kafka);
        if let Some(kafka) = kafka {
            let told = told::check(&self.api, &self.topology.installed.database, kafka.address()).await;
            self.report.told = Some(told);
        }
    }

    fn plan(&mut self) -> VecDeque<plan::Planned> {
        let (kills, random) = (self.options.kills, &mut self.random);
        VecDeque::from(match self.options.topology {
            Kind::Standalone => plan::standalone(kills, random),
            Kind::Temporal => plan::temporal(kills, random),
            Kind::Cluster(scenario) => plan_cluster::plan(scenario, kills, random),
        })
    }

    async fn kill_all(&mut self, load: &Load, begun: Instant) {
        let mut moments = self.plan();
        // A point that was missed once is tried once more, last.
        let mut missed: HashSet<String> = HashSet::new();
        while let Some(planned) = moments.pop_front() {
            if self.options.turns.is_some_and(|turns| load.turns() >= turns) {
                return;
            }
            if begun.elapsed() > self.options.time_max {
                let what =
                    format!("{} kills took too long, {} are left", self.report.kills, moments.len() + 1);
                self.api.violated(Promise::Program, what);
                return;
            }
            let (victim, moment) = &planned;
            let at_random = plan::place(*victim, &Moment::Random(Duration::ZERO));
            load.cancel(if moment.wants_cancels() { CANCELS_WANTED } else { load::CANCELLED });
            if matches!(moment, Moment::Point(..)) && self.topology.runs(*victim) {
                // A process is armed as it starts. Whether a call is cut off is in the database, which may be away.
                if self.away.is_some()
                    && let Err((who, status)) = self.start(None).await
                {
                    self.api.violated(Promise::Program, format!("{who} ended as it started: {status}"));
                }
                self.kill(*victim, at_random.clone()).await;
            }
            let reached = self.reached(*victim, moment).await;
            let place = plan::place(*victim, moment);
            if !reached && missed.insert(place.clone()) {
                // In the place of a random kill, so that their number stays.
                let other = moments
                    .iter_mut()
                    .find(|(other, moment)| other == victim && matches!(moment, Moment::Random(_)));
                if let Some(other) = other {
                    *other = planned.clone();
                }
            }
            self.report.unreached += u64::from(!reached);
            self.kill(*victim, if reached { place } else { at_random }).await;
            if self.options.progress && self.report.kills.is_multiple_of(PROGRESS_EVERY) {
                let (broken, more) = self.api.violations();
                let broken = broken.len() as u64 + more;
                let seconds = begun.elapsed().as_secs();
                say(&format!("{} kills after {seconds} s, {broken} violations", self.report.kills));
            }
        }
    }

    async fn kill(&mut self, victim: Victim, place: String) {
        let killed = self.topology.kill(victim).await.unwrap_or_else(|problem| {
            self.api.violated(Promise::Program, format!("{victim}: {problem}"));
            Vec::new()
        });
        self.away = victim.engine().map(|_| victim);
        if matches!(victim, Victim::Paused(Engine::Opa, seconds) if seconds > UNDECIDED_S) {
            self.api.undecided.store(true, Ordering::SeqCst);
        }
        self.api.base.send_replace(self.topology.base());
        self.down_since.get_or_insert_with(Instant::now);
        self.report.kills += 1;
        *self.report.places.entry(place).or_default() += 1;
        if !killed.is_empty() {
            // A server still makes a change that it was sent before the kill.
            tokio::time::sleep(SENT_BEFORE).await;
            for step in inspect::cut_off(&self.topology.installed.database, &killed).await {
                self.report.cut_off += u64::from(self.cut_off.insert(step));
            }
        }
    }

    /// Starts what is down and waits for this moment; false when it did not come.
    async fn reached(&mut self, victim: Victim, moment: &Moment) -> bool {
        let within = self.topology.bounds.moment;
        match moment {
            Moment::Starting(after) => {
                // Cut off wherever it is then; the process is killed next.
                let started = tokio::time::timeout(*after, self.start(None)).await;
                if let Ok(Err((who, status))) = started {
                    self.api.violated(Promise::Program, format!("{who} ended as it started: {status}"));
                }
                true
            }
            Moment::Random(after) => {
                self.run_until(None, *after + LATE, |_| tokio::time::sleep(*after)).await
            }
            Moment::Accepted(count) => {
                self.run_until(None, within, |api| {
                    let mut accepted = api.accepted.subscribe();
                    let wanted = *accepted.borrow() + count;
                    async move { drop(accepted.wait_for(|seen| *seen >= wanted).await) }
                })
                .await
            }
            Moment::Point(name, pass) => {
                self.run_until(Some((victim, (name, *pass))), within, |_| std::future::pending()).await
            }
        }
    }

    /// Runs until the moment, or until an armed process has killed itself. False when neither comes.
    async fn run_until<F: Future<Output = ()>>(
        &mut self,
        armed: Option<(Victim, Point)>,
        within: Duration,
        moment: impl FnOnce(Arc<Api>) -> F,
    ) -> bool {
        let ended = |api: &Api, (who, status): Ended| {
            let right = killed(status) && armed.is_some_and(|(victim, _)| victim.has(who));
            if !right {
                api.violated(Promise::Program, format!("{who} ended by itself: {status}"));
            }
            right
        };
        // A point may be passed before the program listens: what was left is taken up first.
        if let Err(end) = self.start(armed).await {
            return ended(&self.api, end);
        }
        let moment = moment(Arc::clone(&self.api));
        let moment_max = if self.options.fault.is_some() { within.min(MOMENT_BROKEN_MAX) } else { within };
        tokio::select! {
            end = self.topology.ended() => ended(&self.api, end),
            () = moment => true,
            () = tokio::time::sleep(moment_max) => false,
        }
    }

    async fn start(&mut self, armed: Option<(Victim, Point)>) -> Result<(), Ended> {
        let servers_since = self.topology.start(armed).await?;
        self.api.base.send_replace(self.topology.base());
        if let Some(victim) = self.away.take() {
            self.works_again(victim, servers_since).await;
        }
        if let Some(since) = self.down_since.take() {
            self.recoveries.push(since.elapsed());
        }
        Ok(())
    }

    /// Waits until, after a server's return, a message was accepted and a turn has ended.
    async fn works_again(&mut self, victim: Victim, since: Instant) {
        if self.options.fault.is_some() {
            return;
        }
        let mut counts = [self.api.accepted.subscribe(), self.api.ended.subscribe()];
        let more = async {
            for count in &mut counts {
                let before = *count.borrow();
                drop(count.wait_for(|seen| *seen > before).await);
            }
        };
        if tokio::time::timeout(READY_MAX.saturating_sub(since.elapsed()), more).await.is_err() {
            let what = format!("{READY_MAX:?} after {victim} no message was accepted, or no turn has ended");
            self.api.violated(Promise::Recovery, what);
        }
        self.returns.push(since.elapsed());
    }

    /// A program without the test tools would keep every promise by doing nothing.
    async fn expect_test_tools(&self) {
        let tools: serde_json::Value = self.api.get("/api/v2/tools").await.expect("the tools can be listed");
        assert!(
            tools.to_string().contains("fx_transactional"),
            "{} was built without its test tools: build it with `--features soma/faults`",
            self.options.soma.display()
        );
    }
}
