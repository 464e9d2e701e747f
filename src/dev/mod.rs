//! The laptop's supervisor behind `stanby dev`: a private Postgres, a nats-server, and two servers that
//! race for the active role.
//!
//! | file | what it is for |
//! |---|---|
//! | `supervisor.rs` | starts everything, reports what happens, stops everything |
//! | `screen.rs` | the texts of the terminal |
//! | `servers.rs`, `server.rs` | the two `stanby serve` children; one of them, and what its health page says |
//! | `console.rs` | the token that people log in to the consoles with |
//! | `follow.rs` | shows what is added to a log |
//! | `postgres.rs`, `initdb.rs` | the managed Postgres; its data directory |
//! | `nats.rs` | the managed nats-server |
//! | `process.rs`, `guardian.rs`, `orphan.rs`, `start_time.rs` | a child process; what stops children when the supervisor is killed, and what tells them from later processes |
//! | `directory.rs` | the data directory: layout, lock, temporary ones |
//! | `error.rs` | what can go wrong with the children |
//! | `account.rs` | as whom Postgres runs when the supervisor is root |
//!
//! `stanby serve` uses what finds nats-server and what stops it when the server was killed; the tests use the parts to run a
//! real Postgres and nats-server.

mod account;
mod console;
pub mod directory;
mod error;
mod follow;
pub mod guardian;
mod initdb;
pub mod nats;
mod orphan;
pub mod postgres;
pub mod process;
mod screen;
mod server;
mod servers;
mod start_time;
mod supervisor;

pub use error::Error;
pub use supervisor::{DEFAULT_CLUSTER_ID, DEFAULT_HTTP_PORT, DEFAULT_PORT, DevOptions, run};
