//! The adapters against real servers, and whole nodes: real processes and real sockets.

mod cli;
mod http;
mod nats;
#[path = "../support/mod.rs"]
mod support;
