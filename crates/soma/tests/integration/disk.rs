//! A disk that is full: what can't be stored is refused, what was accepted is kept, and work goes on once there is
//! room.
//!
//! The data folder is a small file system in memory, mounted in a namespace that ends with the server's process.

use std::{
    fs::File,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
};

use futures::future::join_all;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Server, command};

/// Holds the database, its log and some messages.
const SIZE: &str = "size=12m";
/// `$0` is the data folder, `$1` what it begins with, the rest is the program.
const ON_A_SMALL_DISK: &str =
    r#"mount -t tmpfs -o "$SIZE" tmpfs "$0" && cp "$1"/* "$0"/ && shift && exec "$@""#;

impl Server {
    async fn restart_on_a_small_disk(&mut self) {
        let (data, seed) = (self.data(), self.folder().join("seed"));
        std::fs::rename(&data, &seed).expect("the install moves");
        std::fs::create_dir(&data).expect("a place to mount on");
        let serve = command(self.folder(), &self.settings, &["serve", "--listen", "127.0.0.1:0"]);
        let mut small = Command::new("unshare");
        small.args(["--map-root-user", "--mount", "sh", "-c", ON_A_SMALL_DISK]).arg(data).arg(seed);
        small.arg(serve.get_program()).args(serve.get_args()).current_dir(self.folder());
        for (name, value) in serve.get_envs() {
            match value {
                Some(value) => small.env(name, value),
                None => small.env_remove(name),
            };
        }
        self.restart_as(small).await;
    }

    /// The data folder as the process sees it.
    fn small_disk(&self) -> PathBuf {
        let data = self.data();
        let inside = data.strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(self.pid().to_string()).join("root").join(inside)
    }
}

/// Writes until nothing more fits.
fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("ballast");
    let mut ballast = File::create(&path).expect("a file");
    for size in [64 * 1024, 4096, 512] {
        loop {
            match ballast.write_all(&vec![0; size]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("the disk can't be filled: {error}"),
            }
        }
    }
    path
}

#[tokio::test]
async fn on_a_full_disk_messages_are_refused_and_no_accepted_one_is_lost() {
    let mut server = Server::installed(&[("SIZE", SIZE)]);
    server.restart_on_a_small_disk().await;
    let api = server.api();
    let conversation = api.conversation().await;
    let mut accepted = vec!["[[hold one two three four]]".to_owned()];
    let mut runs = vec![api.say(&conversation, &accepted[0]).await];
    server.model.wait_for(PATIENCE, |counts| counts.in_flight == 1).await;
    let ballast = fill(&server.small_disk());

    let mut refused = 0;
    for number in 0..90 {
        let text = format!("[[say answer {number}]] {}", "x".repeat(60_000));
        let reply = api.send(&conversation, json!({ "content": text })).await;
        if reply.status == 202 {
            runs.push(reply.body["run_id"].as_str().unwrap().to_owned());
            accepted.push(text);
            continue;
        }
        assert_eq!(reply.problem(503), "disk_full");
        assert_eq!(reply.headers["retry-after"], "5");
        refused += 1;
        if refused == 3 {
            break;
        }
    }
    assert_eq!(refused, 3, "{} messages fitted", accepted.len());

    // Others at the same moment share a commit with them, and must not be taken down unsaid.
    let crowd = join_all((0..20).map(|_| api.post("/api/v2/conversations", json!({ "agent": "default" }))));
    let made: Vec<Value> = crowd
        .await
        .into_iter()
        .filter(|reply| reply.status == 201)
        .map(|reply| reply.body["id"].clone())
        .collect();
    let listed = api.get("/api/v2/conversations").await.expect(200).to_string();
    assert!(made.iter().all(|id| listed.contains(id.as_str().unwrap())), "{made:?} {listed}");

    let brief = |texts: Vec<String>| -> Vec<String> {
        texts.into_iter().map(|text| text.chars().take(24).collect()).collect()
    };
    let said = |transcript: Vec<(String, String)>| {
        brief(transcript.into_iter().filter(|(role, _)| role == "user").map(|(_, content)| content).collect())
    };
    let accepted = brief(accepted);
    assert_eq!(said(api.transcript(&conversation).await), accepted, "what is read is what was accepted");
    let mut kept = Server::installed(&[]);
    for file in ["soma.db", "soma.db-wal"] {
        std::fs::copy(server.small_disk().join(file), kept.data().join(file)).expect("the files are read");
    }
    kept.restart().await;
    assert_eq!(said(kept.api().transcript(&conversation).await), accepted, "and what is on the disk");
    drop(kept);

    std::fs::remove_file(ballast).expect("room is made");
    runs.push(api.say(&conversation, "[[say room again]]").await);
    server.model.release();
    for run in &runs {
        assert_eq!(api.end_of(run).await.run["state"], "completed");
    }
    assert_eq!(api.turn(&conversation, "[[say at rest]]").await.answer(), "at rest");
}
