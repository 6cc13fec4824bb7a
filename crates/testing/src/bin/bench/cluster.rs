//! Turns through a whole cluster, with real engines on disk: beside a bare workflow on the same Temporal server, one
//! after the other in turn, and how many in a second.
//!
//! Vault is left out: it is asked at the start and beside turns, not by them.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testing::engines::OwnEngine;

use super::{
    install::{Api, Install},
    median_ms, round, turns,
};

const TURNS: usize = 200;
/// Not counted: connections are made, and the servers warm up.
const WARM: usize = 20;
/// Beside the first gateway.
const OTHERS: [&[&str]; 6] = [
    &["serve", "--listen", "127.0.0.1:0"],
    &["worker", "conversation"],
    &["worker", "conversation"],
    &["worker", "tools"],
    &["worker", "tools"],
    &["worker", "events"],
];

/// A workflow of three activities that do nothing (`crates/temporal/examples/bare.rs`).
struct Bare {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Bare {
    fn start(program: &Path, address: &str) -> Self {
        let mut child = Command::new(program)
            .arg(address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the bare workflow's program, which bench/run builds");
        let ask = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, ask, answers }
    }

    fn once(&mut self) -> Duration {
        self.ask.write_all(b"\n").expect("it reads");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        Duration::from_micros(line.trim().parse().expect("microseconds"))
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) async fn measure(soma: &Path, folder: &Path, model: &str) -> Value {
    let folder = folder.join("cluster");
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut install = Install::new(soma, &folder, model);
    let own: Vec<OwnEngine> =
        ["postgres", "redis", "kafka"].into_iter().map(|engine| OwnEngine::new(engine, "bench")).collect();
    for engine in &own {
        install.take(engine.up().text());
    }
    let temporal = OwnEngine::new("temporal", "bench");
    let file = folder.join("temporal.db");
    let printed = temporal.up_with(&["--file", file.to_str().expect("text")]);
    install.take(printed.text());
    let address = printed.setting("SA01_TEMPORAL_HOST");
    install.run(&["policy", "bundle", "bundle"]);
    let bundle = folder.join("bundle");
    let opa = OwnEngine::new("opa", "bench");
    install.take(opa.up_with(&["--file", bundle.to_str().expect("text")]).text());

    let key = install.prepare();
    let server = install.serve();
    let _others: Vec<_> = OTHERS.iter().map(|arguments| install.start(arguments)).collect();
    let program = std::env::current_exe().expect("a path").with_file_name("examples").join("bare");
    let mut bare = Bare::start(&program, address);
    let api = Api::new(&server, &key);
    let (mut bares, mut turns) = (Vec::new(), Vec::new());
    for number in 0..WARM + TURNS {
        let conversation = api.conversation().await;
        let alone = bare.once();
        let began = Instant::now();
        api.turn(&conversation, "hello").await;
        let turn = began.elapsed();
        if number >= WARM {
            bares.push(alone);
            turns.push(turn);
        }
    }
    drop(bare);
    let (bare, turn) = (median_ms(&mut bares), median_ms(&mut turns));
    let (mut plain, mut tool) = (BTreeMap::new(), BTreeMap::new());
    for at_once in [1, 8, 32] {
        eprintln!("turns through the cluster at {at_once} at once …");
        plain.insert(at_once, turns::throughput(&api, "hello", at_once).await);
        let content = "[[tool timestamp {}]] [[say {result}]]";
        tool.insert(at_once, turns::throughput(&api, content, at_once).await);
    }
    json!({
        "bare_workflow_ms": bare, "turn_ms": turn, "added_ms": round(turn - bare),
        "turns_without_tool": plain, "turns_with_one_tool": tool,
    })
}
