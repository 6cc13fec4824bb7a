//! `just bench`: how fast the program is, measured from outside on a real server, printed as JSON.
//!
//! Load, scripted model and server share the machine. Every figure is of this one run, so figures of two runs are
//! compared only side by side. `--lists` measures pages of lists and nothing else, `--slow-clients`
//! what clients that misbehave cost others.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a measuring program: its output is what it is for, and what goes wrong ends it"
)]

mod lists;
mod passthrough;
mod slow_clients;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testing::{Script, ScriptedModel};

/// Turns of one measurement, at least; and how long it goes on at most.
const TURNS_MIN: usize = 200;
const MEASURE: Duration = Duration::from_secs(6);
const STARTS: usize = 10;
const CODE_RUNS: usize = 30;
const LATENCY_TURNS: usize = 200;

struct Install {
    folder: PathBuf,
    soma: PathBuf,
    settings: BTreeMap<String, String>,
}

struct Server {
    child: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Install {
    fn new(soma: &Path, folder: &Path, model: &str) -> Self {
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
        Self { folder: folder.to_owned(), soma: soma.to_owned(), settings }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.soma);
        command.args(arguments).env_clear().envs(&self.settings).current_dir(&self.folder);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("soma runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// Schema, an administrator, and a key of theirs.
    fn prepare(&self) -> String {
        self.run(&["migrate"]);
        self.run(&["admin", "create", "--email", "bench@example.org"]);
        self.run(&["apikey", "create", "--email", "bench@example.org"])
    }

    fn serve(&self) -> Server {
        let mut child = self
            .command(&["serve", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("soma serve starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let url = line.trim().strip_prefix("listening on ").expect("the server listens").to_owned();
        Server { child, url }
    }
}

#[derive(Clone)]
struct Api {
    client: reqwest::Client,
    url: String,
    key: String,
}

impl Api {
    async fn get(&self, path: &str) -> Value {
        let request = self.client.get(format!("{}{path}", self.url)).bearer_auth(&self.key);
        let response = request.send().await.expect("the server answers");
        assert!(response.status().is_success(), "{path}: {}", response.status());
        response.json().await.expect("JSON")
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.client.post(format!("{}{path}", self.url)).bearer_auth(&self.key).json(body);
        let response = request.send().await.expect("the server answers");
        assert!(response.status().is_success(), "{path}: {}", response.status());
        response.json().await.expect("JSON")
    }

    async fn conversation(&self) -> String {
        let made = self.post("/api/v2/conversations", &json!({ "agent": "default" })).await;
        made["id"].as_str().expect("an id").to_owned()
    }

    /// Sends a message and reads its events to the end; answers the text of the stream.
    async fn turn(&self, conversation: &str, content: &str) -> String {
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

/// Turns in a second with `at_once` clients, each in conversations of its own.
async fn throughput(api: &Api, content: &'static str, at_once: usize) -> Value {
    let started = Instant::now();
    let clients = (0..at_once).map(|_| {
        let api = api.clone();
        tokio::spawn(async move {
            let mut times = Vec::new();
            let mut conversation = api.conversation().await;
            let least = TURNS_MIN / at_once + 1;
            while started.elapsed() < MEASURE || times.len() < least {
                // A chat does not grow for ever: histories of up to ten turns.
                if times.len() % 10 == 9 {
                    conversation = api.conversation().await;
                }
                let turn = Instant::now();
                api.turn(&conversation, content).await;
                times.push(turn.elapsed());
            }
            times
        })
    });
    let mut times = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        times.extend(client.await.expect("the client ends"));
    }
    let seconds = started.elapsed().as_secs_f64();
    let per_second = times.len() as f64 / seconds;
    json!({ "turns_per_s": round(per_second), "turns": times.len(), "median_ms": median_ms(&mut times) })
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn median_ms(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |time| round(time.as_secs_f64() * 1000.0))
}

/// The model alone, then a turn around it, one after the other.
async fn added(api: &Api, model: &ScriptedModel) -> Value {
    let body = json!({
        "model": "default", "stream": true, "stream_options": { "include_usage": true },
        "messages": [{ "role": "user", "content": "hello" }],
    });
    let (mut alone, mut turns) = (Vec::new(), Vec::new());
    for _ in 0..LATENCY_TURNS {
        let conversation = api.conversation().await;
        let start = Instant::now();
        let request = api.client.post(format!("{}/chat/completions", model.base_url())).json(&body);
        request.send().await.expect("the model answers").text().await.expect("its stream ends");
        alone.push(start.elapsed());
        let start = Instant::now();
        api.turn(&conversation, "hello").await;
        turns.push(start.elapsed());
    }
    let (alone, turn) = (median_ms(&mut alone), median_ms(&mut turns));
    json!({ "model_alone_ms": alone, "turn_ms": turn, "added_ms": round(turn - alone) })
}

fn start_times(install: &Install) -> Value {
    let mut times: Vec<Duration> = (0..STARTS)
        .map(|_| {
            let start = Instant::now();
            let server = install.serve();
            let time = start.elapsed();
            drop(server);
            time
        })
        .collect();
    json!({ "median_ms": median_ms(&mut times), "starts": STARTS })
}

fn resident_mb(server: &Server) -> f64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).expect("the server runs");
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    let kilobytes: f64 = kilobytes.trim().trim_end_matches(" kB").parse().expect("a number");
    round(kilobytes / 1024.0)
}

async fn code_execute(api: &Api) -> Value {
    let content = r#"[[tool code_execute {"language":"python","code":"print(1)"}]] [[say {result}]]"#;
    let conversation = api.conversation().await;
    let (mut inside, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..CODE_RUNS {
        let start = Instant::now();
        let done = Command::new("/usr/bin/python3").args(["-c", "print(1)"]).output().expect("python3 runs");
        assert!(done.status.success());
        bare.push(start.elapsed());
        let events = api.turn(&conversation, content).await;
        let took = events.split("\"duration_ms\":").nth(1).and_then(|rest| rest.split([',', '}']).next());
        let took = took.and_then(|text| text.parse().ok()).expect("a duration");
        inside.push(Duration::from_millis(took));
    }
    let (inside, bare) = (median_ms(&mut inside), median_ms(&mut bare));
    json!({ "tool_call_ms": inside, "bare_python3_ms": bare, "added_ms": round(inside - bare) })
}

/// Lists on an install of their own, which is filled first.
async fn lists(soma: &Path, folder: &Path, model: &ScriptedModel) -> Value {
    let folder = folder.join("lists");
    std::fs::create_dir_all(&folder).expect("a folder");
    let install = Install::new(soma, &folder, &model.base_url());
    let key = install.prepare();
    eprintln!("filling an install …");
    let seconds = lists::seed(&install);
    let size = std::fs::metadata(folder.join("soma.db")).expect("a database").len() / (1024 * 1024);
    let server = install.serve();
    let api = Api { client: reqwest::Client::new(), url: server.url.clone(), key };
    eprintln!("pages of lists …");
    let mut figures = lists::pages(&api).await;
    figures["filled_in_s"] = round(seconds).into();
    figures["database_mb"] = size.into();
    figures["resident_mb"] = resident_mb(&server).into();
    figures
}

#[tokio::main]
async fn main() {
    let beside = std::env::current_exe().expect("a path").with_file_name("soma");
    let mut arguments = std::env::args().skip(1).peekable();
    let only_lists = arguments.next_if(|argument| argument == "--lists").is_some();
    let only_slow_clients = arguments.next_if(|argument| argument == "--slow-clients").is_some();
    let soma = arguments.next().map_or(beside, PathBuf::from);
    let folder = std::env::temp_dir().join(format!("soma-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let model = ScriptedModel::with_script(Script::by_directive());
    let install = Install::new(&soma, &folder, &model.base_url());
    if only_lists {
        println!("{}", serde_json::to_string_pretty(&lists(&soma, &folder, &model).await).expect("JSON"));
        std::fs::remove_dir_all(&folder).expect("the folder goes");
        return;
    }
    let key = install.prepare();

    eprintln!("start to ready …");
    let start = start_times(&install);
    let server = install.serve();
    let api = Api { client: reqwest::Client::new(), url: server.url.clone(), key };
    if only_slow_clients {
        let figures = slow_clients::measure(&api).await;
        println!("{}", serde_json::to_string_pretty(&figures).expect("JSON"));
        drop(server);
        std::fs::remove_dir_all(&folder).expect("the folder goes");
        return;
    }
    let idle = resident_mb(&server);
    eprintln!("time added …");
    let added = added(&api, &model).await;
    let mut plain = BTreeMap::new();
    let mut tool = BTreeMap::new();
    for at_once in [1, 8, 32] {
        eprintln!("turns at {at_once} at once …");
        plain.insert(at_once, throughput(&api, "hello", at_once).await);
        tool.insert(at_once, throughput(&api, "[[tool timestamp {}]] [[say {result}]]", at_once).await);
    }
    eprintln!("code_execute …");
    let code = code_execute(&api).await;
    eprintln!("openai pass-through …");
    let passthrough = passthrough::measure(&server.url, &api.key, &model.base_url()).await;
    let after = resident_mb(&server);
    eprintln!("slow clients …");
    let slow_clients = slow_clients::measure(&api).await;
    drop(server);
    let lists = lists(&soma, &folder, &model).await;
    let figures = json!({
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "start_to_ready": start,
        "resident_idle_mb": idle,
        "resident_after_mb": after,
        "turn": added,
        "turns_without_tool": plain,
        "turns_with_one_tool": tool,
        "code_execute": code,
        "slow_clients": slow_clients,
        "list_pages": lists,
        "policy_decision_us": testing::policy_timing::policy_decision_us().expect("the policy loads"),
        "openai_passthrough": passthrough,
    });
    std::fs::remove_dir_all(&install.folder).expect("the folder goes");
    println!("{}", serde_json::to_string_pretty(&figures).expect("JSON"));
}
