//! The processes of an install under test: one that does everything, or, where tests have a cluster's engines, two
//! gateways, two workers for turns, two for tools and one for events.

use std::{fs::File, path::Path, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
};

use super::{PATIENCE, Settings};

/// Names a file of settings, a `NAME=value` each: a cluster's engines, who it is at Vault, and the keys that Vault has.
const CLUSTER: &str = "SOMA_TEST_CLUSTER";
pub(super) const SERVE: &[&str] = &["serve", "--listen", "127.0.0.1:0"];
/// Beside the first gateway.
const OTHERS: [&[&str]; 6] = [
    SERVE,
    &["worker", "conversation"],
    &["worker", "conversation"],
    &["worker", "tools"],
    &["worker", "tools"],
    &["worker", "events"],
];
/// What Vault has in a cluster, and the environment then must not.
const KEYS: [&str; 2] = ["SECRET_KEY", "SA01_CRYPTO_FERNET_KEY"];
const VAULT: [&str; 2] = ["VAULT_ADDR", "VAULT_TOKEN_FILE"];

/// The settings of the cluster that tests have, if they have one.
#[expect(clippy::disallowed_methods, reason = "which engines tests run on is no setting of the program")]
pub(super) fn cluster() -> Option<Settings> {
    let file = std::env::var_os(CLUSTER)?;
    let text = std::fs::read_to_string(file).expect("the cluster's settings");
    let lines = text.lines().map(|line| line.split_once('=').expect("NAME=value"));
    Some(lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// The cluster's engines for one install, with queues that nobody else has.
pub(super) fn on_cluster(settings: &mut Settings, cluster: &Settings) {
    let id = contracts::RunId::new().to_string();
    let id = &id[id.len() - 8..];
    settings.extend(cluster.clone());
    settings.insert("SA01_TEMPORAL_CONVERSATION_QUEUE".into(), format!("turns-{id}"));
    settings.insert("SA01_TEMPORAL_TOOLS_QUEUE".into(), format!("tools-{id}"));
}

/// What a command that works beside the processes is given: the keys themselves.
pub(super) fn without_vault(settings: &Settings) -> Settings {
    less(settings, &VAULT)
}

/// What the processes are given: who they are at Vault.
fn without_keys(settings: &Settings) -> Settings {
    less(settings, &KEYS)
}

fn less(settings: &Settings, names: &[&str]) -> Settings {
    let mut settings = settings.clone();
    if cluster().is_some() {
        settings.retain(|name, _| !names.contains(&name.as_str()));
    }
    settings
}

pub(super) struct Processes {
    /// The first is the gateway that tests signal and wait for.
    all: Vec<Process>,
    /// `http://127.0.0.1:PORT` of each gateway.
    pub bases: Vec<String>,
}

struct Process {
    child: Child,
    /// Kept, so that a line printed later finds a reader.
    _output: Lines<BufReader<ChildStdout>>,
}

impl Processes {
    /// Starts `first`, and what else there is to an install, and waits until all work.
    pub async fn start(first: std::process::Command, folder: &Path, settings: &Settings, log: &Path) -> Self {
        let mut commands = vec![first];
        if cluster().is_some() {
            let settings = without_keys(settings);
            commands.extend(OTHERS.map(|arguments| super::command(folder, &settings, arguments)));
        }
        let started: Vec<_> = commands.into_iter().map(|command| Starting::start(command, log)).collect();
        let mut processes = Self { all: Vec::new(), bases: Vec::new() };
        for starting in started {
            let (process, line) = starting.works(log).await;
            processes.all.push(process);
            processes.bases.extend(line.strip_prefix("listening on ").map(str::to_owned));
        }
        assert!(!processes.bases.is_empty(), "a gateway listens");
        processes
    }

    /// The gateway that is started first.
    pub fn first_command(folder: &Path, settings: &Settings) -> std::process::Command {
        super::command(folder, &without_keys(settings), SERVE)
    }

    pub fn first(&mut self) -> &mut Child {
        &mut self.all[0].child
    }

    pub fn pid(&self) -> Option<u32> {
        self.all[0].child.id()
    }

    /// SIGKILL to each, and the end of each.
    pub async fn kill(&mut self) {
        for process in &mut self.all {
            process.child.kill().await.expect("a process can be killed");
        }
    }
}

struct Starting(Child);

impl Starting {
    fn start(mut command: std::process::Command, log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).expect("a log");
        command.stdout(Stdio::piped()).stderr(log);
        let spawned = tokio::process::Command::from(command).kill_on_drop(true).spawn();
        Self(spawned.expect("the program starts"))
    }

    /// Its first line says that it works.
    async fn works(self, log: &Path) -> (Process, String) {
        let Self(mut child) = self;
        let output = child.stdout.take().expect("a piped output");
        let mut output = BufReader::new(output).lines();
        let line = tokio::time::timeout(PATIENCE, output.next_line()).await;
        let line = line.expect("it works in time").expect("readable output");
        let log = || std::fs::read_to_string(log).unwrap_or_default();
        let line = line.unwrap_or_else(|| panic!("it does not work:\n{}", log()));
        (Process { child, _output: output }, line)
    }
}
