//! The laptop's supervisor behind `stanby dev`: a private Postgres, a nats-server, and two servers that
//! race for the active role.
//!
//! | file | what it is for |
//! |---|---|
//! | `supervisor.rs` | starts everything, tells what happens, stops everything |
//! | `screen.rs` | the texts of the terminal |
//! | `server.rs` | one `stanby serve` child and what its health endpoint says |
//! | `postgres.rs`, `initdb.rs` | the managed Postgres; its data directory |
//! | `nats.rs` | the managed nats-server |
//! | `process.rs`, `guardian.rs` | a child process; what stops children when the supervisor is killed |
//! | `directory.rs` | the data directory: layout, lock, temporary ones |
//! | `account.rs` | as whom Postgres runs when the supervisor is root |
//!
//! Nothing here is used by `stanby serve`; the tests use the parts to run a real Postgres and nats-server.

pub mod account;
pub mod directory;
mod error;
pub mod guardian;
mod initdb;
pub mod nats;
pub mod postgres;
pub mod process;

pub use error::Error;
