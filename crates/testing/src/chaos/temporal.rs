//! The gateway and the worker as processes of their own, behind a real Temporal server, on one SQLite file. The
//! server's own database is a file too: it survives that the server is killed.

use std::time::Duration;

use super::{
    engine::Server,
    install::{Installation, Point, Process},
    plan::{self, Planned},
    random::Random,
    topology::{Bounds, Ended, Engine, Ground, Topology, Victim},
};

pub(super) struct Temporal {
    installed: Installation,
    server: Server,
    gateway: Process,
    worker: Process,
    url: String,
}

impl Temporal {
    pub(super) async fn install(ground: &Ground<'_>) -> Self {
        let mut server = Server::new(Engine::Temporal, Some(&ground.folder.join("temporal.db")));
        server.start().await;
        let queue = server.name().to_owned();
        let engine = [server.setting(), ("SA01_TEMPORAL_CONVERSATION_QUEUE", queue)];
        let installed = Installation::make(ground.soma, &ground.folder, &ground.around, engine).await;
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
        if !self.server.is_up() {
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
            Victim::Engine(_) | Victim::Paused(_) => self.server.is_up(),
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
            Victim::Engine(_) => return self.server.kill().await,
            Victim::Paused(_) => return self.server.pause().await,
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
