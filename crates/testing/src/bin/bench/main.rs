//! `just bench`: how fast the program is, measured from outside on a real server, printed as JSON.
//!
//! Load, scripted model and server share the machine. Every figure is of this one run, so figures of two runs are
//! compared only side by side.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a measuring program: its output is what it is for, and what goes wrong ends it"
)]

mod cluster;
mod install;
mod lists;
mod passthrough;
mod policy;
mod slow_clients;
mod turns;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Parser, ValueEnum};
use serde_json::{Map, Value, json};
use testing::{Script, ScriptedModel};

use install::{Api, Install};

/// Measures a release build.
#[derive(Parser)]
struct Options {
    /// Measures this alone, and nothing else. May be given several times.
    #[arg(long)]
    only: Vec<Part>,
    /// The program; it lies beside this one otherwise.
    soma: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Start,
    Turns,
    Code,
    Openai,
    SlowClients,
    Lists,
    Policy,
    Cluster,
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn median_ms(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |time| round(time.as_secs_f64() * 1000.0))
}

/// What is measured on one server with little in it.
async fn served(figures: &mut Map<String, Value>, install: &Install, wanted: impl Fn(Part) -> bool) {
    let key = install.prepare();
    if wanted(Part::Start) {
        eprintln!("start to ready …");
        figures.insert("start_to_ready".into(), turns::start_times(install));
    }
    let server = install.serve();
    let api = Api::new(&server, &key);
    figures.insert("resident_idle_mb".into(), server.resident_mb().into());
    if wanted(Part::Turns) {
        eprintln!("time added …");
        figures.insert("turn".into(), turns::added(&api, &install.model).await);
        let (mut plain, mut tool) = (BTreeMap::new(), BTreeMap::new());
        for at_once in [1, 8, 32] {
            eprintln!("turns at {at_once} at once …");
            plain.insert(at_once, turns::throughput(&api, "hello", at_once).await);
            let content = "[[tool timestamp {}]] [[say {result}]]";
            tool.insert(at_once, turns::throughput(&api, content, at_once).await);
        }
        figures.insert("turns_without_tool".into(), json!(plain));
        figures.insert("turns_with_one_tool".into(), json!(tool));
    }
    if wanted(Part::Code) {
        eprintln!("code_execute …");
        figures.insert("code_execute".into(), turns::code_execute(&api).await);
    }
    if wanted(Part::Openai) {
        eprintln!("openai pass-through …");
        let measured = passthrough::measure(&server.url, &key, &install.model).await;
        figures.insert("openai_passthrough".into(), measured);
    }
    figures.insert("resident_after_mb".into(), server.resident_mb().into());
    if wanted(Part::SlowClients) {
        eprintln!("slow clients …");
        figures.insert("slow_clients".into(), slow_clients::measure(&api).await);
    }
}

/// Lists on an install of their own, which is filled first.
async fn lists(soma: &Path, folder: &Path, model: &str) -> Value {
    let folder = folder.join("lists");
    std::fs::create_dir_all(&folder).expect("a folder");
    let install = Install::new(soma, &folder, model);
    let key = install.prepare();
    eprintln!("filling an install …");
    let seconds = lists::seed(&install);
    let size = std::fs::metadata(folder.join("soma.db")).expect("a database").len() / (1024 * 1024);
    let server = install.serve();
    eprintln!("pages of lists …");
    let mut figures = lists::pages(&Api::new(&server, &key)).await;
    figures["filled_in_s"] = round(seconds).into();
    figures["database_mb"] = size.into();
    figures["resident_mb"] = server.resident_mb().into();
    figures
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let wanted = |part| options.only.is_empty() || options.only.contains(&part);
    let beside = std::env::current_exe().expect("a path").with_file_name("soma");
    let soma = options.soma.clone().unwrap_or(beside);
    let folder = std::env::temp_dir().join(format!("soma-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let model = ScriptedModel::with_script(Script::by_directive());

    let mut figures = Map::new();
    figures.insert("build".into(), if cfg!(debug_assertions) { "debug" } else { "release" }.into());
    figures.insert("cores".into(), std::thread::available_parallelism().map_or(0, usize::from).into());
    if [Part::Start, Part::Turns, Part::Code, Part::Openai, Part::SlowClients].into_iter().any(wanted) {
        let install = Install::new(&soma, &folder, &model.base_url());
        served(&mut figures, &install, wanted).await;
    }
    if wanted(Part::Lists) {
        figures.insert("list_pages".into(), lists(&soma, &folder, &model.base_url()).await);
    }
    if wanted(Part::Policy) {
        eprintln!("policy …");
        figures.insert("policy_decision_us".into(), policy::decisions().expect("the policy loads"));
    }
    if wanted(Part::Cluster) {
        eprintln!("a cluster …");
        figures.insert("cluster".into(), cluster::measure(&soma, &folder, &model.base_url()).await);
    }
    std::fs::remove_dir_all(&folder).expect("the folder goes");
    println!("{}", serde_json::to_string_pretty(&figures).expect("JSON"));
}
