//! Chaos: kills the real program again and again while it works, and checks afterwards that it kept its promises.
//!
//! Clients talk to agents in several conversations at once; each message makes the scripted model call test tools
//! whose effects are counted outside the program. Kills fall at random moments and at every failpoint, the program
//! is started again on the same database, and clients go on. At the end every run must have ended as it should, every
//! effect must have happened as often as its class allows, and every event must have been seen once.
//!
//! With a fault switched on the same checks must find something: that is what they are worth.

mod check;
mod client;
mod inspect;
mod load;
mod outside;
mod plan;
mod random;
mod report;
mod script;
mod topology;

use std::{
    collections::{HashSet, VecDeque},
    path::PathBuf,
    process::ExitStatus,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

pub use report::{Promise, Report, Violation};

use check::Evidence;
use client::{Api, Turn, lock};
use inspect::Snapshot;
use load::Load;
use outside::Outside;
use plan::{Moment, plan};
use random::Random;
use topology::{Standalone, Topology, killed};

use crate::{ScriptedModel, model_server};

/// How long a failpoint may not be passed, or a 202 not come, before the kill falls all the same.
const MOMENT_MAX: Duration = Duration::from_secs(8);
/// The same with a promise broken on purpose: few turns get far then.
const MOMENT_BROKEN_MAX: Duration = Duration::from_secs(2);
/// Cancelled turns in a hundred while a failpoint is waited for that only they pass.
const CANCELS_WANTED: u64 = 60;
/// How long all runs may take to end after the last start.
const SETTLE_MAX: Duration = Duration::from_secs(120);
/// The same with a promise broken on purpose: what hangs then hangs for ever.
const SETTLE_BROKEN_MAX: Duration = Duration::from_secs(20);
/// Kills between two lines that say how far it is.
const PROGRESS_EVERY: u64 = 25;

/// A promise that the program breaks on purpose (`SOMA_FAULT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Steps that have effects are forgotten when the process ends.
    LedgerOff,
    /// Changes are answered before they are on disk.
    AckEarly,
}

impl Fault {
    pub const ALL: [Self; 2] = [Self::LedgerOff, Self::AckEarly];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LedgerOff => "ledger_off",
            Self::AckEarly => "ack_early",
        }
    }

    /// The promises of which at least one must be seen broken.
    #[must_use]
    pub fn breaks(self) -> &'static [Promise] {
        match self {
            Self::LedgerOff => &[Promise::AtMostOnce],
            Self::AckEarly => &[Promise::Accepted],
        }
    }
}

#[derive(Debug, Clone)]
pub struct Options {
    /// The program, built with the feature `faults`.
    pub soma: PathBuf,
    pub kills: u32,
    pub seed: u64,
    pub fault: Option<Fault>,
    pub conversations: u32,
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
            seed: 1,
            fault: None,
            conversations: 5,
            time_max: Duration::from_secs(20 * 60),
            progress: false,
        }
    }
}

/// Runs chaos against `soma serve` on embedded engines.
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
    let installed =
        Standalone::install(&options.soma, folder.path(), &model_url, &effects_url, options.fault).await;
    let chaos = Chaos::new(options, installed, random);
    let report = chaos.run(&outside).await;
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

struct Chaos<'a, T> {
    options: &'a Options,
    topology: T,
    api: Arc<Api>,
    random: Random,
    report: Report,
    cut_off: HashSet<inspect::StepId>,
    /// When the installation went down and was not ready since.
    down_since: Option<Instant>,
    recoveries: Vec<Duration>,
}

impl<'a, T: Topology> Chaos<'a, T> {
    fn new(options: &'a Options, topology: T, random: Random) -> Self {
        let api = Api::new(topology.api_key());
        let report =
            Report { seed: options.seed, fault: options.fault.map(Fault::as_str), ..Report::default() };
        Self {
            options,
            topology,
            api,
            random,
            report,
            cut_off: HashSet::new(),
            down_since: None,
            recoveries: Vec::new(),
        }
    }

    async fn run(mut self, outside: &Outside) -> Report {
        let begun = Instant::now();
        self.start(None).await.expect("the program starts");
        self.expect_test_tools().await;
        self.topology.kill(&mut self.random).await;
        self.api.base.send_replace(None);
        let load = Load::start(&self.api, self.options.conversations, &mut self.random);
        self.kill_all(&load, begun).await;
        let started = Instant::now();
        self.start(None).await.expect("the program starts after the last kill");
        let settle_max = if self.options.fault.is_some() { SETTLE_BROKEN_MAX } else { SETTLE_MAX };
        let (turns, settled) = load.settle(settle_max).await;
        self.report.settled_ms = started.elapsed().as_millis();
        if settled {
            check::by_api(&self.api, &turns).await;
        } else {
            let open: Vec<_> =
                turns.iter().filter(|turn| !*turn.done.borrow()).map(|turn| &turn.run).collect();
            let what = format!("within {settle_max:?} {} runs have not ended: {open:?}", open.len());
            self.api.violated(Promise::Ended, what);
        }
        let status = self.topology.stop().await;
        if !status.success() {
            self.api.violated(Promise::Program, format!("asked to stop, it ended with {status}"));
        }
        self.finish(turns, outside, begun).await
    }

