//! `soma` as a process: an install of its own for every test, made once and copied.

mod api;
mod browser;
mod people;
mod processes;

pub use api::{Api, Reply, Stream, Turn};
pub use browser::{Browser, Page, parameter};
pub use people::PASSWORD;

use std::{
    collections::BTreeMap,
    future::Future,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

use platform::config::{Config, Fixed, SETTINGS};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use testing::{ScriptedModel, TestDatabase, engines::policy_setting};

use processes::Processes;

/// Longest wait for anything. A test that waits this long fails.
pub const PATIENCE: Duration = Duration::from_secs(30);
const KNOWN_WITHIN: Duration = Duration::from_millis(600);
/// How often a condition without an event of its own is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
pub const ADMIN: &str = "ada@example.org";

pub type Settings = BTreeMap<String, String>;

/// What an operator makes once: keys, a migrated database, an administrator and the administrator's key.
#[derive(Serialize, Deserialize)]
struct Install {
    secret_key: String,
    fernet: String,
    api_key: String,
    /// The data folder's files, of which one is the database, if it is not on a server.
    #[serde(skip)]
    files: Vec<(String, Vec<u8>)>,
    #[serde(skip)]
    database: Option<TestDatabase>,
}

/// On a server all processes of a build share one: there the migrations take seconds.
static INSTALL: LazyLock<Install> = LazyLock::new(|| {
    let program = std::fs::metadata(env!("CARGO_BIN_EXE_soma")).and_then(|file| file.modified());
    let key = (program.expect("the program is there"), processes::cluster());
    let make = |dsn: &str| serde_json::to_string(&an_install(Some(dsn))).expect("JSON");
    let Some((database, made)) = TestDatabase::shared_on_server(&key, make) else { return an_install(None) };
    Install { database: Some(database), ..serde_json::from_str(&made).expect("an install") }
});

fn an_install(dsn: Option<&str>) -> Install {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = text(&run_in(folder.path(), &Settings::new(), &["keygen"]).stdout);
    let cluster = processes::cluster();
    let key = |name: &str| {
        let line = keys.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let shared = cluster.as_ref().and_then(|cluster| cluster.get(name).cloned());
        shared.unwrap_or_else(|| line.expect("keygen prints this key").to_owned())
    };
    let (secret_key, fernet) = (key("SECRET_KEY"), key("SA01_CRYPTO_FERNET_KEY"));
    let mut settings = settings_in(folder.path(), "http://127.0.0.1:9/v1", &secret_key, &fernet);
    on_server(&mut settings, dsn);
    std::fs::create_dir_all(folder.path().join("data")).expect("a data folder");
    let run = |arguments: &[&str]| {
        let output = run_in(folder.path(), &settings, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    };
    run(&["migrate"]);
    run(&["admin", "create", "--email", ADMIN]);
    let api_key = run(&["apikey", "create", "--email", ADMIN]);
    let entries = std::fs::read_dir(folder.path().join("data")).expect("the data folder");
    let files = entries
        .map(|entry| {
            let entry = entry.expect("a file of the data folder");
            let name = entry.file_name().into_string().expect("a plain name");
            (name, std::fs::read(entry.path()).expect("a readable file"))
        })
        .collect();
    Install { secret_key, fernet, api_key, files, database: None }
}

fn on_server(settings: &mut Settings, dsn: Option<&str>) {
    if let Some(dsn) = dsn {
        settings.insert("SA01_DB_DSN".to_owned(), dsn.to_owned());
    }
}

fn settings_in(folder: &Path, model: &str, secret_key: &str, fernet: &str) -> Settings {
    let data = folder.join("data");
    [
        ("SECRET_KEY", secret_key.to_owned()),
        ("SA01_CRYPTO_FERNET_KEY", fernet.to_owned()),
        ("SA01_DB_DSN", format!("sqlite://{}", data.join("soma.db").display())),
        ("SA01_DATA_DIR", data.display().to_string()),
        ("SA01_REDIS_URL", "embedded:".to_owned()),
        ("SA01_KAFKA_BOOTSTRAP_SERVERS", "embedded:".to_owned()),
        ("SA01_TEMPORAL_HOST", "embedded:".to_owned()),
        ("SA01_OPA_URL", policy_setting()),
        ("SA01_MODEL_URL", model.to_owned()),
        ("SA01_MODEL_NAME", "scripted".to_owned()),
        ("SA01_MODEL_INPUT_PRICE", "1".to_owned()),
        ("SA01_MODEL_OUTPUT_PRICE", "2".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The program with these settings and no others, in this folder.
pub fn command(folder: &Path, settings: &Settings, arguments: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_soma"));
    for setting in SETTINGS {
        command.env_remove(setting.name);
    }
    command.envs(settings).args(arguments).current_dir(folder).stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub fn run_in(folder: &Path, settings: &Settings, arguments: &[&str]) -> Output {
    let settings = processes::without_vault(settings);
    command(folder, &settings, arguments).output().expect("the program starts")
}

/// Settings that `soma serve` takes, for a folder in which nothing is yet.
pub fn good_settings(folder: &Path) -> Settings {
    settings_in(folder, "http://127.0.0.1:9/v1", &INSTALL.secret_key, &INSTALL.fernet)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A server of this test's own: its process ends with it.
pub struct Server {
    folder: TempDir,
    pub settings: Settings,
    pub model: ScriptedModel,
    processes: Option<Processes>,
    /// Gone with it.
    _database: Option<TestDatabase>,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With further settings.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        let mut server = Self::installed(settings);
        server.restart().await;
        server
    }

    /// Ready to start, not started.
    pub fn installed(settings: &[(&str, &str)]) -> Self {
        Self::installed_in(tempfile::tempdir().expect("a folder"), settings)
    }

    fn installed_in(folder: TempDir, settings: &[(&str, &str)]) -> Self {
        let data = folder.path().join("data");
        std::fs::create_dir_all(&data).expect("a data folder");
        for (name, bytes) in &INSTALL.files {
            std::fs::write(data.join(name), bytes).expect("the data folder takes files");
        }
        let model = ScriptedModel::start();
        let database = INSTALL.database.as_ref().map(|made| made.copied_to(&data.join("soma.db")));
        let mut all = settings_in(folder.path(), &model.base_url(), &INSTALL.secret_key, &INSTALL.fernet);
        on_server(&mut all, database.as_ref().map(TestDatabase::dsn));
        if let Some(cluster) = processes::cluster() {
            processes::on_cluster(&mut all, &cluster);
        }
        all.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Self { folder, settings: all, model, processes: None, _database: database }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// Starts its processes, in place of those that were.
    pub async fn restart(&mut self) {
        let serve = Processes::first_command(self.folder(), &self.settings);
        self.restart_as(serve).await;
    }

    /// The same, by a command that ends in `soma serve`.
    pub async fn restart_as(&mut self, serve: std::process::Command) {
        self.kill().await;
        let started = Processes::start(serve, self.folder(), &self.settings, &self.log_path()).await;
        self.processes = Some(started);
    }

    /// SIGKILL, and the end of it.
    pub async fn kill(&mut self) {
        if let Some(mut processes) = self.processes.take() {
            processes.kill().await;
        }
    }

    /// SIGTERM to this server's process, and no waiting.
    pub fn ask_to_stop(&self) {
        let pid = self.pid().to_string();
        let sent = std::process::Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for the process to end by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut processes = self.processes.take().expect("a process");
        let ended = tokio::time::timeout(PATIENCE, processes.first().wait()).await;
        ended.expect("it ends in time").expect("a status")
    }

    pub fn pid(&self) -> u32 {
        self.processes.as_ref().and_then(Processes::pid).expect("a process")
    }

    /// `http://127.0.0.1:PORT`.
    pub fn base(&self) -> &str {
        &self.bases()[0]
    }

    /// Of each gateway.
    fn bases(&self) -> &[String] {
        &self.processes.as_ref().expect("a process").bases
    }

    /// The administrator's client.
    pub fn api(&self) -> Api {
        Api::of(self.bases(), Some(&INSTALL.api_key))
    }

    /// The administrator's key.
    pub fn api_key(&self) -> &'static str {
        &INSTALL.api_key
    }

    /// The program's other commands, on this install.
    pub fn run(&self, arguments: &[&str]) -> Output {
        run_in(self.folder(), &self.settings, arguments)
    }

    /// The configuration as the process has it, to work on the same database through the library.
    pub fn config(&self) -> Config {
        Config::load(&Fixed(processes::without_vault(&self.settings).into_iter().collect()))
            .expect("a good configuration")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder().join("log")
    }
}

/// Shows each file below a folder.
pub fn every_file(folder: &Path, look: &mut impl FnMut(&Path, &[u8])) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("what is in the folder").path();
        if path.is_dir() {
            every_file(&path, look);
        } else {
            look(&path, &std::fs::read(&path).expect("a readable file"));
        }
    }
}

/// Waits until what one gateway was told counts at the others, too, which remember for half a second what they looked up.
pub async fn known_everywhere() {
    if processes::cluster().is_some() {
        tokio::time::sleep(KNOWN_WITHIN).await;
    }
}

/// Waits until `look` finds something.
///
/// # Panics
/// When it does not within [`PATIENCE`]; `what` says what was waited for.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
