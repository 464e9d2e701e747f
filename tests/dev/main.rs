//! The managed Postgres and nats-server, and the harness that the other levels stand on.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod harness;
mod supervisor;
