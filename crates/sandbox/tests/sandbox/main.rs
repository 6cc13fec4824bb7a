//! The promises about code that a model wrote, each tried against a real sandbox.
//!
//! They need Linux with bubblewrap; a host without it fails here and says what is missing.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of test functions")]

mod ends;
mod files;
mod limits;
mod ordinary;
mod reach;

use sandbox::{Job, Language, Limits, Outcome, Report, Sandbox};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);

async fn sandbox() -> Sandbox {
    static SANDBOX: OnceCell<Sandbox> = OnceCell::const_new();
    SANDBOX.get_or_init(async || Sandbox::probe().await.unwrap()).await.clone()
}

struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn job(&self, language: Language, code: &str) -> Job {
        Job { language, code: code.to_owned(), workspace: self.path().to_owned(), limits: Limits::default() }
    }

    async fn run(&self, language: Language, code: &str) -> Report {
        run(self.job(language, code)).await
    }

    async fn python(&self, code: &str) -> Report {
        self.run(Language::Python, code).await
    }
}

async fn run(job: Job) -> Report {
    sandbox().await.run(job, CancellationToken::new()).await.unwrap()
}

/// Runs Python and compares all that it printed.
async fn check_python(code: &str, expect: &str) {
    let report = Place::new().python(code).await;
    assert_eq!(
        (report.outcome, report.stdout.as_str(), report.stderr.as_str()),
        (Outcome::Exited(0), expect, "")
    );
}
