//! The managed Postgres and nats-server, and the harness that the other levels stand on.

#[path = "../support/mod.rs"]
mod support;

mod harness;
