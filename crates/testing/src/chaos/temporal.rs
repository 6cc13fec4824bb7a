//! The gateway and the worker as processes of their own, behind a real Temporal server, on one SQLite file. The
//! server's own database is a file too: it survives that the server is killed.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::process::Command;

use super::{
    install::{Installation, Point, Process},
    plan::{self, Planned},
    random::Random,
    topology::{Bounds, Ended, Ground, Topology, Victim},
};

/// Longer than the script's own bounds.
const SCRIPT_MAX: Duration = Duration::from_secs(200);
const GONE_MAX: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const ADDRESS: &str = "SA01_TEMPORAL_HOST=";

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

    async fn engines(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(crate::engines::script());
        command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit());
        let ran = tokio::time::timeout(SCRIPT_MAX, command.output()).await;
        let ran = ran.expect("scripts/engines ends").expect("scripts/engines can be run");
        assert!(ran.status.success(), "scripts/engines {arguments:?}: {}", ran.status);
        String::from_utf8(ran.stdout).expect("text")
    }

    async fn start(&mut self) {
        let file = self.file.display().to_string();
        let printed = self.engines(&["up", "temporal", "--name", &self.name, "--file", &file]).await;
        let address = printed.lines().find_map(|line| line.strip_prefix(ADDRESS));
        let address = address.expect("the script says where the server is");
        assert!(
            self.address.is_empty() || self.address == address,
            "the server came back on {address}, not on {}",
            self.address
        );
        self.address = address.to_owned();
        self.up = true;
    }

    /// Its process, if it runs; the script has made sure that it is the one which it started.
    async fn process(&self) -> Option<String> {
        let status = self.engines(&["status"]).await;
        let beginning = format!("{} up, process ", self.name);
        let rest = status.lines().find_map(|line| line.strip_prefix(&beginning))?;
        Some(rest.split(',').next()?.to_owned())
    }

    async fn kill(&mut self) -> Result<(), String> {
        if !self.up {
            return Ok(());
        }
        self.up = false;
        let Some(pid) = self.process().await else { return Err("it was not there any more".to_owned()) };
        let killed = Command::new("kill").args(["-KILL", &pid]).status().await;
        assert!(killed.expect("kill can be run").success(), "SIGKILL can be sent to the server");
        let gone = async {
            while !is_over(&pid) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(GONE_MAX, gone).await.expect("who is killed is gone");
        Ok(())
    }
}

/// Whether a killed process has let go of its ports. Its command line is gone earlier, and its first thread too; the
/// last thread takes them with it.
fn is_over(pid: &str) -> bool {
    let process = Path::new("/proc").join(pid);
    let Ok(stat) = std::fs::read_to_string(process.join("stat")) else { return true };
    // The state follows the name, which is in parentheses.
    let ended = stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']));
    ended && std::fs::read_dir(process.join("task")).map_or(0, Iterator::count) <= 1
}

/// Also when a check of chaos itself has failed: it is nobody's child.
impl Drop for Server {
    fn drop(&mut self) {
        let down = ["down", "temporal", "--name", &self.name, "--forget"];
        drop(std::process::Command::new(crate::engines::script()).args(down).stdin(Stdio::null()).status());
    }
}
