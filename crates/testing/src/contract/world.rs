//! The world that steps change: a database that several processes may have open.

use std::sync::Arc;

use contracts::RunId;
use platform::{
    database::{self, Database, Location, Migration, MigrationTrait, MigratorTrait, Row, Sql, Tx},
    durable::{Ledger, StepError, Worker, signal, unix_ms},
    params,
};

use super::{Scenario, until};
use crate::TestDatabase;

macro_rules! tables {
    ($id:literal) => {
        &[
            "CREATE TABLE scenarios (run_id TEXT PRIMARY KEY, scenario TEXT NOT NULL)",
            // What happened outside: nothing undoes it.
            concat!(
                "CREATE TABLE effects (id ",
                $id,
                ", run_id TEXT NOT NULL, name TEXT NOT NULL, detail TEXT NOT NULL, ordinal BIGINT NOT NULL)"
            ),
            // What commits with a step.
            concat!("CREATE TABLE changes (id ", $id, ", run_id TEXT NOT NULL, name TEXT NOT NULL)"),
            "CREATE TABLE gates (run_id TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (run_id, name))",
            concat!("CREATE TABLE ends (id ", $id, ", run_id TEXT NOT NULL, outcome TEXT NOT NULL)"),
        ]
    };
}

const TABLES: Migration = Migration {
    name: "world_0001",
    postgres: Some(tables!("BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY")),
    statements: tables!("INTEGER PRIMARY KEY"),
};

struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let all = platform::durable::MIGRATIONS.iter().chain([&TABLES]);
        all.map(|migration| Box::new(*migration) as Box<dyn MigrationTrait>).collect()
    }
}

/// Something that a step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    pub name: String,
    pub detail: String,
    pub ordinal: i64,
}

#[derive(Debug)]
pub struct World {
    database: Database,
}

impl World {
    /// A new world, and the database that it is in, which ends with it.
    pub async fn create() -> (TestDatabase, Arc<Self>) {
        let place = TestDatabase::migrated::<Migrator>();
        let world = Self::open(place.dsn()).await;
        (place, world)
    }

    /// Opens one that there is.
    pub async fn open(dsn: &str) -> Arc<Self> {
        let location: Location = dsn.parse().expect("a connection string");
        Arc::new(Self { database: Database::open(&location).await.expect("the world's database opens") })
    }

    #[must_use]
    pub fn ledger(&self) -> Ledger {
        Ledger::new(self.database.clone())
    }

    /// A run to start, and what it does.
    pub async fn run(&self, scenario: Scenario) -> RunId {
        let run = RunId::new();
        let text = serde_json::to_string(&scenario).expect("a scenario is JSON");
        self.insert("INSERT INTO scenarios (run_id, scenario) VALUES ($1, $2)", vec![run.to_string(), text])
            .await;
        run
    }

    pub async fn scenario(&self, run: RunId) -> Scenario {
        let sql = "SELECT scenario FROM scenarios WHERE run_id = $1";
        let row = self.database.read().one(sql, params![run]).await.expect("scenarios are read");
        row.expect("the run has a scenario").json("scenario").expect("a scenario")
    }

    /// Does something that can't be undone.
    pub async fn effect(&self, run: RunId, ordinal: u32, name: &str, detail: &str) {
        let (name, detail) = (name.to_owned(), detail.to_owned());
        let sql = "INSERT INTO effects (run_id, name, detail, ordinal) VALUES ($1, $2, $3, $4)";
        let values = params![run, name, detail, i64::from(ordinal)];
        let done: Result<(), database::Error> =
            self.database.write(move |tx| Box::pin(async move { tx.run(sql, values).await.map(drop) })).await;
        done.expect("an effect is written");
    }

    /// Everything of `name` that the run's steps did, in order.
    pub async fn effects(&self, run: RunId, name: &str) -> Vec<Effect> {
        self.all_effects(run).await.into_iter().filter(|effect| effect.name == name).collect()
    }

