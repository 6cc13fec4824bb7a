//! The demo's own install: a private folder, and this very executable as its child processes. All of it is gone when
//! the demo ends, however it ends.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    net::SocketAddr,
    os::unix::{
        fs::{OpenOptionsExt, PermissionsExt},
        process::ExitStatusExt,
    },
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use platform::config::SETTINGS;
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};
use url::Url;

use crate::commands::Failure;

const EMAIL: &str = "demo@example.com";
/// A command, or a server's start.
const START: Duration = Duration::from_secs(60);
/// For a process to be gone once it was killed.
const DEATH: Duration = Duration::from_secs(5);
/// Lines of a failed server's log that are shown.
const LOG_LINES: usize = 15;
const EXIT_CONFIGURATION: i32 = 78;

pub struct Stage {
    folder: TempDir,
    executable: PathBuf,
    settings: Vec<(&'static str, SecretString)>,
}

impl Stage {
    /// Makes the folder. `keys` are the secrets of the real configuration, by setting.
    pub fn new(keys: Vec<(&'static str, SecretString)>, model_url: &str) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new()
            .prefix("soma-demo-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .map_err(|error| Failure::Failed(format!("no temporary folder can be made: {error}")))?;
        let executable = std::env::current_exe().map_err(Failure::failed)?;
        let database = format!("sqlite://{}", folder.path().join("soma.db").display());
        let data = folder.path().join("data").display().to_string();
        let mut settings = keys;
        for (name, value) in [
            ("SA01_DB_DSN", database.as_str()),
            ("SA01_DATA_DIR", &data),
            ("SA01_MODEL_URL", model_url),
            ("SA01_REDIS_URL", "embedded:"),
            ("SA01_KAFKA_BOOTSTRAP_SERVERS", "embedded:"),
            ("SA01_TEMPORAL_HOST", "embedded:"),
            ("SA01_OPA_URL", "embedded:"),
            // A millionth of a dollar for a token in, two for one out: every sum is a whole number.
            ("SA01_MODEL_INPUT_PRICE", "1"),
            ("SA01_MODEL_OUTPUT_PRICE", "2"),
        ] {
            settings.push((name, SecretString::from(value)));
        }
        Ok(Self { folder, executable, settings })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// This executable with the demo's settings and none of the real ones.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.executable);
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null()).kill_on_drop(true);
        for setting in SETTINGS {
            command.env_remove(setting.name);
        }
        for (name, value) in &self.settings {
            command.env(name, value.expose_secret());
        }
        command
    }

    /// Runs one command to its end and answers what it printed.
    async fn finish(&self, arguments: &[&str]) -> Result<String, Failure> {
        let name = format!("soma {}", arguments.join(" "));
        let output = timeout(START, self.command(arguments).output())
            .await
            .map_err(|_| Failure::Failed(format!("`{name}` did not end")))?
            .map_err(|error| Failure::Failed(format!("`{name}`: {error}")))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let problem = format!("`{name}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        Err(match output.status.code() {
            Some(EXIT_CONFIGURATION) => Failure::Configuration(problem),
            _ => Failure::Failed(problem),
        })
    }

    /// Makes the database, an administrator and a key.
    pub async fn prepare(&self) -> Result<SecretString, Failure> {
        self.finish(&["migrate"]).await?;
        self.finish(&["admin", "create", "--email", EMAIL]).await?;
        self.finish(&["apikey", "create", "--email", EMAIL]).await.map(SecretString::from)
    }

    /// Starts a server and waits until it listens.
    pub async fn serve(&self) -> Result<Server, Failure> {
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0"]);
        let log = self.log().map_err(Failure::failed)?;
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().map_err(Failure::failed)?;
        let pid = child.id().unwrap_or_default();
        let stdout = child.stdout.take().ok_or_else(|| Failure::failed("the server has no output"))?;
        let mut server = Server { child, pid, output: BufReader::new(stdout).lines(), url: None };
        match timeout(START, server.listening()).await {
            Ok(Some(url)) => {
                server.url = Some(url);
                Ok(server)
            }
            _ => Err(Failure::Failed(format!("`soma serve` did not start:\n{}", self.log_tail()))),
        }
    }

    fn log(&self) -> io::Result<File> {
        let path = self.folder.path().join("server.log");
        OpenOptions::new().create(true).append(true).mode(0o600).open(path)
    }

    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

/// A `soma serve`. Killed when dropped.
pub struct Server {
    child: Child,
    pub pid: u32,
    /// Kept open: a server that finds its output closed would fail at its next line.
    output: Lines<BufReader<ChildStdout>>,
    url: Option<Url>,
}

impl Server {
    async fn listening(&mut self) -> Option<Url> {
        while let Ok(Some(line)) = self.output.next_line().await {
            if let Some(address) = line.strip_prefix("listening on ") {
                return address.trim().parse().ok();
            }
        }
        None
    }

    pub fn url(&self) -> Result<&Url, Failure> {
        self.url.as_ref().ok_or_else(|| Failure::failed("the server has no address"))
    }

    pub fn address(&self) -> Option<SocketAddr> {
        self.url.as_ref()?.socket_addrs(|| None).ok()?.into_iter().next()
    }

    /// SIGKILL. Answers how the process ended.
    pub async fn kill(&mut self) -> Result<ExitStatus, Failure> {
        self.child.start_kill().map_err(Failure::failed)?;
        let ended = timeout(DEATH, self.child.wait()).await;
        ended.map_err(|_| Failure::failed("the server survived SIGKILL"))?.map_err(Failure::failed)
    }
}

impl Drop for Server {
    /// Waits for the process to be gone, so that nothing is written any more when the folder is removed.
    fn drop(&mut self) {
        let deadline = Instant::now() + DEATH;
        drop(self.child.start_kill());
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The signal that ended a process.
pub fn signal_of(status: ExitStatus) -> Option<i32> {
    status.signal()
}

/// How many lines all files of this name below `folder` have together.
pub fn lines_of(folder: &Path, name: &str) -> io::Result<usize> {
    let mut lines = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            lines += lines_of(&entry.path(), name)?;
        } else if entry.file_name() == name {
            lines += fs::read_to_string(entry.path())?.lines().count();
        }
    }
    Ok(lines)
}
