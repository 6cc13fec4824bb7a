//! Starting, stopping and looking at the program: what an operator meets.

use std::{fs, time::Instant};

use serde_json::json;

use crate::harness::{PATIENCE, Server, command, good_settings, run_in, text};

#[tokio::test]
async fn a_second_server_on_one_database_refuses_and_the_first_goes_on() {
    let server = Server::start().await;
    let second = server.run(&["serve", "--listen", "127.0.0.1:0"]);
    let said = text(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert_eq!(text(&second.stdout), "");
    assert!(said.contains("another process runs the workflows of"), "{said}");
    let conversation = server.api().conversation().await;
    assert_eq!(server.api().turn(&conversation, "[[say still here]]").await.answer(), "still here");
}

#[tokio::test]
async fn a_killed_servers_lock_is_free_at_once() {
    let mut server = Server::start().await;
    for _ in 0..3 {
        server.restart().await;
    }
    assert_eq!(server.api().get("/health/ready").await.status, 200);
}

#[test]
fn brokers_that_are_no_addresses_are_refused_by_name_and_without_what_was_said() {
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in [
        ("SA01_KAFKA_BOOTSTRAP_SERVERS", "broker.internal"),
        ("SA01_KAFKA_BOOTSTRAP_SERVERS", "user:hunter2@broker.internal:9092"),
    ] {
        let mut settings = good_settings(folder.path());
        settings.insert(name.into(), value.into());
        for arguments in [["serve", "--listen=127.0.0.1:0"], ["worker", "all"]] {
            let output = run_in(folder.path(), &settings, &arguments);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(78), "{name}: {said}");
            assert!(said.contains(name) && said.contains("expected `embedded:`, or host:port"), "{said}");
            assert!(!said.contains("internal") && !said.contains("hunter2"), "{said}");
        }
    }
}