    pub async fn all_effects(&self, run: RunId) -> Vec<Effect> {
        let sql = "SELECT name, detail, ordinal FROM effects WHERE run_id = $1 ORDER BY id";
        let rows = self.database.read().all(sql, params![run]).await.expect("effects are read");
        let effect = |row: &Row| {
            let (name, detail) = (row.text("name")?, row.text("detail")?);
            Ok::<_, database::Error>(Effect { name, detail, ordinal: row.int("ordinal")? })
        };
        rows.iter().map(|row| effect(row).expect("an effect")).collect()
    }

    /// Waits until the run's steps did `name` `count` times.
    pub async fn seen(&self, run: RunId, name: &str, count: usize) {
        until(&format!("{name} {count} times"), || async move {
            (self.effects(run, name).await.len() >= count).then_some(())
        })
        .await;
    }

    /// A change that commits with the step that makes it.
    pub async fn change(tx: &Tx, run: RunId, name: &str) -> Result<(), StepError> {
        tx.run("INSERT INTO changes (run_id, name) VALUES ($1, $2)", params![run, name]).await?;
        Ok(())
    }

    /// A change that breaks a constraint.
    pub async fn clash(tx: &Tx, run: RunId) -> Result<(), StepError> {
        tx.run("INSERT INTO scenarios (run_id, scenario) VALUES ($1, $2)", params![run, "again"]).await?;
        Ok(())
    }

    pub async fn changes(&self, run: RunId, name: &str) -> usize {
        let sql = "SELECT id FROM changes WHERE run_id = $1 AND name = $2";
        self.database.read().all(sql, params![run, name]).await.expect("changes are read").len()
    }

    /// Lets steps that wait for `name` go on.
    pub async fn open_gate(&self, run: RunId, name: &str) {
        let values = vec![run.to_string(), name.to_owned()];
        self.insert("INSERT INTO gates (run_id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING", values).await;
    }

    /// Records a signal, as a change of the program would.
    pub async fn signal(&self, run: RunId, name: &str) {
        let name = name.to_owned();
        let done: Result<(), database::Error> = self
            .database
            .write(move |tx| Box::pin(async move { signal(tx, run, &name, unix_ms()).await }))
            .await;
        done.expect("a signal is written");
    }

    pub async fn gate(&self, run: RunId, name: &str) {
        let sql = "SELECT 1 AS one FROM gates WHERE run_id = $1 AND name = $2";
        until(&format!("gate {name}"), || async {
            self.database.read().one(sql, params![run, name]).await.expect("gates are read").map(drop)
        })
        .await;
    }

    /// How the run ended, as its worker was told; each time it was told.
    pub async fn ends(&self, run: RunId) -> Vec<Result<(), StepError>> {
        let sql = "SELECT outcome FROM ends WHERE run_id = $1 ORDER BY id";
        let rows = self.database.read().all(sql, params![run]).await.expect("ends are read");
        let error = |row: &Row| row.json::<Option<StepError>>("outcome").expect("an outcome");
        rows.iter().map(|row| error(row).map_or(Ok(()), Err)).collect()
    }

    /// The state that the ledger has of a step.
    pub async fn state(&self, run: RunId, ordinal: u32) -> Option<String> {
        let sql = "SELECT state FROM steps WHERE run_id = $1 AND ordinal = $2";
        let row =
            self.database.read().one(sql, params![run, i64::from(ordinal)]).await.expect("steps are read");
        row.map(|row| row.text("state").expect("a state"))
    }

    async fn insert(&self, sql: &'static str, values: Vec<String>) {
        let values = values.into_iter().map(platform::database::Value::from).collect();
        let done: Result<(), database::Error> =
            self.database.write(move |tx| Box::pin(async move { tx.run(sql, values).await.map(drop) })).await;
        done.expect("a row is written");
    }
}

impl Worker for World {
    async fn ended(self: Arc<Self>, run: RunId, outcome: Result<(), StepError>) {
        let text = serde_json::to_string(&outcome.err()).expect("an outcome is JSON");
        self.insert("INSERT INTO ends (run_id, outcome) VALUES ($1, $2)", vec![run.to_string(), text]).await;
    }
}
