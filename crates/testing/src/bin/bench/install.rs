//! An install of its own for each measurement: settings, a server, and a client that fails loudly.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use super::round;

pub(super) struct Install {
    folder: PathBuf,
    soma: PathBuf,
    /// The model server's base URL.
    pub(super) model: String,
    settings: BTreeMap<String, String>,
}

pub(super) struct Server {
    child: Child,
    pub(super) url: String,
}

impl Server {
    /// Memory that the server's process holds.
    pub(super) fn resident_mb(&self) -> f64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the server runs");
        let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        let kilobytes: f64 = kilobytes.trim().trim_end_matches(" kB").parse().expect("a number");
        round(kilobytes / 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Install {
    pub(super) fn new(soma: &Path, folder: &Path, model: &str) -> Self {
        let keys = Command::new(soma).arg("keygen").output().expect("soma keygen runs");
        let keys = String::from_utf8(keys.stdout).expect("keys are text");
        let mut settings: BTreeMap<String, String> = keys
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let database = folder.join("soma.db");
        for (name, value) in [
            ("SA01_DB_DSN", format!("sqlite://{}", database.display())),
            ("SA01_DATA_DIR", folder.display().to_string()),
            ("SA01_MODEL_URL", model.to_owned()),
            ("SA01_MODEL_INPUT_PRICE", "0.15".to_owned()),
            ("SA01_MODEL_OUTPUT_PRICE", "0.6".to_owned()),
            ("SA01_LOG", "warn".to_owned()),
            // One client measures what many have together.
            ("SA01_RATE_LIMIT_KEY", "0".to_owned()),
            ("SA01_RATE_LIMIT_USER", "0".to_owned()),
            ("SA01_RATE_LIMIT_TENANT", "0".to_owned()),
            ("SA01_RATE_LIMIT_ADDRESS", "0".to_owned()),
        ] {
            settings.insert(name.to_owned(), value);
        }
        for name in ["SA01_REDIS_URL", "SA01_KAFKA_BOOTSTRAP_SERVERS", "SA01_TEMPORAL_HOST", "SA01_OPA_URL"] {
            settings.insert(name.to_owned(), "embedded:".to_owned());
        }
        Self { folder: folder.to_owned(), soma: soma.to_owned(), model: model.to_owned(), settings }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.soma);
        command.args(arguments).env_clear().envs(&self.settings).current_dir(&self.folder);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    pub(super) fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("soma runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// Schema, an administrator, and a key of theirs.
    pub(super) fn prepare(&self) -> String {
        self.run(&["migrate"]);
        self.run(&["admin", "create", "--email", "bench@example.org"]);
        self.run(&["apikey", "create", "--email", "bench@example.org"])
    }

    /// Takes over settings, a `NAME=value` a line.
    pub(super) fn take(&mut self, lines: &str) {
        let lines = lines.lines().filter_map(|line| line.split_once('='));
        self.settings.extend(lines.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    pub(super) fn serve(&self) -> Server {
        self.start(&["serve", "--listen", "127.0.0.1:0"])
    }

    /// Starts what goes on until it is stopped, and waits until it works.
    pub(super) fn start(&self, arguments: &[&str]) -> Server {
        let mut child = self.command(arguments).stdout(Stdio::piped()).spawn().expect("soma starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let line = line.trim();
        assert!(!line.is_empty(), "soma {arguments:?} does not work");
        // A worker has none.
        let url = line.strip_prefix("listening on ").unwrap_or_default().to_owned();
        Server { child, url }
    }
}

#[derive(Clone)]
pub(super) struct Api {
    pub(super) client: reqwest::Client,
    pub(super) url: String,
    pub(super) key: String,
}

impl Api {
    pub(super) fn new(server: &Server, key: &str) -> Self {
        Self { client: reqwest::Client::new(), url: server.url.clone(), key: key.to_owned() }
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        let request = self.client.get(format!("{}{path}", self.url)).bearer_auth(&self.key);
        let response = request.send().await.expect("the server answers");
        assert!(response.status().is_success(), "{path}: {}", response.status());
        response.json().await.expect("JSON")
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.client.post(format!("{}{path}", self.url)).bearer_auth(&self.key).json(body);
        let response = request.send().await.expect("the server answers");
        assert!(response.status().is_success(), "{path}: {}", response.status());
        response.json().await.expect("JSON")
    }

    pub(super) async fn conversation(&self) -> String {
        let made = self.post("/api/v2/conversations", &json!({ "agent": "default" })).await;
        made["id"].as_str().expect("an id").to_owned()
    }

    /// Sends a message and reads its events to the end; answers the text of the stream.
    pub(super) async fn turn(&self, conversation: &str, content: &str) -> String {
        let path = format!("/api/v2/conversations/{conversation}/messages");
        let accepted = self.post(&path, &json!({ "content": content })).await;
        let run = accepted["run_id"].as_str().expect("an id");
        let url = format!("{}/api/v2/runs/{run}/events", self.url);
        let response = self.client.get(url).bearer_auth(&self.key).send().await.expect("a stream");
        let text = response.text().await.expect("the stream ends");
        assert!(text.contains("\"status\":\"completed\""), "the turn did not complete: {text}");
        text
    }
}
