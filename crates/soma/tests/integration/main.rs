//! The program from outside: the real binary as a process on loopback, with a data folder of its own and a model
//! server that follows a script.
//!
//! Tests are named after promises. None sleeps: each waits for a condition, within a bound.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that can't do its work fails its test"
)]

mod harness;

mod approvals;
mod audit_findings;
mod auditing;
mod bad_input;
mod bounds;
mod branches;
mod chat;
mod conversations;
mod crashes;
mod disk;
mod edge;
mod edge_rules;
mod escalation;
mod files;
mod grants;
mod idempotency;
mod interrupting;
mod misbehaving_models;
mod on_kafka;
mod on_keycloak;
mod on_opa;
mod on_openbao;
mod on_postgres;
mod on_redis;
mod on_temporal;
mod openai_agents;
mod openai_models;
mod operations;
mod people;
mod replaying;
mod resuming;
mod retention;
mod rights;
mod search;
mod second_factor;
mod secret_sources;
mod sign_in;
mod single_sign_on;
mod source;
mod steps;
mod tenancy;
mod tenants;
mod tidy;
mod traces;
mod usage;
mod walk;
mod websocket;
