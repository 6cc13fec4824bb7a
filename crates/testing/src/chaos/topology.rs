//! What is killed: the processes of an installation, started on one database again and again.
//!
//! Only processes that a topology started itself are ever signalled.

use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
};

use super::{Fault, random::Random};

const START_MAX: Duration = Duration::from_secs(60);
/// Longer than the program's own bound for draining.
const STOP_MAX: Duration = Duration::from_secs(40);
const SIGKILL: i32 = 9;
const EMAIL: &str = "chaos@example.org";
const LISTENING: &str = "listening on ";

/// A failpoint for the next process: its name and the pass at which it kills.
pub(super) type Armed = (&'static str, u64);

/// An installation under test. The second one, gateway and workers on a Temporal server, is to come.
pub(super) trait Topology {
    /// Starts what isn't running, one process of it armed. Answers the gateway's base URL once it listens, or how
    /// the process ended before.
    async fn start(&mut self, armed: Option<Armed>) -> Result<String, ExitStatus>;

    /// Waits until a process ends by itself.
    async fn ended(&mut self) -> ExitStatus;

    /// Kills a process with SIGKILL, whichever the random choice falls on, and waits until it is gone.
    async fn kill(&mut self, random: &mut Random);

    /// Asks every process to stop, as an operator would.
    async fn stop(&mut self) -> ExitStatus;

    /// An API key of the default tenant's owner.
    fn api_key(&self) -> &str;

    fn database(&self) -> &Path;

    /// What the processes wrote to their logs, all of them.
    fn log(&self) -> &Path;
}

/// Whether a process was killed, by whomever.
pub(super) fn killed(status: ExitStatus) -> bool {
    status.signal() == Some(SIGKILL)
}

/// `soma serve` on embedded engines: one process, one SQLite file.
pub(super) struct Standalone {
    program: PathBuf,
    environment: Vec<(String, String)>,
    fault: Option<Fault>,
    folder: PathBuf,
    database: PathBuf,
    log: PathBuf,
    api_key: String,
    process: Option<Child>,
}

impl Standalone {
    /// Makes an installation in `folder`: a copy of the program (a build may replace the original meanwhile), keys,
    /// a database with an administrator.
    pub(super) async fn install(
        soma: &Path,
        folder: &Path,
        model_url: &str,
        effects_url: &str,
        fault: Option<Fault>,
    ) -> Self {
        let program = folder.join("soma");
        fs::copy(soma, &program).expect("the program can be copied");
        let database = folder.join("soma.db");
        let environment = [
            ("SA01_DB_DSN", format!("sqlite://{}", database.display())),
            ("SA01_DATA_DIR", folder.join("data").display().to_string()),
            ("SA01_REDIS_URL", "embedded:".into()),
            ("SA01_KAFKA_BOOTSTRAP_SERVERS", "embedded:".into()),
            ("SA01_TEMPORAL_HOST", "embedded:".into()),
            ("SA01_OPA_URL", "embedded:".into()),
            ("SA01_MODEL_URL", model_url.into()),
            ("SA01_MODEL_INPUT_PRICE", "2.5".into()),
            ("SA01_MODEL_OUTPUT_PRICE", "10".into()),
            ("SA01_LOG", "warn".into()),
            ("SOMA_EFFECTS_URL", effects_url.into()),
        ];
        let mut new = Self {
            program,
            environment: environment.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            fault,
            folder: folder.to_owned(),
            database,
            log: folder.join("serve.log"),
            api_key: String::new(),
            process: None,
        };
        let keys = new.done(&["keygen"]).await;
        new.environment.extend(
            keys.lines()
                .filter_map(|line| line.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        new.done(&["migrate"]).await;
        new.done(&["admin", "create", "--email", EMAIL]).await;
        new.api_key = new.done(&["apikey", "create", "--email", EMAIL]).await.trim().to_owned();
        new
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // The folder has no `.env`, and nothing of this process's settings reaches the child but where `kill` is.
        let inherited = std::env::vars_os().filter(|(name, _)| name == "PATH");
        command.env_clear().envs(inherited).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.folder).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a command to its good end and answers what it printed.
    async fn done(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } =
            self.command().args(arguments).output().await.expect("the program can be run");
        assert!(status.success(), "soma {arguments:?}: {status}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).expect("the program prints UTF-8")
    }

    async fn gone(&mut self) -> ExitStatus {
        let process = self.process.as_mut().expect("a process was started");
        let status = process.wait().await.expect("a child can be waited for");
        self.process = None;
        status
    }
}

impl Topology for Standalone {
    async fn start(&mut self, armed: Option<Armed>) -> Result<String, ExitStatus> {
        let log = File::options().create(true).append(true).open(&self.log).expect("the log can be written");
        let mut command = self.command();
        command.args(["serve", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).stderr(log);
        if let Some((name, pass)) = armed {
            command.env("SOMA_KILL_AT", format!("{name}:{pass}"));
        }
        if let Some(fault) = self.fault {
            command.env("SOMA_FAULT", fault.as_str());
        }
        let mut process = command.spawn().expect("the program can be run");
        let output = process.stdout.take().expect("its output is piped");
        self.process = Some(process);
        match tokio::time::timeout(START_MAX, address(output)).await {
            Ok(Some(url)) => Ok(url),
            Ok(None) => Err(self.gone().await),
            Err(_) => panic!("soma serve does not listen within {START_MAX:?}; see {}", self.log.display()),
        }
    }

    async fn ended(&mut self) -> ExitStatus {
        self.gone().await
    }

    async fn kill(&mut self, _random: &mut Random) {
        if let Some(process) = &mut self.process {
            process.kill().await.expect("a child can be killed");
            self.process = None;
        }
    }

    async fn stop(&mut self) -> ExitStatus {
        let process = self.process.as_ref().expect("a process was started");
        let pid = process.id().expect("it was not waited for").to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status().await;
        assert!(asked.expect("kill can be run").success(), "SIGTERM can be sent to a child");
        tokio::time::timeout(STOP_MAX, self.gone()).await.expect("soma serve stops when it is asked to")
    }

    fn api_key(&self) -> &str {
        &self.api_key
    }

    fn database(&self) -> &Path {
        &self.database
    }

    fn log(&self) -> &Path {
        &self.log
    }
}

/// The address from the program's output, or nothing when the output ends before.
async fn address(output: ChildStdout) -> Option<String> {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(url) = line.strip_prefix(LISTENING) {
            // Nothing more is printed there; a full pipe would stop the program all the same.
            let url = url.to_owned();
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Some(url);
        }
    }
    None
}
