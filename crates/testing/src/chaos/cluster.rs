//! Two gateways and two workers, on real PostgreSQL, Temporal, Redis and OPA servers, whose data is on disk.
//!
//! One gateway and one worker are killed; the others go on. Every engine is killed, and paused.

use std::{path::Path, time::Duration};

use super::{
    client,
    engine::Server,
    install::{Installation, Point, Process},
    plan::{self, Planned},
    random::Random,
    topology::{Bounds, Ended, Engine, Ground, Topology, Victim},
};

/// How long after everything is there again a gateway may say that it is not ready.
const READY_MAX: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub(super) struct Cluster {
    installed: Installation,
    engines: Vec<(Engine, Server)>,
    gateway: Process,
    worker: Process,
    /// Those that are not killed.
    other_gateway: Process,
    other_worker: Process,
    urls: [String; 2],
    starts: usize,
    http: reqwest::Client,
}

impl Cluster {
    pub(super) async fn install(ground: &Ground<'_>) -> Self {
        let bundle = ground.folder.join("policy");
        write_bundle(ground.soma, &bundle).await;
        let temporal = ground.folder.join("temporal.db");
        let mut engines = Vec::new();
        let files = [
            (Engine::Postgres, None),
            (Engine::Temporal, Some(temporal.as_path())),
            (Engine::Redis, None),
            (Engine::Opa, Some(bundle.as_path())),
        ];
        for (engine, file) in files {
            let mut server = Server::new(engine, file);
            server.start().await;
            engines.push((engine, server));
        }
        let mut settings: Vec<_> = engines.iter().map(|(_, server)| server.setting()).collect();
        settings.push(("SA01_TEMPORAL_CONVERSATION_QUEUE", format!("chaos-{}", std::process::id())));
        let installed = Installation::make(ground.soma, &ground.folder, &ground.around, settings).await;
        Self {
            installed,
            engines,
            gateway: Process::gateway(),
            worker: Process::worker(),
            other_gateway: Process::gateway(),
            other_worker: Process::worker(),
            urls: [String::new(), String::new()],
            starts: 0,
            http: client::http(),
        }
    }

    fn server(&mut self, engine: Engine) -> &mut Server {
        let found = self.engines.iter_mut().find(|(known, _)| *known == engine);
        &mut found.expect("every engine was made").1
    }

    /// Waits until a gateway says that it is ready, which is a part of being back.
    async fn await_ready(&self, url: &str) -> bool {
        let ready = async {
            loop {
                let asked = self.http.get(format!("{url}/health/ready")).send().await;
                if asked.is_ok_and(|answer| answer.status() == 200) {
                    return;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(READY_MAX, ready).await.is_ok()
    }
}

/// The policy of the program under test, for its OPA server.
async fn write_bundle(soma: &Path, folder: &Path) {
    let written = tokio::process::Command::new(soma).args(["policy", "bundle"]).arg(folder).output().await;
    assert!(written.expect("the program can be run").status.success(), "the policy can be written");
}

impl Topology for Cluster {
    const NAME: &'static str = "cluster";
    const BOUNDS: Bounds = Bounds { moment: Duration::from_secs(30), settle: Duration::from_secs(240) };
    const PATIENT: bool = true;

    fn plan(kills: u32, random: &mut Random) -> Vec<Planned> {
        plan::cluster(kills, random)
    }

    async fn start(&mut self, armed: Option<(Victim, Point)>) -> Result<String, Ended> {
        let armed = |victim| armed.and_then(|(armed, point)| (armed == victim).then_some(point));
        for (_, server) in &mut self.engines {
            if !server.is_up() {
                server.start().await;
            }
        }
        for (process, armed) in [(&mut self.worker, armed(Victim::Worker)), (&mut self.other_worker, None)] {
            if !process.runs() {
                let started = process.start(&self.installed, armed).await;
                started.map_err(|status| (Victim::Worker, status))?;
            }
        }
        let gateways = [(&mut self.gateway, armed(Victim::Gateway)), (&mut self.other_gateway, None)];
        for ((process, armed), url) in gateways.into_iter().zip(&mut self.urls) {
            if !process.runs() {
                let started = process.start(&self.installed, armed).await;
                *url = started.map_err(|status| (Victim::Gateway, status))?;
            }
        }
        for url in &self.urls {
            assert!(self.await_ready(url).await, "a gateway is not ready {READY_MAX:?} after all is there");
        }
        // Clients come back to another gateway than they left.
        self.starts += 1;
        Ok(self.urls[self.starts % 2].clone())
    }

    fn runs(&self, victim: Victim) -> bool {
        match victim {
            Victim::Program => true,
            Victim::Gateway => self.gateway.runs(),
            Victim::Worker => self.worker.runs(),
            Victim::Engine(engine) | Victim::Paused(engine) => {
                self.engines.iter().any(|(known, server)| *known == engine && server.is_up())
            }
        }
    }

    async fn ended(&mut self) -> Ended {
        tokio::select! {
            status = self.gateway.ended() => (Victim::Gateway, status),
            status = self.other_gateway.ended() => (Victim::Gateway, status),
            status = self.worker.ended() => (Victim::Worker, status),
            status = self.other_worker.ended() => (Victim::Worker, status),
        }
    }

    async fn kill(&mut self, victim: Victim) -> Result<(), String> {
        match victim {
            Victim::Gateway => self.gateway.kill().await,
            Victim::Worker => self.worker.kill().await,
            Victim::Engine(engine) => return self.server(engine).kill().await,
            Victim::Paused(engine) => return self.server(engine).pause().await,
            Victim::Program => {
                for process in
                    [&mut self.gateway, &mut self.other_gateway, &mut self.worker, &mut self.other_worker]
                {
                    process.kill().await;
                }
            }
        }
        Ok(())
    }

    async fn stop(&mut self) -> Vec<Ended> {
        let (first, second, third, fourth) = tokio::join!(
            self.gateway.stop(),
            self.other_gateway.stop(),
            self.worker.stop(),
            self.other_worker.stop()
        );
        let gateways = [first, second].map(|status| (Victim::Gateway, status));
        let workers = [third, fourth].map(|status| (Victim::Worker, status));
        gateways.into_iter().chain(workers).collect()
    }

    fn installation(&self) -> &Installation {
        &self.installed
    }
}