#[test]
fn a_worker_without_a_temporal_server_points_to_serve() {
    let folder = tempfile::tempdir().unwrap();
    let output = run_in(folder.path(), &good_settings(folder.path()), &["worker", "all"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("SA01_TEMPORAL_HOST") && said.contains("`soma serve`"), "{said}");
}

#[test]
fn a_database_that_was_not_migrated_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let settings = good_settings(folder.path());
    for arguments in [&["serve", "--listen=127.0.0.1:0"][..], &["admin", "create", "--email", "a@b.c"]] {
        let output = run_in(folder.path(), &settings, arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("soma migrate"), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let server = Server::start().await;
    let other = Server::installed(&[]);
    let address = server.base().strip_prefix("http://").unwrap().to_owned();
    let output = other.run(&["serve", "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&address), "{}", text(&output.stderr));
}

#[test]
fn migrating_twice_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let settings = good_settings(folder.path());
    let run = |arguments: &[&str]| run_in(folder.path(), &settings, arguments);
    let missing = run(&["migrate", "--check"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("run `soma migrate`"), "{}", text(&missing.stderr));
    assert!(!folder.path().join("data").exists(), "a check makes nothing");
    for arguments in [&["migrate"][..], &["migrate"], &["migrate", "--check"]] {
        let output = run(arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
}

#[tokio::test]
async fn sigterm_with_nothing_to_do_ends_the_process_at_once() {
    let mut server = Server::start().await;
    let since = Instant::now();
    server.ask_to_stop();
    assert_eq!(server.ended().await.code(), Some(0));
    assert!(since.elapsed().as_secs() < 5, "{:?}", since.elapsed());
}

#[tokio::test]
async fn sigterm_lets_the_step_under_way_end_and_the_next_process_goes_on_without_repeating_it() {
    let mut server = Server::start().await;
    let conversation = server.api().conversation().await;
    let program = json!({ "language": "bash", "code": "echo made >> calls; sleep 1; cat calls" });
    let text = format!("[[tool code_execute {program}]] [[say {{result}}]]");
    let run = server.api().say(&conversation, &text).await;
    let mut stream = server.api().stream(&run, 0).await;
    let mut frames = stream.read_to("policy.decision").await;

    server.ask_to_stop();
    while let Some(frame) = stream.next().await {
        frames.push(frame);
    }
    assert_eq!(server.ended().await.code(), Some(0));
    server.restart().await;

    let turn = server.api().end_of(&run).await;
    assert_eq!((turn.one("tool.result")["status"].as_str(), turn.answer().trim()), (Some("success"), "made"));
    assert!(turn.frames.starts_with(&frames), "what was streamed before is what is there");
}

#[tokio::test]
async fn a_server_that_was_asked_to_stop_takes_no_new_connection() {
    let mut server = Server::start().await;
    let conversation = server.api().conversation().await;
    server.api().say(&conversation, "[[slow 300 one two three four five six seven eight nine]]").await;
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 1).await;
    let api = server.api();
    server.ask_to_stop();
    assert_eq!(server.ended().await.code(), Some(0));
    let refused = api.request(reqwest::Method::GET, "/health/live").send().await;
    assert!(refused.is_err_and(|error| error.is_connect()));
}

#[tokio::test]
async fn check_has_a_line_for_each_finding_and_fails_when_one_stands() {
    let server = Server::installed(&[]);
    let output = server.run(&["check"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}");
    for finding in ["CRITICAL-01", "CRITICAL-02", "HIGH-03", "3.2", "3.3", "3.4"] {
        assert!(
            said.lines().any(|line| line.starts_with("ok") && line.contains(finding)),
            "{finding}: {said}"
        );
    }
    assert!(said.lines().all(|line| line.starts_with("ok ")), "{said}");

    let mut bad = server.settings.clone();
    bad.insert("SECRET_KEY".into(), "short".into());
    bad.remove("SA01_CRYPTO_FERNET_KEY");
    let output = run_in(server.folder(), &bad, &["check"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let failed: Vec<&str> = said.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert!(failed[0].contains("CRITICAL-01") && failed[1].contains("CRITICAL-02"), "{said}");
    fs::write(server.folder().join(".env"), "A=1\n").unwrap();
    let output = server.run(&["check"]);
    assert!(text(&output.stdout).contains("FAIL  HIGH-03"), "{}", text(&output.stdout));

    let deploy = text(&server.run(&["check", "--deploy"]).stdout);
    assert!(
        deploy.lines().any(|line| line.starts_with("FAIL  deploy: a build without test switches")),
        "{deploy}"
    );
}

/// Without user namespaces, as in a container whose engine forbids them.
#[test]
fn check_says_where_code_cannot_be_run() {
    const FINDING: &str = "deploy: code that a model wrote can be run";
    let folder = tempfile::tempdir().unwrap();
    let settings = good_settings(folder.path());
    let here = text(&run_in(folder.path(), &settings, &["check", "--deploy"]).stdout);
    assert!(here.contains(&format!("ok    {FINDING}")), "{here}");

    let within = command(folder.path(), &settings, &["check", "--deploy"]);
    let mut contained = std::process::Command::new("bwrap");
    contained.args(["--dev-bind", "/", "/", "--unshare-user", "--disable-userns", "--"]);
    contained.arg(within.get_program()).args(within.get_args());
    contained.env_clear().envs(within.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let there = text(&contained.current_dir(folder.path()).output().unwrap().stdout);
    let line = there.lines().find(|line| line.contains(FINDING)).unwrap_or_default();
    assert!(line.starts_with("FAIL") && line.contains("code cannot be run here"), "{there}");
}

#[tokio::test]
async fn health_names_each_engine_and_metrics_have_their_names() {
    let server = Server::start().await;
    let api = server.api();
    let conversation = api.conversation().await;
    api.turn(&conversation, "[[tool timestamp]] [[say x]]").await;

    assert_eq!(api.without_key().get("/health/live").await.expect(200), "ok");
    let ready = api.without_key().get("/health/ready").await.expect(200);
    assert_eq!(
        ready,
        json!({ "ready": true, "engines": { "database": "ok", "policy": "ok", "workflows": "ok" } })
    );
    let metrics = api.get("/metrics").await;
    assert!(metrics.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    let metrics = metrics.expect(200);
    for name in [
        "auth_decisions_total",
        "chat_tokens_total",
        "tool_executor_requests_total",
        "tool_executor_policy_decisions_total",
        "tool_executor_execution_seconds",
    ] {
        assert!(metrics.as_str().unwrap().contains(name), "{name}");
    }
}

#[test]
fn the_policys_own_tests_pass_and_it_answers_at_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let settings = good_settings(folder.path());
    let tested = run_in(folder.path(), &settings, &["policy", "test"]);
    assert!(tested.status.success(), "{}", text(&tested.stdout));
    let domains = run_in(folder.path(), &settings, &["domains"]);
    assert_eq!(text(&domains.stdout).lines().count(), domains::DOMAINS.len());
}

#[test]
fn a_shell_is_told_the_commands() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = run_in(folder.path(), &good_settings(folder.path()), &["completions", shell]);
        let script = text(&output.stdout);
        assert!(output.status.success() && script.contains("keygen"), "{shell}: {script}");
        if shell == "bash" {
            let checked = std::process::Command::new("bash").args(["-n", "-c", &script]).status();
            assert!(checked.unwrap().success());
        }
    }
    assert_eq!(
        run_in(folder.path(), &good_settings(folder.path()), &["completions", "csh"]).status.code(),
        Some(2)
    );
}
