//! Health, role and monitoring over HTTP; read-only, without authentication, and nothing in it is secret.
//!
//! Fed by a watch on [`Status`](crate::node::status::Status) and by the clock, nothing else: it neither asks the
//! database nor NATS, so that it answers while both are away. [`server`] lists the paths.

pub mod error;
mod format;
mod health;
mod index;
mod listener;
mod metrics;
mod process;
pub mod server;
mod serverz;
mod view;

pub use error::Error;
pub use server::Server;
