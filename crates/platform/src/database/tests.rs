//! What the writer answers is what is on disk, also after SQLite has rolled back by itself.

mod on_postgres;

use futures::future::join_all;
use sea_orm::{ConnectionTrait, DbErr};
use testing::TestDatabase;

use sea_orm_migration::{MigrationTrait, MigratorTrait};

use super::{Database, Error, Migration, Sql};
use crate::params;

async fn database() -> (TestDatabase, Database) {
    let kept = TestDatabase::empty();
    let database = open(kept.dsn()).await;
    (kept, database)
}

struct Own;

impl MigratorTrait for Own {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        super::MIGRATIONS.iter().map(|migration| Box::new(*migration) as Box<dyn MigrationTrait>).collect()
    }
}

/// As a process of its own would, with tables if there are none.
async fn open(dsn: &str) -> Database {
    let database = Database::open(&dsn.parse().unwrap()).await.unwrap();
    super::migrate::<Own>(&database).await.unwrap();
    let made: Result<u64, Error> = database
        .write(|tx| {
            Box::pin(async move {
                tx.run("CREATE TABLE IF NOT EXISTS kept (number BIGINT PRIMARY KEY)", params![]).await?;
                let sql = "CREATE TABLE IF NOT EXISTS child (kept BIGINT REFERENCES kept DEFERRABLE INITIALLY DEFERRED)";
                tx.run(sql, params![]).await
            })
        })
        .await;
    made.unwrap();
    database
}

async fn keep(database: &Database, number: i64) -> Result<u64, Error> {
    database
        .write(move |tx| {
            Box::pin(async move { tx.run("INSERT INTO kept VALUES ($1)", params![number]).await })
        })
        .await
}

/// A change under which SQLite ends the transaction, as it does when the disk is full, and which then fails.
async fn fall_over(database: &Database) -> Result<u64, Error> {
    database
        .write(|tx| {
            Box::pin(async move {
                tx.execute_unprepared("ROLLBACK").await?;
                Err(Error::from(DbErr::Custom("database or disk is full".into())))
            })
        })
        .await
}

/// A change whose commit fails, which leaves its transaction open.
async fn fail_to_commit(database: &Database) -> Result<u64, Error> {
    database
        .write(|tx| Box::pin(async move { tx.run("INSERT INTO child VALUES (-1)", params![]).await }))
        .await
}

/// The rows that another connection sees, which only ever sees what is committed.
async fn kept(database: &Database) -> Vec<i64> {
    let rows = database.read().all("SELECT number FROM kept ORDER BY number", params![]).await.unwrap();
    rows.iter().map(|row| row.int("number").unwrap()).collect()
}

/// A version of the program, by the migrations that it has.
macro_rules! version {
    ($version:ident: $($name:literal)*) => {
        struct $version;

        impl MigratorTrait for $version {
            fn migrations() -> Vec<Box<dyn MigrationTrait>> {
                let of = |name| Migration { name, postgres: None, statements: &["SELECT 1"] };
                vec![$(Box::new(of($name)) as Box<dyn MigrationTrait>),*]
            }
        }
    };
}
version!(Before: "a_0001");
version!(Now: "a_0001" "a_0002");
version!(Other: "a_0001" "b_0001");

#[tokio::test]
async fn a_version_whose_migrations_have_all_run_starts_on_a_newer_ones_schema() {
    for place in [TestDatabase::empty(), TestDatabase::on_postgres()] {
        let database = Database::open(&place.dsn().parse().unwrap()).await.unwrap();
        super::migrate::<Before>(&database).await.unwrap();
        assert_eq!(super::pending::<Now>(&database).await.unwrap(), ["a_0002"]);
        super::migrate::<Now>(&database).await.unwrap();
        assert!(super::pending::<Now>(&database).await.unwrap().is_empty());

        super::migrate::<Before>(&database).await.unwrap();
        assert!(super::pending::<Before>(&database).await.unwrap().is_empty());
        super::migrate::<Now>(&database).await.unwrap();

        // Of versions that each know what the other does not, neither may guess.
        let refused = super::migrate::<Other>(&database).await.unwrap_err().to_string();
        assert!(refused.contains("b_0001 has not run") && refused.contains("know a_0002"), "{refused}");
        assert_eq!(super::pending::<Other>(&database).await.unwrap(), ["b_0001"]);
    }
}

