//! An installation of the program under test, and its processes. Only what was started here is ever signalled.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::PathBuf,
    process::{ExitStatus, Output, Stdio},
    sync::OnceLock,
    time::Duration,
};

use platform::database::Location;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
};

use super::{
    Fault,
    topology::{Ground, Role},
};

const START_MAX: Duration = Duration::from_secs(60);
/// Longer than the program's own bound for draining.
const STOP_MAX: Duration = Duration::from_secs(40);
const WORKING: &str = "working on ";
const EMAIL: &str = "chaos@example.org";

/// A failpoint for the next process: its name and the pass at which it kills.
pub(super) type Point = (&'static str, u64);

/// The servers around the program.
pub(super) struct Around<'a> {
    pub model_url: &'a str,
    pub effects_url: &'a str,
}

/// A copy of the program (a build may replace the original meanwhile), keys, a database with an administrator.
pub(super) struct Installation {
    program: PathBuf,
    environment: BTreeMap<String, String>,
    fault: OnceLock<Fault>,
    folder: PathBuf,
    pub database: Location,
    /// What all its processes write there.
    pub log: PathBuf,
    /// An API key of the default tenant's owner.
    pub api_key: String,
}

impl Installation {
    /// Makes one. `engines` are the settings that name what is not embedded, and who runs the turns. `keep_keys` is given
    /// the program's keys as lines, and answers the settings by which it finds them.
    pub(super) async fn make(
        ground: &Ground<'_>,
        engines: impl IntoIterator<Item = (String, String)>,
        keep_keys: impl FnOnce(&str) -> Vec<(String, String)>,
    ) -> Self {
        let Ground { soma, folder, around } = ground;
        let program = folder.join("soma");
        fs::copy(soma, &program).expect("the program can be copied");
        let environment = [
            ("SA01_DB_DSN", format!("sqlite://{}", folder.join("soma.db").display())),
            ("SA01_DATA_DIR", folder.join("data").display().to_string()),
            ("SA01_REDIS_URL", "embedded:".into()),
            ("SA01_KAFKA_BOOTSTRAP_SERVERS", "embedded:".into()),
            ("SA01_OPA_URL", "embedded:".into()),
            ("SA01_MODEL_URL", around.model_url.into()),
            ("SA01_MODEL_INPUT_PRICE", "2.5".into()),
            ("SA01_MODEL_OUTPUT_PRICE", "10".into()),
            ("SA01_LOG", "warn".into()),
            // One client asks for what many would.
            ("SA01_RATE_LIMIT_KEY", "0".into()),
            ("SA01_RATE_LIMIT_USER", "0".into()),
            ("SA01_RATE_LIMIT_TENANT", "0".into()),
            ("SOMA_EFFECTS_URL", around.effects_url.into()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value));
        let environment: BTreeMap<String, String> = environment.into_iter().chain(engines).collect();
        let database = environment["SA01_DB_DSN"].parse().expect("a database");
        let mut new = Self {
            program,
            environment,
            fault: OnceLock::new(),
            folder: folder.clone(),
            database,
            log: folder.join("serve.log"),
            api_key: String::new(),
        };
        let keys = new.done(&["keygen"]).await;
        new.environment.extend(keep_keys(&keys));
        new.done(&["migrate"]).await;
        new.done(&["admin", "create", "--email", EMAIL]).await;
        new.api_key = new.done(&["apikey", "create", "--email", EMAIL]).await.trim().to_owned();
        new
    }

    /// From its next start on, its processes break a promise.
    pub(super) fn break_from_now_on(&self, fault: Fault) {
        self.fault.get_or_init(|| fault);
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // The folder has no `.env`, and nothing of this process's settings reaches the child but where `kill` is.
        let inherited = std::env::vars_os().filter(|(name, _)| name == "PATH");
        command.env_clear().envs(inherited).envs(&self.environment);
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
}

/// Gives the program its keys as any other setting.
pub(super) fn in_the_environment(keys: &str) -> Vec<(String, String)> {
    let lines = keys.lines().filter_map(|line| line.split_once('='));
    lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A process of an installation that is started again and again.
pub(super) struct Process {
    arguments: &'static [&'static str],
    /// It is ready when it prints a line that begins so.
    ready: &'static str,
    child: Option<Child>,
    /// Of the one that runs, or of the last one that did.
    pid: Option<u32>,
}

impl Process {
    pub(super) fn new(role: Role) -> Self {
        let (arguments, ready): (&[&str], &str) = match role {
            Role::Gateway => (&["serve", "--listen", "127.0.0.1:0"], "listening on "),
            Role::Worker => (&["worker", "all"], WORKING),
            Role::Turns => (&["worker", "conversation"], WORKING),
            Role::Tools => (&["worker", "tools"], WORKING),
            Role::Events => (&["worker", "events"], WORKING),
        };
        Self { arguments, ready, child: None, pid: None }
    }

    pub(super) fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Starts it and answers the rest of its line, or how it ended before that.
    pub(super) async fn start(
        &mut self,
        installed: &Installation,
        armed: Option<Point>,
    ) -> Result<String, ExitStatus> {
        let log = File::options().create(true).append(true).open(&installed.log);
        let mut command = installed.command();
        command.args(self.arguments).stdout(Stdio::piped()).stderr(log.expect("the log can be written"));
        if let Some((name, pass)) = armed {
            command.env("SOMA_KILL_AT", format!("{name}:{pass}"));
        }
        if let Some(fault) = installed.fault.get() {
            command.env("SOMA_FAULT", fault.as_str());
        }
        let mut child = command.spawn().expect("the program can be run");
        let output = child.stdout.take().expect("its output is piped");
        self.pid = child.id();
        self.child = Some(child);
        match tokio::time::timeout(START_MAX, line(output, self.ready)).await {
            Ok(Some(rest)) => Ok(rest),
            Ok(None) => Err(self.ended().await),
            Err(_) => panic!(
                "soma {:?} is not ready within {START_MAX:?}; see {}",
                self.arguments,
                installed.log.display()
            ),
        }
    }

    /// Waits until it has ended by itself; for ever where it doesn't run.
    pub(super) async fn ended(&mut self) -> ExitStatus {
        let Some(child) = &mut self.child else { return std::future::pending().await };
        let status = child.wait().await.expect("a child can be waited for");
        self.child = None;
        status
    }

    /// SIGKILL, unless it has ended already. Answers its id, if it was ever started.
    pub(super) async fn kill(&mut self) -> Option<u32> {
        if let Some(child) = &mut self.child {
            child.kill().await.expect("a child can be killed");
            self.child = None;
        }
        self.pid
    }

    /// Asks it to stop and waits until it has.
    pub(super) async fn stop(&mut self) -> ExitStatus {
        let child = self.child.as_ref().expect("a process was started");
        let pid = child.id().expect("it was not waited for").to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status().await;
        assert!(asked.expect("kill can be run").success(), "SIGTERM can be sent to a child");
        tokio::time::timeout(STOP_MAX, self.ended()).await.expect("soma stops when it is asked to")
    }
}

/// The rest of the first line that begins so, or nothing when the output ends before.
async fn line(output: ChildStdout, beginning: &str) -> Option<String> {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(rest) = line.strip_prefix(beginning) {
            // Nothing more is printed there; a full pipe would stop the program all the same.
            let rest = rest.to_owned();
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Some(rest);
        }
    }
    None
}
