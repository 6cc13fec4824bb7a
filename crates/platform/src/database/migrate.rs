//! Migrations: each domain lists its own, and they run in the order of the `domains!` list.

use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigratorTrait, SchemaManager};

pub use sea_orm_migration::MigrationTrait;

use super::{Database, Error};

/// A change of the schema as portable SQL, run once, in one transaction.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Sorted by name within a domain; never renamed once released.
    pub name: &'static str,
    pub statements: &'static [&'static str],
}

impl MigrationName for Migration {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in self.statements {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

/// Brings the schema up to date. Safe to call at every start.
pub async fn migrate<M: MigratorTrait>(database: &Database) -> Result<(), Error> {
    let connection = super::connect(database.path(), 1, false).await?;
    M::up(&connection, None).await?;
    Ok(connection.close().await?)
}

/// Names of the migrations that have not run.
pub async fn pending<M: MigratorTrait>(database: &Database) -> Result<Vec<String>, Error> {
    let pending = M::get_pending_migrations_read_only(database.read()).await?;
    Ok(pending.iter().map(|migration| migration.name().to_owned()).collect())
}