#[tokio::test]
async fn after_a_commit_that_failed_the_next_changes_are_really_stored() {
    let (_folder, database) = database().await;
    keep(&database, 1).await.unwrap();
    for number in 2..5 {
        assert!(matches!(fall_over(&database).await, Err(Error::Full)));
        assert!(matches!(fail_to_commit(&database).await, Err(Error::Stopped(_))));
        keep(&database, number).await.unwrap();
    }
    assert_eq!(kept(&database).await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn changes_that_shared_a_commit_with_one_that_ended_it_are_stored_or_refused() {
    let (_folder, database) = database().await;
    let answers = join_all((0..60_i64).map(|number| {
        let database = database.clone();
        async move {
            let answer = match number % 7 {
                3 => fall_over(&database).await,
                _ => keep(&database, number).await,
            };
            (number, answer)
        }
    }))
    .await;
    let (stored, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(_, answer)| answer.is_ok());
    assert_eq!(kept(&database).await, stored.iter().map(|(number, _)| *number).collect::<Vec<_>>());
    let honest = |answer: &Result<u64, Error>| matches!(answer, Err(Error::Full | Error::Stopped(_)));
    assert!(refused.iter().all(|(_, answer)| honest(answer)), "{refused:?}");
    keep(&database, 100).await.unwrap();
    assert_eq!(kept(&database).await.last(), Some(&100));
}

#[tokio::test]
async fn a_change_that_panics_is_undone_alone_and_the_writer_goes_on() {
    let (_folder, database) = database().await;
    let panics = || {
        database.write(|tx| {
            Box::pin(async move {
                tx.run("INSERT INTO kept VALUES (13)", params![]).await?;
                assert_eq!(1, 2, "on purpose");
                Ok::<_, Error>(())
            })
        })
    };
    assert!(matches!(panics().await, Err(Error::Panicked)));
    let (first, panicked, second) = tokio::join!(keep(&database, 1), panics(), keep(&database, 2));
    assert!(matches!(panicked, Err(Error::Panicked)));
    assert_eq!((first.unwrap(), second.unwrap()), (1, 1));
    assert_eq!(kept(&database).await, [1, 2]);
    database.ready().await.unwrap();
}

#[tokio::test]
async fn changes_of_two_processes_come_one_after_the_other() {
    let (kept_in, first) = database().await;
    let second = open(kept_in.dsn()).await;
    let count = |database: Database| async move {
        let counted: Result<u64, Error> = database
            .write(|tx| {
                Box::pin(async move {
                    let seen = tx.one("SELECT COUNT(*) AS seen FROM kept", params![]).await?;
                    let seen = seen.map_or(Ok(0), |row| row.int("seen"))?;
                    tx.run("INSERT INTO kept VALUES ($1)", params![seen]).await
                })
            })
            .await;
        counted.unwrap()
    };
    for _ in 0..20 {
        join_all((0..6).map(|number| count(if number % 2 == 0 { first.clone() } else { second.clone() })))
            .await;
    }
    assert_eq!(kept(&first).await, (0..120).collect::<Vec<_>>());
}

#[tokio::test]
async fn every_text_is_read_as_it_was_written() {
    let (_folder, database) = database().await;
    let texts = ["", "a\0b", "\u{f8ff}0", "\u{1f600} \" ' \\", "{\"a\": \"\\u0000\"}"];
    let written: Result<(), Error> = database
        .write(move |tx| {
            Box::pin(async move {
                tx.run("CREATE TABLE texts (number BIGINT PRIMARY KEY, said TEXT NOT NULL)", params![])
                    .await?;
                for (number, text) in (0_i64..).zip(texts) {
                    tx.run("INSERT INTO texts VALUES ($1, $2)", params![number, text]).await?;
                }
                Ok(())
            })
        })
        .await;
    written.unwrap();
    for text in texts {
        let found =
            database.read().all("SELECT said FROM texts WHERE said = $1", params![text]).await.unwrap();
        assert_eq!(found.iter().map(|row| row.text("said").unwrap()).collect::<Vec<_>>(), [text]);
    }
}
