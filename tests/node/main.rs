//! Real processes and real sockets.

mod cli;
mod http;
#[path = "../support/mod.rs"]
mod support;
