//! A server of another program, by `scripts/engines`: of this process's own, and on the same ports with the same data
//! each time.

use std::{path::Path, time::Duration};

use super::topology::Engine;
use crate::engines::{Printed, engines, try_engines};

/// Longer than the script's own bounds.
const SCRIPT_MAX: Duration = Duration::from_secs(200);

pub(super) struct Server {
    pub engine: Engine,
    name: String,
    /// What it is started with.
    file: Option<String>,
    address: String,
    up: bool,
}

impl Server {
    /// `file` is where Temporal keeps what it knows, or the policy that OPA serves.
    pub(super) fn new(engine: Engine, file: Option<&Path>) -> Self {
        let name = format!("chaos-{}-{}", engine.name(), std::process::id());
        let file = file.map(|file| file.display().to_string());
        Self { engine, name, file, address: String::new(), up: false }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    /// Where it is.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    fn setting_name(&self) -> &'static str {
        match self.engine {
            Engine::Temporal => "SA01_TEMPORAL_HOST",
            Engine::Postgres => "SA01_DB_DSN",
            Engine::Redis => "SA01_REDIS_URL",
            Engine::Kafka => "SA01_KAFKA_BOOTSTRAP_SERVERS",
            Engine::Opa => "SA01_OPA_URL",
            Engine::Openbao => "VAULT_ADDR",
        }
    }

    /// What the program is told of it.
    pub(super) fn setting(&self) -> (String, String) {
        (self.setting_name().to_owned(), self.address.clone())
    }

    /// Its own client, with an operator's rights. Blocks.
    pub(super) fn client(&self, arguments: &[&str]) -> Printed {
        engines(&[&["client", self.engine.name(), "--name", &self.name, "--"], arguments].concat())
    }

    async fn engines(&self, action: &str, more: &[&str]) -> Result<Printed, String> {
        let arguments = [&[action, self.engine.name(), "--name", &self.name][..], more].concat();
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let script = tokio::task::spawn_blocking(move || {
            try_engines(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
        });
        let ran = tokio::time::timeout(SCRIPT_MAX, script).await.expect("scripts/engines ends");
        ran.expect("scripts/engines can be run")
    }

    /// # Panics
    /// When it does not start, or comes back elsewhere.
    pub(super) async fn start(&mut self) {
        let more: Vec<&str> = self.file.iter().flat_map(|file| ["--file", file]).collect();
        let printed = self.engines("up", &more).await.expect("the server starts");
        let address = printed.setting(self.setting_name());
        assert!(
            self.address.is_empty() || self.address == address,
            "{} came back at another address",
            self.engine
        );
        self.address = address.to_owned();
        self.up = true;
    }

    /// SIGKILL to all of it at once; its ports are free after it.
    pub(super) async fn kill(&mut self) -> Result<(), String> {
        if !self.up {
            return Ok(());
        }
        self.up = false;
        self.engines("kill", &[]).await.map(drop)
    }

    /// SIGSTOP to all of it, and after a while SIGCONT.
    pub(super) async fn pause(&mut self, time: Duration) -> Result<(), String> {
        self.engines("pause", &[]).await?;
        tokio::time::sleep(time).await;
        self.engines("continue", &[]).await.map(drop)
    }
}

/// Also when a check of chaos itself has failed: it is nobody's child.
impl Drop for Server {
    fn drop(&mut self) {
        drop(try_engines(&["down", self.engine.name(), "--name", &self.name, "--forget"]));
    }
}
