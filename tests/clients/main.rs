//! Unmodified clients of NATS Streaming against two servers: what an application of theirs sees.

#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

#[path = "../support/mod.rs"]
mod support;

mod pair;
mod partition;
mod script;
mod steps;
mod takeover;
