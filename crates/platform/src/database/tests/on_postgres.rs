//! What a server does that a file does not: it goes away, and its connections break at any moment.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sea_orm_migration::MigratorTrait;
use testing::{OwnEngine, TestDatabase};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use url::Url;

use super::{keep, kept, open};
use crate::{
    database::{Database, Error, Location, Migration, MigrationTrait, Sql, migrate, pending, postgres},
    params,
};

/// Ends all other connections to the database, as a server's restart does.
async fn break_connections(dsn: &str) {
    let administrator = Database::open(&dsn.parse().unwrap()).await.unwrap();
    let broken: Result<u64, Error> = administrator
        .write(|tx| {
            Box::pin(async move {
                let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";
                tx.run(sql, params![]).await
            })
        })
        .await;
    broken.unwrap();
}

#[tokio::test]
async fn connections_that_broke_are_made_again_and_nobody_notices() {
    let place = TestDatabase::on_postgres();
    let database = open(place.dsn()).await;
    for number in 0..3 {
        break_connections(place.dsn()).await;
        keep(&database, number).await.unwrap();
        assert_eq!(kept(&database).await.len() as i64, number + 1);
    }
}

#[derive(Clone, Copy)]
enum Cut {
    /// The server never hears of the commit.
    Before,
    /// It does, and its answer is lost.
    After,
}

/// The database by way of somebody who breaks the connection at the first commit.
async fn through(dsn: &str, cut: Cut) -> Location {
    let mut url = Url::parse(dsn).unwrap();
    let server = (url.host_str().unwrap().to_owned(), url.port().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    let armed = Arc::new(AtomicBool::new(true));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.unwrap();
            tokio::spawn(carry(client, server, cut, Arc::clone(&armed)));
        }
    });
    url.as_str().parse().unwrap()
}

async fn carry(mut client: TcpStream, mut server: TcpStream, cut: Cut, armed: Arc<AtomicBool>) {
    let (mut asked, mut answered) = ([0; 16384], [0; 16384]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                let commits = asked[..length].windows(6).any(|word| word == b"COMMIT");
                let cuts = commits && armed.swap(false, Ordering::SeqCst);
                if cuts && matches!(cut, Cut::Before) {
                    return;
                }
                if server.write_all(&asked[..length]).await.is_err() {
                    return;
                }
                if cuts {
                    drop(server.read(&mut answered).await);
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_asked_after_and_told_as_it_was() {
    for (cut, stored) in [(Cut::Before, false), (Cut::After, true)] {
        let place = TestDatabase::on_postgres();
        let direct = open(place.dsn()).await;
        let database = Database::open(&through(place.dsn(), cut).await).await.unwrap();
        let answer = keep(&database, 7).await;
        assert_eq!(kept(&direct).await, if stored { vec![7] } else { vec![] });
        assert!(
            if stored { answer.is_ok() } else { matches!(answer, Err(Error::Stopped(_) | Error::Away(_))) },
            "{answer:?}"
        );
        keep(&database, 8).await.unwrap();
        assert_eq!(kept(&direct).await.last(), Some(&8));
    }
}

#[tokio::test]
async fn what_only_reads_can_change_nothing() {
    let place = TestDatabase::on_postgres();
    let database = open(place.dsn()).await;
    let refused = database.read().run("INSERT INTO kept VALUES (1)", params![]).await.unwrap_err();
    assert!(refused.to_string().contains("read-only"), "{refused}");
}

#[tokio::test]
async fn a_process_that_is_stopped_holds_no_lock_for_ever() {
    let place = TestDatabase::on_postgres();
    let Location::Postgres(at) = place.dsn().parse().unwrap() else { panic!("{}", place.dsn()) };
    // Nobody asks for it any more, as if its process had been stopped.
    let mut held = postgres::Lock::take(&at, 1).await.unwrap().unwrap();
    assert!(postgres::Lock::take(&at, 1).await.unwrap().is_none());
    let began = Instant::now();
    while postgres::Lock::take(&at, 1).await.unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(40), "it is still held");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(held.is_held().await.is_err(), "whoever had it is told");
}

struct Slow;

impl MigratorTrait for Slow {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Migration {
            name: "slow_0001",
            postgres: None,
            statements: &["CREATE TABLE slow (id TEXT PRIMARY KEY)", "SELECT pg_sleep(0.2)"],
        })]
    }
}

#[tokio::test]
async fn of_processes_that_migrate_at_once_one_does_and_all_find_it_done() {
    let place = TestDatabase::on_postgres();
    let at_once = (0..4).map(|_| async {
        let database = Database::open(&place.dsn().parse().unwrap()).await.unwrap();
        migrate::<Slow>(&database).await.unwrap();
        pending::<Slow>(&database).await.unwrap()
    });
    assert!(futures::future::join_all(at_once).await.iter().all(Vec::is_empty));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_a_crash_gives_to_another_transaction_does_not_pass_for_a_commit() {
    let engine = OwnEngine::new("postgres", "crash");
    let dsn = engine.up().setting("SA01_DB_DSN").to_owned();
    let other = open(&dsn).await;
    // By way of somebody who breaks the connection before the commit, and lets no other through for a while.
    let (broken, let_through) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let mut url = Url::parse(&dsn).unwrap();
    let port = url.port().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    let (told, through) = (Arc::clone(&broken), Arc::clone(&let_through));
    tokio::spawn(async move {
        let armed = Arc::new(AtomicBool::new(true));
        while let Ok((client, _)) = listener.accept().await {
            if !armed.load(Ordering::SeqCst) {
                told.notify_one();
                through.notified().await;
                through.notify_one();
            }
            let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            tokio::spawn(carry(client, server, Cut::Before, Arc::clone(&armed)));
        }
    });
    let database = Database::open(&url.as_str().parse().unwrap()).await.unwrap();
    let answer = tokio::spawn(async move { keep(&database, 7).await });

    // It asks what became of its commit: by then the server has crashed, and others have taken its number.
    broken.notified().await;
    engine.tell("kill");
    engine.up();
    for number in 100..110 {
        keep(&other, number).await.unwrap();
    }
    let_through.notify_one();

    let answer = answer.await.unwrap();
    assert!(!kept(&other).await.contains(&7));
    assert!(answer.is_err(), "a change that is not there was said to be stored");
}
