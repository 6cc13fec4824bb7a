//! The domains: one folder each. Where a domain has them, `api` parses and answers, `service` decides, `store` holds the
//! SQL; a large one has a folder for each topic instead.
//!
//! A domain uses another's service, never its store. A new domain is mounted by one line in [`domains!`].

mod app;
mod authority;
mod router;
#[cfg(test)]
mod tests;

pub mod agents;
pub mod approvals;
pub mod audit;
pub mod conversations;
pub mod events;
pub mod identity;
pub mod models;
pub mod openai;
pub mod operations;
pub mod permissions;
pub mod seed;
pub mod tenants;
pub mod tools;
pub mod usage;

pub use app::{App, BuildError, Parts, open_database, open_migrated_database, prepare_database};
pub use authority::{Counted, Meter, take_quota, whole_seconds};
pub use router::{AssembleError, Assembled, Domain, assemble};

use platform::database::{Migration, MigrationTrait, MigratorTrait};

/// Names every domain once: its routes are mounted and its migrations run, in this order.
macro_rules! domains {
    ($($domain:ident),+ $(,)?) => {
        pub const DOMAINS: &[Domain] = &[$($domain::DOMAIN),+];
    };
}

domains![
    tenants,
    identity,
    permissions,
    agents,
    models,
    conversations,
    tools,
    approvals,
    audit,
    usage,
    operations,
    openai
];

/// What a process has that takes no requests but is watched over: health and metrics.
pub const WATCHED: &[Domain] = &[operations::DOMAIN];

/// Every migration of the platform and of the domains.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let of_platform = platform::durable::MIGRATIONS
            .iter()
            .chain(platform::idempotency::MIGRATIONS)
            .chain(platform::database::MIGRATIONS)
            .chain(platform::outbox::MIGRATIONS);
        let of_domains = DOMAINS.iter().flat_map(|domain| domain.migrations);
        of_platform
            .chain(of_domains)
            .map(|migration: &Migration| Box::new(*migration) as Box<dyn MigrationTrait>)
            .collect()
    }
}
