//! Stand-ins for the world outside, for tests and benchmarks: a model server that follows a script, an identity provider
//! that signs whatever a test wants, a mail server, a collector of traces, and a ledger of effects that counts what
//! really happened.
//!
//! They are real servers on loopback with a thread of their own, so that they outlive whatever a test kills.
//! These know neither the database nor the domains; only [`contract`], what every workflow engine promises, [`database`],
//! which makes one for a test, and [`chaos`], which kills the whole program, do. [`engines`] are the real ones.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test helper that can't do its work should fail the test, loudly and at once"
)]

pub mod chaos;
pub mod contract;
pub mod database;
pub mod effects;
pub mod engines;
pub mod identity_provider;
pub mod mail_server;
pub mod model_server;
mod server;
pub mod topics;
pub mod trace_receiver;

pub use database::TestDatabase;
pub use effects::EffectLedger;
pub use engines::{OwnEngine, Printed, engines};
pub use identity_provider::IdentityProvider;
pub use mail_server::MailServer;
pub use model_server::{Answer, ParsedRequest, Script, ScriptedModel};
pub use topics::Topics;
