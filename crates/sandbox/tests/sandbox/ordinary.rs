//! What code may count on.

use crate::{Place, check_python, sandbox};
use sandbox::{Error, Job, Language, Limits, Outcome};
use std::fs;
use std::path::Path;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn each_language_runs() {
    let place = Place::new();
    let languages = sandbox().await.languages().to_vec();
    assert!(languages.contains(&Language::Python) && languages.contains(&Language::Bash), "{languages:?}");
    for language in languages {
        let code = match language {
            Language::Python => "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)",
            Language::Bash => "echo out; echo err >&2; exit 3",
            Language::Node => "console.log('out'); console.error('err'); process.exitCode = 3",
        };
        let report = place.run(language, code).await;
        let expect = (Outcome::Exited(3), "out\n".to_owned(), "err\n".to_owned(), false);
        assert_eq!((report.outcome, report.stdout, report.stderr, report.truncated), expect, "{language:?}");
    }
}

#[tokio::test]
async fn ordinary_code_works() {
    let code = r#"
import concurrent.futures, multiprocessing, os, socket, sqlite3, ssl, subprocess, tempfile, threading, pwd, json
def square(number):
    return number * number
if __name__ == "__main__":
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        print(sum(pool.map(square, range(10))))
    with multiprocessing.Pool(2) as pool:
        print(sum(pool.map(square, range(10))))
    print(subprocess.run(["bash", "-c", "echo $((6 * 7)) | cat"], capture_output=True, text=True).stdout.strip())
    with tempfile.NamedTemporaryFile() as file:
        print(file.write(b"four"))
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    print(client.fileno() > 0, pwd.getpwuid(os.getuid()).pw_name, os.getcwd(), __name__, __file__)
"#;
    check_python(code, "285\n285\n42\n4\nTrue sandbox /workspace __main__ /code/main.py\n").await;
}

#[tokio::test]
async fn code_imports_modules_of_its_workspace() {
    let place = Place::new();
    fs::write(place.path().join("helper.py"), "def answer():\n    return 42\n").unwrap();
    let report = place.python("import helper\nprint(helper.answer())").await;
    assert_eq!((report.stdout.as_str(), report.stderr.as_str()), ("42\n", ""));
    assert!(!place.path().join("__pycache__").exists());
    if sandbox().await.languages().contains(&Language::Node) {
        fs::write(place.path().join("helper.js"), "module.exports = () => 42").unwrap();
        fs::write(place.path().join("other.mjs"), "export default () => 43").unwrap();
        let report = place.run(Language::Node, "console.log(require('./helper.js')())").await;
        assert_eq!((report.stdout.as_str(), report.stderr.as_str()), ("42\n", ""));
        let report = place.run(Language::Node, "import other from './other.mjs'; console.log(other())").await;
        assert_eq!((report.stdout.as_str(), report.stderr.as_str()), ("43\n", ""));
    }
}

#[tokio::test]
async fn a_traceback_shows_the_code_and_nothing_else() {
    let report = Place::new().python("def fail():\n    return 1 / 0\n\nfail()\n").await;
    assert_eq!(report.outcome, Outcome::Exited(1));
    let places: Vec<_> = report.stderr.lines().filter(|line| line.contains("File ")).collect();
    let expect =
        ["  File \"/code/main.py\", line 4, in <module>", "  File \"/code/main.py\", line 2, in fail"];
    assert_eq!(places, expect, "{}", report.stderr);
    let report = Place::new().python("def broken(:\n").await;
    assert!(report.stderr.starts_with("  File \"/code/main.py\", line 1\n"), "{}", report.stderr);
}

#[tokio::test]
async fn what_is_written_in_the_workspace_stays() {
    let place = Place::new();
    let report = place.python("open('kept.txt', 'w').write('here'); open('/tmp/lost', 'w').write('x')").await;
    assert_eq!(report.outcome, Outcome::Exited(0), "{}", report.stderr);
    assert_eq!(fs::read_to_string(place.path().join("kept.txt")).unwrap(), "here");
    check_python("import os; print(os.listdir('/tmp'))", "[]\n").await;
}

#[tokio::test]
async fn a_job_that_cannot_run_says_why() {
    let sandbox = sandbox().await;
    let workspace = Path::new("/nonexistent/workspace").to_owned();
    let job = Job { language: Language::Bash, code: String::new(), workspace, limits: Limits::default() };
    let failure = sandbox.run(job.clone(), CancellationToken::new()).await.unwrap_err();
    assert!(matches!(failure, Error::Workspace { .. }), "{failure:?}");
    let job = Job { code: "#".repeat(sandbox::CODE_BYTES_MAX + 1), ..job };
    let failure = sandbox.run(job, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(failure, Error::CodeTooLong { .. }), "{failure:?}");
}