    async fn finish(mut self, turns: Vec<Arc<Turn>>, outside: &Outside, begun: Instant) -> Report {
        let log = std::fs::read_to_string(self.topology.log()).unwrap_or_default();
        for line in log.lines().filter(|line| line.contains("panicked at")) {
            self.api.violated(Promise::Program, line.to_owned());
        }
        self.report.turns = turns.len() as u64;
        self.report.events = turns.iter().map(|turn| lock(&turn.frames).len() as u64).sum();
        let evidence = Evidence {
            turns,
            database: Snapshot::read(self.topology.database()).await,
            outside: outside.effects().await,
            cut_off: self.cut_off,
        };
        evidence.weigh(&self.api, &mut self.report);
        self.report.recovered(self.recoveries);
        self.report.sent_again = self.api.sent_again.load(Ordering::Relaxed);
        self.report.reconnects = self.api.reconnects.load(Ordering::Relaxed);
        self.report.duration_s = begun.elapsed().as_secs();
        (self.report.violations, self.report.more_violations) = self.api.violations();
        self.report
    }

    async fn kill_all(&mut self, load: &Load, begun: Instant) {
        let mut moments = VecDeque::from(plan(self.options.kills, &mut self.random));
        // A point that was missed once is tried once more, last.
        let mut missed: HashSet<&'static str> = HashSet::new();
        while let Some(moment) = moments.pop_front() {
            if begun.elapsed() > self.options.time_max {
                let what =
                    format!("{} kills took too long, {} are left", self.report.kills, moments.len() + 1);
                self.api.violated(Promise::Program, what);
                return;
            }
            load.cancel(if moment.wants_cancels() { CANCELS_WANTED } else { load::CANCELLED });
            let reached = self.kill_at(&moment).await;
            self.report.kills += 1;
            let place = if reached { moment.place() } else { "at random" };
            *self.report.places.entry(place.to_owned()).or_default() += 1;
            if !reached && missed.insert(moment.place()) {
                // In the place of a random kill, so that their number stays.
                if let Some(other) = moments.iter_mut().find(|other| matches!(other, Moment::Random(_))) {
                    *other = moment.clone();
                }
            }
            self.report.unreached += u64::from(!reached);
            if self.options.progress && self.report.kills.is_multiple_of(PROGRESS_EVERY) {
                let (broken, more) = self.api.violations();
                let broken = broken.len() as u64 + more;
                let seconds = begun.elapsed().as_secs();
                say(&format!("{} kills after {seconds} s, {broken} violations", self.report.kills));
            }
        }
    }

    /// Starts what is down and kills at this moment; false when the moment did not come.
    async fn kill_at(&mut self, moment: &Moment) -> bool {
        let reached = match moment {
            Moment::Starting(after) => {
                // Cut off wherever it is then; the process is killed below.
                let started = tokio::time::timeout(*after, self.start(None)).await;
                if let Ok(Err(status)) = started {
                    self.api.violated(Promise::Program, format!("it ended as it started: {status}"));
                }
                true
            }
            Moment::Random(after) => self.run_until(None, |_| tokio::time::sleep(*after)).await,
            Moment::Accepted(count) => {
                self.run_until(None, |api| {
                    let mut accepted = api.accepted.subscribe();
                    let wanted = *accepted.borrow() + count;
                    async move { drop(accepted.wait_for(|seen| *seen >= wanted).await) }
                })
                .await
            }
            Moment::Point(name, pass) => {
                self.run_until(Some((name, *pass)), |_| std::future::pending()).await
            }
        };
        self.topology.kill(&mut self.random).await;
        self.api.base.send_replace(None);
        self.down_since.get_or_insert_with(Instant::now);
        let cut_off = inspect::cut_off(self.topology.database()).await;
        self.report.cut_off += cut_off.len() as u64;
        self.cut_off.extend(cut_off);
        reached
    }

    /// Runs until the moment, or until an armed process has killed itself. False when neither comes.
    async fn run_until<F: Future<Output = ()>>(
        &mut self,
        armed: Option<topology::Armed>,
        moment: impl FnOnce(Arc<Api>) -> F,
    ) -> bool {
        let ended = |api: &Api, status: ExitStatus| {
            if armed.is_none() || !killed(status) {
                api.violated(Promise::Program, format!("it ended by itself: {status}"));
            }
        };
        // A point may be passed before the program listens: what was left is taken up first.
        if let Err(status) = self.start(armed).await {
            ended(&self.api, status);
            return killed(status);
        }
        let moment = moment(Arc::clone(&self.api));
        let moment_max = if self.options.fault.is_some() { MOMENT_BROKEN_MAX } else { MOMENT_MAX };
        tokio::select! {
            status = self.topology.ended() => {
                ended(&self.api, status);
                killed(status)
            }
            () = moment => true,
            () = tokio::time::sleep(moment_max) => false,
        }
    }

    async fn start(&mut self, armed: Option<topology::Armed>) -> Result<(), ExitStatus> {
        let base = self.topology.start(armed).await?;
        self.api.base.send_replace(Some(base));
        if let Some(since) = self.down_since.take() {
            self.recoveries.push(since.elapsed());
        }
        Ok(())
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
