//! Turns that another version of the program began: `soma replay` says whether this one can go on with them.

use std::{collections::BTreeMap, process::Output};

use serde_json::json;
use tempfile::tempdir;
use temporal::Fate;

use crate::{
    harness::{run_in, text},
    on_temporal::{COMPUTES, Worker, approve, careful_conversation, engine, gateway, has_fate},
};

/// Histories of turns that an earlier version of the program may have begun, by the version of the turn.
const HISTORIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/histories/1");
/// Of each kind of turn there is one.
const STORED: [&str; 5] = ["approval", "cancelled", "failed", "plain", "tools"];

/// Runs `soma replay` without any setting.
fn replay(files: &[&str]) -> Output {
    let nowhere = tempdir().unwrap();
    let arguments = [&["replay"], files].concat();
    run_in(nowhere.path(), &BTreeMap::new(), &arguments)
}

#[test]
fn this_version_fits_stored_histories() {
    let files: Vec<String> = STORED.iter().map(|name| format!("{HISTORIES}/{name}.json")).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let replayed = replay(&files);
    let said = format!("{}{}", text(&replayed.stdout), text(&replayed.stderr));
    assert_eq!(replayed.status.code(), Some(0), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("fits ")).count(), STORED.len(), "{said}");
}

#[test]
fn a_history_that_does_not_fit_is_told() {
    let folder = tempdir().unwrap();
    let stored = std::fs::read_to_string(format!("{HISTORIES}/tools.json")).unwrap();
    let changed = stored.replace("\"run_tool\"", "\"run_tools\"");
    assert_ne!(changed, stored);
    let file = folder.path().join("changed.json");
    std::fs::write(&file, changed).unwrap();
    let replayed = replay(&[file.to_str().unwrap()]);
    assert_eq!(replayed.status.code(), Some(1));
    assert!(text(&replayed.stdout).starts_with("does not fit "), "{}", text(&replayed.stdout));
    assert!(text(&replayed.stderr).contains("SA01_TEMPORAL_DEPLOYMENT"), "{}", text(&replayed.stderr));

    let none = folder.path().join("none.json");
    std::fs::write(&none, "{}").unwrap();
    let refused = replay(&[none.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("no history"), "{}", text(&refused.stderr));
}

/// Makes a turn of each kind, which fit this version; where `SOMA_RECORD_HISTORIES` is set their histories are stored,
/// to be replayed by later versions. To be done once for each version of the turn.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "how somebody asks a test for something")]
async fn turns_fit_the_version_that_makes_them_on_temporal() {
    let server = gateway(&[]).await;
    let _worker = Worker::start(&server).await;
    let api = server.api();
    let conversation = api.conversation().await;

    let plain = api.say(&conversation, "[[say hello]]").await;
    api.end_of(&plain).await;
    let tools = api.say(&conversation, &format!("[[tool timestamp]] {COMPUTES}")).await;
    api.end_of(&tools).await;
    let failed = api.say(&conversation, "[[status 400]]").await;
    assert_eq!(api.end_of(&failed).await.run["state"], "failed");
    let cancelled = api.say(&conversation, "[[hold one two three four five six]]").await;
    api.stream(&cancelled, 0).await.read_to("chat.delta").await;
    api.post(&format!("/api/v2/runs/{cancelled}/cancel"), json!({})).await.expect(202);
    assert_eq!(api.end_of(&cancelled).await.run["state"], "cancelled");
    let conversation = careful_conversation(&api).await;
    let approval = api.say(&conversation, COMPUTES).await;
    api.stream(&approval, 0).await.read_to("approval.requested").await;
    let under_way = run_in(server.folder(), &server.settings, &["replay"]);
    assert_eq!(text(&under_way.stdout), format!("fits          {approval}\n"), "{}", text(&under_way.stderr));
    approve(&api).await;
    api.end_of(&approval).await;

    let engine = engine(&server);
    let runs = [&approval, &cancelled, &failed, &plain, &tools];
    let folder = tempdir().unwrap();
    let mut arguments = vec!["replay", "--save", folder.path().to_str().unwrap()];
    for run in runs {
        has_fate(&engine, run, Fate::Closed).await;
        arguments.extend(["--run", run]);
    }
    let replayed = run_in(server.folder(), &server.settings, &arguments);
    assert_eq!(replayed.status.code(), Some(0), "{}{}", text(&replayed.stdout), text(&replayed.stderr));
    for (name, run) in STORED.iter().zip(runs) {
        let saved = folder.path().join(format!("{run}.json"));
        let history = std::fs::read_to_string(&saved).unwrap();
        assert!(history.contains("WorkflowExecutionStartedEventAttributes"), "{name}");
        if std::env::var("SOMA_RECORD_HISTORIES").is_ok() {
            std::fs::write(format!("{HISTORIES}/{name}.json"), history).unwrap();
        }
    }
}
