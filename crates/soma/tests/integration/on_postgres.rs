//! A PostgreSQL server that goes away under the program, and comes back: what was accepted is done, once.
//!
//! `scripts/engines` starts a server of each test's own. A test that can't have one fails.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::json;
use testing::{EffectLedger, OwnEngine};

use crate::harness::{ADMIN, Api, PATIENCE, Server, Turn, text, until};

const ANSWER: &str = "one two three four";

const DSN: &str = "SA01_DB_DSN";

/// An install on a server of its own, with tools that have effects.
struct Install {
    postgres: OwnEngine,
    effects: EffectLedger,
    server: Server,
    key: String,
}

impl Install {
    async fn start(label: &str) -> Self {
        let postgres = OwnEngine::new("postgres", label);
        let up = postgres.up();
        let effects = EffectLedger::start();
        let mut server = Server::installed(&settings(up.setting(DSN), &effects.url()));
        let run = |arguments: &[&str]| {
            let output = server.run(arguments);
            assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
            text(&output.stdout).trim().to_owned()
        };
        run(&["migrate"]);
        run(&["admin", "create", "--email", ADMIN]);
        let key = run(&["apikey", "create", "--email", ADMIN]);
        server.restart().await;
        Self { postgres, effects, server, key }
    }

    fn api(&self) -> Api {
        Api::new(self.server.base(), Some(&self.key))
    }

    /// A conversation in which a turn has had its effects and waits for the model; and its run.
    async fn at_work(&self) -> (String, String) {
        let classes = ["transactional", "idempotent", "at_most_once"];
        let calls = classes.map(|class| format!(r#"[[tool fx_{class} {{"note": "{class}"}}]]"#));
        let conversation = self.api().conversation().await;
        let run = self.api().say(&conversation, &format!("{} [[hold {ANSWER}]]", calls.join(" "))).await;
        self.server.model.wait_for(PATIENCE, |counts| counts.requests == 4 && counts.in_flight == 1).await;
        (conversation, run)
    }

    async fn is_ready(&self, status: u16) {
        let what = format!("readiness is {status}");
        until(&what, async || (self.api().get("/health/ready").await.status == status).then_some(())).await;
    }
}

fn settings<'a>(dsn: &'a str, effects: &'a str) -> [(&'a str, &'a str); 2] {
    [(DSN, dsn), ("SOMA_EFFECTS_URL", effects)]
}

/// The run's end, whatever became of a stream meanwhile.
async fn end_of(api: &Api, run: &str) -> Turn {
    until("the run has ended", async || {
        let reply = api.get(&format!("/api/v2/runs/{run}")).await;
        reply.body["finished_at"].is_string().then_some(())
    })
    .await;
    api.end_of(run).await
}

fn check_effects(effects: &EffectLedger) {
    let counts = effects.counts();
    // The third is in the database.
    assert_eq!((counts.applied, counts.replayed), (2, 0), "{counts:?}");
}

#[tokio::test]
async fn a_server_that_is_killed_in_the_middle_of_a_turn_costs_no_message_and_repeats_no_effect() {
    let install = Install::start("killed").await;
    let api = install.api();
    let (conversation, run) = install.at_work().await;
    let waits = api.say(&conversation, "[[say after that]]").await;

    install.postgres.tell("kill");
    let refused = api.send(&conversation, json!({ "content": "[[say lost]]" })).await;
    assert_eq!(refused.problem(503), "database_unavailable");
    install.is_ready(503).await;
    install.server.model.release();
    install.postgres.up();

    install.is_ready(200).await;
    assert_eq!(end_of(&api, &run).await.answer(), ANSWER);
    assert_eq!(end_of(&api, &waits).await.answer(), "after that");
    let said = api.transcript(&conversation).await;
    assert_eq!(said.iter().filter(|(role, _)| role == "user").count(), 2, "{said:?}");
    check_effects(&install.effects);
    assert_eq!(api.turn(&conversation, "[[say again]]").await.answer(), "again");
}

#[tokio::test]
async fn a_call_that_may_not_be_repeated_is_recorded_though_the_server_is_away_when_it_ends() {
    let install = Install::start("recording").await;
    let api = install.api();
    let conversation = api.conversation().await;
    let code = "import time, pathlib; time.sleep(3); pathlib.Path('done').write_text('x'); print('made')";
    let call = json!({ "language": "python", "code": code });
    let run = api.say(&conversation, &format!("[[tool code_execute {call}]] [[say It is {{result}}]]")).await;
    api.stream(&run, 0).await.read_to("tool.start").await;

    install.postgres.tell("kill");
    // The call ends meanwhile, and is to be recorded.
    let done = install.server.data().join("workspaces");
    until("the program has ended", async || {
        let found = walk(&done).into_iter().any(|file| file.ends_with("done"));
        found.then_some(())
    })
    .await;
    tokio::time::sleep(RECORDED_IN_VAIN).await;
    install.postgres.up();

    install.is_ready(200).await;
    let turn = end_of(&api, &run).await;
    assert_eq!(turn.one("tool.result")["status"], "success", "{:?}", turn.one("tool.result"));
    assert_eq!(turn.answer(), "It is made\n");
}

/// How long after a call's end the server stays away: a first try at recording it fails by then.
const RECORDED_IN_VAIN: Duration = Duration::from_secs(2);

/// Every file below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn a_server_that_hangs_for_a_while_keeps_nobody_waiting_and_loses_nothing() {
    let install = Install::start("paused").await;
    let api = install.api();
    let (conversation, run) = install.at_work().await;

    install.postgres.tell("pause");
    install.server.model.release();
    install.is_ready(503).await;
    let refused = api.send(&conversation, json!({ "content": "[[say lost]]" })).await;
    assert_eq!(refused.problem(503), "database_unavailable");
    install.postgres.tell("continue");

    install.is_ready(200).await;
    assert_eq!(end_of(&api, &run).await.answer(), ANSWER);
    assert_eq!(api.turn(&conversation, "[[say after that]]").await.answer(), "after that");
    let said = api.transcript(&conversation).await;
    assert_eq!(said.iter().filter(|(role, _)| role == "user").count(), 2, "{said:?}");
    check_effects(&install.effects);
}

#[tokio::test]
async fn a_process_whose_database_another_one_works_on_by_now_stops() {
    let mut install = Install::start("taken").await;
    let (_, run) = install.at_work().await;
    let mut other = Server::installed(&settings(install.postgres.up().setting(DSN), &install.effects.url()));
    let signal = |name: &str, server: &Server| {
        let sent = Command::new("kill").args([name, &server.pid().to_string()]).status();
        assert!(sent.unwrap().success());
    };

    // While it can't look, its server is killed, and somebody else takes the lock.
    signal("-STOP", &install.server);
    install.postgres.tell("kill");
    install.postgres.up();
    other.restart().await;
    signal("-CONT", &install.server);

    assert!(!install.server.ended().await.success());
    assert!(install.server.log().contains("this one stops"), "{}", install.server.log());
    let api = Api::new(other.base(), Some(&install.key));
    other.model.release();
    assert_eq!(end_of(&api, &run).await.run["state"], "completed");
    check_effects(&install.effects);
}
