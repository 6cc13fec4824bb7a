//! The gateway and the worker as processes of their own, behind a real Temporal server, on one SQLite file. The
//! server's own database is a file too: it survives that the server is killed.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    install::{Installation, Point, Process},
    plan::{self, Planned},
    random::Random,
    topology::{Bounds, Ended, Ground, Topology, Victim},
};
use crate::engines::{Printed, try_engines};

/// Longer than the script's own bounds.
const SCRIPT_MAX: Duration = Duration::from_secs(200);

pub(super) struct Temporal {
    installed: Installation,
    server: Server,
    gateway: Process,
    worker: Process,
    url: String,
}

impl Temporal {
    pub(super) async fn install(ground: &Ground<'_>) -> Self {
        let mut server = Server::new(&ground.folder);
        server.start().await;
        let engine = [
            ("SA01_TEMPORAL_HOST", server.address.as_str()),
            ("SA01_TEMPORAL_CONVERSATION_QUEUE", server.name.as_str()),
        ];
        let installed = Installation::make(ground.soma, &ground.folder, &ground.around, &engine).await;
        let (gateway, worker) = (Process::gateway(), Process::worker());
        Self { installed, server, gateway, worker, url: String::new() }
    }
}

impl Topology for Temporal {
    const NAME: &'static str = "temporal";
    // What a lost worker had begun is taken up after its heartbeat is missed, which takes 7 s.
    const BOUNDS: Bounds = Bounds { moment: Duration::from_secs(30), settle: Duration::from_secs(240) };

    fn plan(kills: u32, random: &mut Random) -> Vec<Planned> {
        plan::temporal(kills, random)
    }

    async fn start(&mut self, armed: Option<(Victim, Point)>) -> Result<String, Ended> {
        let armed = |victim| armed.and_then(|(armed, point)| (armed == victim).then_some(point));
        if !self.server.up {
            self.server.start().await;
        }
        if !self.worker.runs() {
            let started = self.worker.start(&self.installed, armed(Victim::Worker)).await;
            started.map_err(|status| (Victim::Worker, status))?;
        }
        if !self.gateway.runs() {
            let started = self.gateway.start(&self.installed, armed(Victim::Gateway)).await;
            self.url = started.map_err(|status| (Victim::Gateway, status))?;
        }
        Ok(self.url.clone())
    }

    fn runs(&self, victim: Victim) -> bool {
        match victim {
            Victim::Program => true,
            Victim::Gateway => self.gateway.runs(),
            Victim::Worker => self.worker.runs(),
            Victim::Server => self.server.up,
        }
    }

    async fn ended(&mut self) -> Ended {
        tokio::select! {
            status = self.gateway.ended() => (Victim::Gateway, status),
            status = self.worker.ended() => (Victim::Worker, status),
        }
    }

    async fn kill(&mut self, victim: Victim) -> Result<(), String> {
        match victim {
            Victim::Gateway => self.gateway.kill().await,
            Victim::Worker => self.worker.kill().await,
            Victim::Server => return self.server.kill().await,
            Victim::Program => {
                self.gateway.kill().await;
                self.worker.kill().await;
            }
        }
        Ok(())
    }

    async fn stop(&mut self) -> Vec<Ended> {
        let (gateway, worker) = tokio::join!(self.gateway.stop(), self.worker.stop());
        vec![(Victim::Gateway, gateway), (Victim::Worker, worker)]
    }

    fn installation(&self) -> &Installation {
        &self.installed
    }
}

/// A Temporal server of this process's own, started by `scripts/engines` on the same ports and file each time.
struct Server {
    name: String,
    file: PathBuf,
    address: String,
    up: bool,
}

impl Server {
    fn new(folder: &Path) -> Self {
        let name = format!("chaos-{}", std::process::id());
        Self { name, file: folder.join("temporal.db"), address: String::new(), up: false }
    }

    async fn engines(&self, action: &str, more: &[&str]) -> Result<Printed, String> {
        let arguments = [&[action, "temporal", "--name", &self.name][..], more].concat();
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let script = tokio::task::spawn_blocking(move || {
            try_engines(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
        });
        let ran = tokio::time::timeout(SCRIPT_MAX, script).await.expect("scripts/engines ends");
        ran.expect("scripts/engines can be run")
    }

    async fn start(&mut self) {
        let file = self.file.display().to_string();
        let printed = self.engines("up", &["--file", &file]).await.expect("the server starts");
        let address = printed.setting("SA01_TEMPORAL_HOST");
        assert!(
            self.address.is_empty() || self.address == address,
            "the server came back on {address}, not on {}",
            self.address
        );
        self.address = address.to_owned();
        self.up = true;
    }

    /// SIGKILL to all of it at once; its ports are free after it.
    async fn kill(&mut self) -> Result<(), String> {
        if !self.up {
            return Ok(());
        }
        self.up = false;
        self.engines("kill", &[]).await.map(drop)
    }
}

/// Also when a check of chaos itself has failed: it is nobody's child.
impl Drop for Server {
    fn drop(&mut self) {
        drop(try_engines(&["down", "temporal", "--name", &self.name, "--forget"]));
    }
}
