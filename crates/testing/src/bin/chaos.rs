//! `chaos`: kills the real program again and again and checks that it kept its promises; with `--prove` it breaks
//! promises on purpose and checks that this is noticed.
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a command line prints what it found, and stops where it can't work"
)]

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use testing::chaos::{Fault, Kind, Options, Report, Scenario, run};

/// Kills while a fault is switched on: the first few show it.
const KILLS_TO_PROVE: u32 = 40;
/// Kills at most where it is turns that are counted.
const KILLS_WITH_TURNS: u32 = 2_000;

#[derive(Debug, Parser)]
struct Arguments {
    /// 300 when absent, 60 with `--temporal` or `--cluster`.
    #[arg(long)]
    kills: Option<u32>,
    /// Repeats the plan of an earlier run; from the clock when absent.
    #[arg(long)]
    seed: Option<u64>,
    /// Conversations at once; 5 when absent, 8 with `--temporal` or `--cluster`.
    #[arg(long)]
    conversations: Option<u32>,
    /// Minutes after which no kill is made any more; 20 when absent, 14 with `--temporal` or `--cluster`.
    #[arg(long)]
    minutes: Option<u64>,
    /// Kills go on until so many messages were accepted.
    #[arg(long, conflicts_with = "kills")]
    turns: Option<u64>,
    /// Break promises that have a switch and that such kills show broken, and expect the checks to notice.
    #[arg(long)]
    prove: bool,
    /// The same with this fault alone: `ledger_off`, `ack_early` or `outbox_early`, which wants a cluster.
    #[arg(long, value_parser = fault)]
    fault: Option<Fault>,
    /// Gateway, worker and a Temporal server instead of one process; the server is killed too.
    #[arg(long, conflicts_with_all = ["prove", "fault"])]
    temporal: bool,
    /// Two gateways and five workers on PostgreSQL, Redis, Kafka, Temporal, OPA and OpenBao.
    #[arg(long, conflicts_with = "temporal")]
    cluster: bool,
    /// Who is killed in a cluster.
    #[arg(long, requires = "cluster", default_value = "mixed")]
    scenario: Scenario,
    /// The program, built with `--features soma/faults`; the one beside this when absent.
    #[arg(long)]
    soma: Option<PathBuf>,
}

fn fault(name: &str) -> Result<Fault, String> {
    let known = || Fault::ALL.map(Fault::as_str).join(", ");
    Fault::ALL
        .into_iter()
        .find(|fault| fault.as_str() == name)
        .ok_or_else(|| format!("expected one of {}", known()))
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let soma = arguments.soma.clone().unwrap_or_else(|| {
        let own = std::env::current_exe().expect("this program knows where it is");
        own.with_file_name("soma")
    });
    if !soma.exists() {
        println!(
            "{} is not there: cargo build -p soma -p soma-testing --features soma/faults",
            soma.display()
        );
        return ExitCode::FAILURE;
    }
    let scenario = arguments.scenario;
    let faults = match arguments.fault {
        Some(fault) => vec![fault],
        None if arguments.prove && arguments.cluster => vec![scenario.fault()],
        None if arguments.prove => vec![Fault::LedgerOff, Fault::AckEarly],
        None => Vec::new(),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut options = Options::new(soma);
    options.seed = arguments.seed.unwrap_or(now.as_secs());
    options.topology = match arguments {
        Arguments { cluster: true, .. } => Kind::Cluster(scenario),
        Arguments { temporal: true, .. } => Kind::Temporal,
        _ => Kind::Standalone,
    };
    // A lost worker is noticed after seconds: more at once keeps it busy, fewer kills keep it short.
    let apart = options.topology != Kind::Standalone;
    let (kills, conversations, minutes) = if apart { (60, 8, 14) } else { (300, 5, 20) };
    options.conversations = arguments.conversations.unwrap_or(conversations);
    options.turns = arguments.turns;
    options.time_max = Duration::from_secs(arguments.minutes.unwrap_or(minutes).saturating_mul(60));
    options.progress = true;
    if faults.is_empty() {
        let kills = if arguments.turns.is_some() { KILLS_WITH_TURNS } else { kills };
        options.kills = arguments.kills.unwrap_or(kills);
        let run = run(&options);
        // Servers are stopped also when this is broken off.
        let report = tokio::select! {
            report = run => report,
            _ = tokio::signal::ctrl_c() => return ExitCode::FAILURE,
        };
        print(&report);
        return if report.kept() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let mut unnoticed = Vec::new();
    options.kills = arguments.kills.unwrap_or(kills).min(KILLS_TO_PROVE);
    for fault in faults {
        options.fault = Some(fault);
        let report = run(&options).await;
        print(&report);
        if !report.broke(fault.breaks(options.topology)) {
            unnoticed.push(fault.as_str());
        }
    }
    if unnoticed.is_empty() {
        println!("every promise that was broken on purpose was seen broken");
        return ExitCode::SUCCESS;
    }
    println!("not noticed: {}", unnoticed.join(", "));
    ExitCode::FAILURE
}

fn print(report: &Report) {
    println!("{report}");
    println!("{}", serde_json::to_string(report).expect("a report is JSON"));
}
