//! The policy on an OPA server: nothing is allowed while it is away, and nothing is lost.
//!
//! `scripts/engines` starts the servers. A test that can't have one fails.

use std::sync::{Mutex, mpsc};

use serde_json::json;
use tempfile::TempDir;
use testing::{Answer, Script, engines};

use crate::harness::{Server, good_settings, run_in, text, until};

/// An OPA of this test's own with the program's bundle. Gone with it.
struct Opa {
    name: String,
    bundle: TempDir,
}

impl Opa {
    fn start() -> (Self, String) {
        let bundle = tempfile::tempdir().unwrap();
        let folder = bundle.path().to_str().unwrap();
        let written = run_in(bundle.path(), &good_settings(bundle.path()), &["policy", "bundle", folder]);
        assert!(written.status.success(), "{}", text(&written.stderr));
        let opa = Self { name: format!("opa-soma-{}", std::process::id()), bundle };
        let url = opa.up();
        (opa, url)
    }

    fn up(&self) -> String {
        let folder = self.bundle.path().to_str().unwrap();
        let printed = engines(&["up", "opa", "--name", &self.name, "--file", folder]);
        printed.setting("SA01_OPA_URL").to_owned()
    }

    fn kill(&self) {
        engines(&["kill", "opa", "--name", &self.name]);
    }
}

impl Drop for Opa {
    fn drop(&mut self) {
        engines(&["down", "opa", "--name", &self.name, "--forget"]);
    }
}

#[tokio::test]
async fn while_the_policys_server_is_away_requests_are_refused_and_readiness_says_so() {
    let (opa, url) = Opa::start();
    let server = Server::start_with(&[("SA01_OPA_URL", &url)]).await;
    let api = server.api();
    let conversation = api.conversation().await;
    assert_eq!(api.turn(&conversation, "[[tool timestamp]] [[say done]]").await.answer(), "done");
    assert_eq!(api.get("/health/ready").await.expect(200)["engines"]["policy"], "ok");

    opa.kill();
    let refused = api.post("/api/v2/conversations", json!({ "agent": "default" })).await;
    assert_eq!(refused.problem(503), "policy_unavailable");
    assert_eq!(refused.headers["retry-after"], "5");
    // Where the server is, is nobody's business.
    assert!(!refused.body.to_string().contains("127.0.0.1"), "{}", refused.body);
    assert_eq!(api.get("/health/ready").await.expect(503)["engines"]["policy"], "does not answer");
    assert_eq!(api.get("/health/live").await.status, 200);

    assert_eq!(opa.up(), url);
    assert_eq!(api.get("/health/ready").await.expect(200)["engines"]["policy"], "ok");
    assert_eq!(api.turn(&conversation, "[[say back]]").await.answer(), "back");
    let denied = api.get("/api/v2/audit?effect=deny").await.expect(200);
    let reason = denied["items"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("policy_unavailable"), "{denied}");
}

#[tokio::test]
async fn a_tool_call_waits_for_a_policys_server_that_starts_anew() {
    let (opa, url) = Opa::start();
    let server = Server::start_with(&[("SA01_OPA_URL", &url)]).await;
    let (go_on, gone_on) = mpsc::channel();
    let gone_on = Mutex::new(gone_on);
    server.model.set_script(Script::new(move |request| {
        if request.last_tool_result().is_some() {
            return Answer::Text("done".into());
        }
        gone_on.lock().unwrap().recv().unwrap();
        Answer::Tools(vec![("timestamp".into(), "{}".into())])
    }));
    let api = server.api();
    let conversation = api.conversation().await;
    let run = api.say(&conversation, "What time is it?").await;
    until("the model is asked", async || (server.model.requests().len() == 1).then_some(())).await;

    opa.kill();
    go_on.send(()).unwrap();
    until("the call is not decided", async || server.log().contains("decided nothing").then_some(())).await;
    opa.up();

    let turn = api.end_of(&run).await;
    assert_eq!((turn.answer(), &turn.one("tool.result")["status"]), ("done", &json!("success")));
}
