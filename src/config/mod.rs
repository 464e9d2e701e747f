//! Flags, environment and files to one validated [`Config`].
//!
//! [`arguments`] turns the spellings of `nats-streaming-server` into ours, [`flags`] says which flags there
//! are, [`file`] reads configuration files, [`sources`] puts them together in their order of precedence,
//! [`serve`] checks the result and makes the `Config`; [`database`] and [`nats`] are about the two servers it
//! names; [`TablesFlags`] is what commands take that only look at the tables. Every default that is not the
//! core's lives here. Nothing here connects to anything.

pub mod arguments;
pub mod channel_limits;
pub mod database;
pub mod duration;
pub mod effective;
pub mod encryption;
pub mod error;
pub mod file;
pub mod flags;
mod former;
mod go_integer;
mod limits;
pub mod log;
pub mod managed_nats;
pub mod mysql;
pub mod nats;
mod notes;
pub mod pages;
mod partition;
pub mod secret;
pub mod serve;
pub mod shadow;
pub mod size;
pub mod sources;
pub mod spellings;
mod tables;

pub use database::DatabaseUrl;
pub use encryption::Encryption;
pub use error::Error;
pub use flags::{DatabaseFlags, ServeFlags};
pub use former::FormerLimits;
pub use mysql::MySqlUrl;
pub use nats::{NatsConfig, NatsFlags};
pub use notes::Notes;
pub use secret::Secret;
pub use serve::Config;
pub use sources::Sources;
pub use tables::TablesFlags;
