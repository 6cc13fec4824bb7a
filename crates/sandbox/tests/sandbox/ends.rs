//! How runs end, and that nothing is left of them.

use crate::{PATIENCE, Place, run, sandbox};
use sandbox::{Job, Language, Limits, Outcome, Sandbox};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const LOOK_AGAIN: Duration = Duration::from_millis(10);

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Whether a process of this machine, in whatever namespace, has the word in its command line.
fn is_running(marker: &str) -> bool {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).any(|line| line.contains(marker))
}

/// A word that is on no other command line.
fn marker(place: &Path) -> String {
    format!("marker{}", place.file_name().unwrap().to_str().unwrap().trim_start_matches('.'))
}

#[tokio::test]
async fn no_process_outlives_the_run() {
    let place = Place::new();
    let marker = marker(place.path());
    let code = format!(
        r#"
import os, pathlib, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("bash", ["bash", "-c", "trap '' TERM HUP INT; touch ready; while :; do sleep 1; done", "{marker}"])
    os._exit(0)
os.wait()
while not (pathlib.Path("ready").exists() and pathlib.Path("seen").exists()):
    time.sleep(0.01)
"#
    );
    let running = tokio::spawn(run(place.job(Language::Python, &code)));
    // Its looking finds the daemon while it runs, so that finding none later means something.
    eventually("the daemon runs", || is_running(&marker)).await;
    fs::write(place.path().join("seen"), "").unwrap();
    let report = running.await.unwrap();
    assert!(!is_running(&marker));
    assert_eq!(report.outcome, Outcome::Exited(0), "{}", report.stderr);
}

#[tokio::test]
async fn a_cancelled_run_leaves_nothing() {
    let place = Place::new();
    let marker = marker(place.path());
    let code = format!("echo began; (setsid bash -c 'sleep 60; true' {marker} &) ; sleep 60");
    let (sandbox, cancel) = (sandbox().await, CancellationToken::new());
    let job = place.job(Language::Bash, &code);
    let running = tokio::spawn({
        let (sandbox, job, cancel) = (sandbox.clone(), job.clone(), cancel.clone());
        async move { sandbox.run(job, cancel).await }
    });
    eventually("the code runs", || is_running(&marker)).await;
    cancel.cancel();
    let report = running.await.unwrap().unwrap();
    assert!(!is_running(&marker));
    assert_eq!((report.outcome, report.stdout.as_str()), (Outcome::Cancelled, "began\n"));
    // The same when whoever waits for it is gone.
    let dropped = tokio::spawn(async move { sandbox.run(job, CancellationToken::new()).await });
    eventually("the code runs again", || is_running(&marker)).await;
    dropped.abort();
    eventually("the code is gone", || !is_running(&marker)).await;
}

#[tokio::test]
async fn a_killed_parent_leaves_no_process() {
    let place = Place::new();
    let marker = marker(place.path());
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "ends::the_parent_that_is_killed", "--nocapture"])
        .current_dir(place.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the code runs", || is_running(&marker)).await;
    parent.kill().unwrap();
    parent.wait().unwrap();
    eventually("the code is gone", || !is_running(&marker)).await;
    // And what it left of its control groups is cleared by the next one.
    let left = format!("soma-job-{}-", parent.id());
    Sandbox::probe().await.unwrap();
    assert_eq!(groups_named(Path::new("/sys/fs/cgroup"), &left), Vec::<String>::new());
}

#[tokio::test]
#[ignore = "run by a_killed_parent_leaves_no_process, in a process of its own"]
async fn the_parent_that_is_killed() {
    let workspace = std::env::current_dir().unwrap();
    let code = format!("(setsid bash -c 'sleep 60; true' {} &) ; sleep 60", marker(&workspace));
    let job = Job { language: Language::Bash, code, workspace, limits: Limits::default() };
    run(job).await;
}

fn groups_named(directory: &Path, start: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir())
    {
        if entry.file_type().is_ok_and(|kind| !kind.is_dir()) {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        found.extend(groups_named(&entry.path(), start));
        found.extend(name.starts_with(start).then_some(name));
    }
    found
}

#[tokio::test]
async fn a_run_leaves_no_control_group() {
    let place = Place::new();
    place.run(Language::Bash, "sleep 60 & exit 0").await;
    // Runs of other tests in this process may be under way; theirs go as well.
    let mine = format!("soma-job-{}-", std::process::id());
    eventually("groups are gone", || groups_named(Path::new("/sys/fs/cgroup"), &mine).is_empty()).await;
}
