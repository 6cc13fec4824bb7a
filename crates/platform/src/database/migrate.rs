//! Migrations: each domain lists its own, and they run in the order of the `domains!` list.

use std::collections::BTreeSet;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};
use sea_orm_migration::{MigrationName, MigratorTrait, SchemaManager};

pub use sea_orm_migration::MigrationTrait;

use super::{Database, Error, Location, postgres};

/// A change of the schema, run once, in one transaction.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Sorted by name within a domain; never renamed once released.
    pub name: &'static str,
    /// Where PostgreSQL needs statements of its own.
    pub postgres: Option<&'static [&'static str]>,
    pub statements: &'static [&'static str],
}

impl MigrationName for Migration {
    fn name(&self) -> &str {
        self.name
    }
}

impl Migration {
    /// Runs its statements.
    pub async fn apply(&self, connection: &impl ConnectionTrait) -> Result<(), DbErr> {
        if connection.get_database_backend() == DbBackend::Postgres {
            for statement in self.postgres.unwrap_or(self.statements) {
                connection.execute_unprepared(&postgres::by_bytes(statement)).await?;
            }
        } else {
            for statement in self.statements {
                connection.execute_unprepared(statement).await?;
            }
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        self.apply(manager.get_connection()).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

/// How long another process's migration is waited for.
const OTHERS_WAIT: &str = "SET lock_timeout = '5min'";
/// How long one statement waits for readers: everybody who comes after it waits behind it.
const READERS_WAIT: &str = "SET lock_timeout = '10s'";

/// Brings the schema up to date. Safe to call at every start, and by several processes at once. A schema that a newer
/// version has changed since is left as it is: this version goes on with it.
pub async fn migrate<M: MigratorTrait>(database: &Database) -> Result<(), Error> {
    let connection = super::connect(database.location(), false).await?;
    if let Location::Postgres(_) = database.location() {
        connection.execute_unprepared(OTHERS_WAIT).await?;
        // Held until the connection closes.
        let lock = format!("SELECT pg_advisory_lock({})", postgres::MIGRATION);
        connection.execute_unprepared(&lock).await?;
        connection.execute_unprepared(READERS_WAIT).await?;
    }
    let state = State::of::<M>(&connection).await?;
    match (state.pending.is_empty(), state.unknown.is_empty()) {
        (true, _) => {}
        (false, true) => M::up(&connection, None).await?,
        (false, false) => {
            return Err(Error::OtherVersion(state.pending.join(", "), state.unknown.join(", ")));
        }
    }
    Ok(connection.close().await?)
}

/// Names of the migrations that have not run. Those that a newer version of this program has run beside them are no
/// fault: the version before it goes on with the schema that it made.
pub async fn pending<M: MigratorTrait>(database: &Database) -> Result<Vec<String>, Error> {
    Ok(State::of::<M>(database.read()).await?.pending)
}

/// Which migrations a database has had, held against those that this version has.
struct State {
    /// Those that have not run.
    pending: Vec<String>,
    /// Those that another version has run.
    unknown: Vec<String>,
}

impl State {
    async fn of<M: MigratorTrait>(connection: &DatabaseConnection) -> Result<Self, Error> {
        let mut run = BTreeSet::new();
        if SchemaManager::new(connection).has_table(TABLE).await? {
            let sql = format!("SELECT version FROM {TABLE}");
            let rows =
                connection.query_all_raw(Statement::from_string(connection.get_database_backend(), sql));
            for row in rows.await? {
                run.insert(row.try_get::<String>("", "version")?);
            }
        }
        let known: Vec<String> = M::migrations().iter().map(|one| one.name().to_owned()).collect();
        let pending = known.iter().filter(|name| !run.contains(*name)).cloned().collect();
        let unknown = run.into_iter().filter(|name| !known.contains(name)).collect();
        Ok(Self { pending, unknown })
    }
}

/// Where the library notes which have run.
const TABLE: &str = "seaql_migrations";
