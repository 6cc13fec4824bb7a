//! The short form of `just chaos`: a few kills, every check.
#![expect(clippy::expect_used, reason = "a test that can't find what it runs fails")]

use std::{path::PathBuf, time::Duration};

use testing::chaos::{Options, run};

const KILLS: u32 = 12;

/// The program that was built beside this test.
fn soma() -> PathBuf {
    let own = std::env::current_exe().expect("a test knows where it is");
    let folder = own.parent().and_then(std::path::Path::parent).expect("a test lies in deps");
    let soma = folder.join("soma");
    assert!(
        soma.exists(),
        "{} is not there: this test kills the real program, so build it first: \
         cargo build -p soma -p soma-testing --features soma/faults",
        soma.display()
    );
    soma
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_killed_again_and_again_keeps_its_promises() {
    let mut options = Options::new(soma());
    options.kills = KILLS;
    options.time_max = Duration::from_secs(60);
    let report = run(&options).await;
    assert!(report.kept(), "{report}");
    assert_eq!(report.kills, u64::from(KILLS), "{report}");
    assert!(report.completed > 0, "{report}");
}
