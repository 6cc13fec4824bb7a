//! How much code may use.

use crate::{PATIENCE, Place, run, sandbox};
use sandbox::{Job, Language, Limits, Outcome};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

#[tokio::test]
async fn a_fork_bomb_is_bounded() {
    // The kernel never counts root's processes but in a cgroup.
    if !sandbox().await.cgroups() && fs::metadata("/proc/self").unwrap().uid() == 0 {
        return;
    }
    let code = r#"
import os, time
made = 0
try:
    while made < 1000:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        made += 1
except OSError as error:
    print(error.strerror)
print(made)
"#;
    let place = Place::new();
    let limits = Limits { processes: 20, ..Limits::default() };
    let report = run(Job { limits, ..place.job(Language::Python, code) }).await;
    assert_eq!(report.stdout, "Resource temporarily unavailable\n19\n", "{}", report.stderr);
    assert!(report.duration < PATIENCE, "{report:?}");
}

#[tokio::test]
async fn memory_is_bounded() {
    let place = Place::new();
    let hog = "data = []\nwhile True:\n    data.append(bytearray(8 << 20))\n";
    let limits = Limits { memory_bytes: 128 << 20, ..Limits::default() };
    let report = run(Job { limits: limits.clone(), ..place.job(Language::Python, hog) }).await;
    assert_eq!(report.outcome, Outcome::OutOfMemory, "{report:?}");
    // Memory that is shared among many is still one job's.
    let many = "import os, time\nfor _ in range(8):\n    if os.fork() == 0:\n        data = b'x' * (40 << 20)
        time.sleep(60)\n        os._exit(0)\nfor _ in range(8):\n    if os.wait()[1]:\n        os.abort()\n";
    if sandbox().await.cgroups() {
        let report = run(Job { limits: limits.clone(), ..place.job(Language::Python, many) }).await;
        assert_eq!(report.outcome, Outcome::OutOfMemory, "{report:?}");
    }
    if sandbox().await.languages().contains(&Language::Node) {
        let hog = "const data = []; for (;;) data.push(new Array(1e6).fill(1.5))";
        let report = run(Job { limits, ..place.job(Language::Node, hog) }).await;
        assert_eq!(report.outcome, Outcome::OutOfMemory, "{report:?}");
    }
}

#[tokio::test]
async fn output_is_bounded() {
    let place = Place::new();
    let limits = Limits { output_bytes: 1000, ..Limits::default() };
    let code = "import sys\nprint('é' * 5_000_000)\nprint('done', file=sys.stderr)";
    let report = run(Job { limits: limits.clone(), ..place.job(Language::Python, code) }).await;
    let expect = (Outcome::Exited(0), "é".repeat(500), "done\n".to_owned(), true);
    assert_eq!((report.outcome, report.stdout, report.stderr, report.truncated), expect);
    let limits = Limits { wall: Duration::from_secs(1), ..limits };
    let report = run(Job { limits, ..place.job(Language::Bash, "exec yes") }).await;
    assert_eq!((report.outcome, report.stdout.len(), report.truncated), (Outcome::TimedOut, 1000, true));
}

#[tokio::test]
async fn files_are_bounded() {
    let place = Place::new();
    let limits = Limits { file_bytes: 1000, ..Limits::default() };
    let code = "try:\n    open('large', 'wb', 0).write(b'x' * 5000)\n    open('large', 'ab', 0).write(b'x')
except OSError as error:\n    print(error.strerror)";
    let report = run(Job { limits, ..place.job(Language::Python, code) }).await;
    assert_eq!(report.stdout, "File too large\n", "{}", report.stderr);
    assert_eq!(fs::metadata(place.path().join("large")).unwrap().len(), 1000);
}

#[tokio::test]
async fn time_is_bounded() {
    let place = Place::new();
    let limits = Limits { wall: Duration::from_millis(300), ..Limits::default() };
    let report =
        run(Job { limits, ..place.job(Language::Python, "print('began')\nimport time; time.sleep(60)") })
            .await;
    assert_eq!((report.outcome, report.stdout.as_str()), (Outcome::TimedOut, "began\n"));
    assert!(report.duration < Duration::from_secs(5), "{report:?}");
    let limits = Limits { cpu_seconds: 1, ..Limits::default() };
    let report =
        run(Job { limits: limits.clone(), ..place.job(Language::Bash, "while :; do :; done") }).await;
    assert_eq!(report.outcome, Outcome::TimedOut);
    assert!(report.duration < PATIENCE, "{report:?}");
    if sandbox().await.cgroups() {
        // Each of these stays below the limit; together they do not.
        let relay = "for _ in $(seq 100); do timeout 0.2 bash -c 'while :; do :; done'; done; echo end";
        let report = run(Job { limits, ..place.job(Language::Bash, relay) }).await;
        assert_eq!((report.outcome, report.stdout.as_str()), (Outcome::TimedOut, ""));
    }
}
