//! What every domain stands on: configuration, secrets, policy, the database, durable workflows, HTTP, telemetry,
//! rate limits and the egress guard.
//!
//! Nothing here knows a domain: no agent, no conversation, no tool.

pub mod canonical;
pub mod config;
pub mod database;
pub mod durable;
pub mod egress;
pub mod faults;
pub mod http;
pub mod hub;
pub mod idempotency;
pub mod lease;
pub mod limiter;
pub mod mail;
pub mod outbox;
pub mod policy;
pub mod redis;
pub mod remembered;
pub mod secrets;
pub mod task;
pub mod telemetry;
pub mod vault;
