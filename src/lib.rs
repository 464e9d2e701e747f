//! stanby serves NATS Streaming clients from an active/standby pair over Postgres.
//!
//! | module | what it is for |
//! |---|---|
//! | [`core`] | pure: every decision about clients, channels, subscriptions and messages |
//! | [`protocol`] | pure: subjects, protobuf, the exact texts of refusals |
//! | [`leadership`] | the one Postgres session that holds the lock and carries every write |
//! | [`store`] | the SQL: apply a batch, load messages and the snapshot, migrations |
//! | [`nats`] | NATS subscriptions to events, outbound messages to publishes |
//! | [`node`] | the role loop (standby, active) and the active loop, where the others meet |
//! | [`monitoring`] | a node's status and conditions, and lists of its clients and channels |
//! | [`administration`] | asks the active for what an operator wants, through the tables |
//! | [`http`] | health, role and monitoring; the API and the console of operators |
//! | [`server`] | a server inside another program, in a few lines |
//! | [`former`] | pure: what nats-streaming-server keeps in SQL, as rows of ours |
//! | [`amounts`] | pure: amounts and lengths of time in few letters |
//! | [`printable`] | pure: names that strangers chose, fit for a line |
//! | [`postgres`] | opens sessions where the database URL leads |
//! | `happy_eyeballs` | tries several addresses beside each other |
//! | [`clock`] | the only place that reads a clock |
//! | [`certificates`] | pure: whether a server's certificate is believed, as libpq and Go do it |
//! | [`config`] | flags and environment to one validated `Config` |
//! | [`cli`] | one file per subcommand |
//! | [`log_queue`] | log lines on their way out of the process, which nobody waits for |
//! | [`dev`] | the laptop's supervisor: Postgres, nats-server, an active and a standby |
//!
//! ARCHITECTURE.md says how they work together and which invariants hold.

pub mod administration;
pub mod amounts;
pub mod certificates;
pub mod cli;
pub mod clock;
pub mod config;
pub mod core;
pub mod dev;
pub mod former;
mod happy_eyeballs;
pub mod http;
pub mod leadership;
pub mod log_queue;
pub mod monitoring;
pub mod nats;
pub mod node;
pub mod postgres;
pub mod printable;
pub mod protocol;
pub mod server;
pub mod store;

pub use server::Server;
