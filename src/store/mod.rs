//! The tables: migrations, the snapshot and the loads through a pool of reading connections, and the writer
//! that applies a batch on a session it is given. Who may write, and when, is decided elsewhere: this module
//! opens no session that writes (migrations and VACUUM apart) and knows nothing of locks and terms.
//!
//! [`pool::Store`] is the reading side, [`writer::Writer`] the writing one, [`status`] what an operator asks,
//! [`measure`] what `stanby bench` asks, [`encryption`] what payloads are encrypted with, [`former`] reads the tables of
//! nats-streaming-server, which [`import::Importer`] writes into ours.
//! To add a column: a new file in `migrations/`, then `writer/` and `snapshot.rs`.

mod ack_secret;
mod additions;
mod copy;
mod dead_letters;
pub mod encryption;
mod error;
mod feed;
mod fence;
pub mod files;
pub mod former;
pub mod gone;
mod high_water_marks;
mod holders;
mod identifier;
mod import;
mod imports;
mod load;
pub mod measure;
mod migrate;
mod oldest;
mod on_session;
mod outbox;
mod pages;
mod policies;
mod pool;
mod pooled_connection;
mod proven;
mod reader;
pub mod refill;
pub mod refused;
pub mod replay;
pub mod requests;
mod rights;
mod row_by_row;
mod row_hash;
mod rows;
pub mod served;
mod server_info;
mod snapshot;
mod source;
mod sql_acks;
pub mod status;
mod unlogged;
mod vacuum;
mod version;
pub mod views;
mod writer;

pub use additions::Addition;
pub use copy::{CopyEncoder, CopyRows};
pub use encryption::Keyring;
pub use error::Error;
pub use feed::Feed;
pub use fence::Reads;
pub use files::FileStore;
pub use former::{FormerStore, FormerTables, NewTables};
pub use import::Importer;
pub use imports::{ImportNote, Noted};
pub use migrate::NEWEST as SCHEMA_VERSION;
pub use oldest::Oldest;
pub use pages::{Page, PageSize};
pub use pool::Store;
pub use rights::MissingRight;
pub use server_info::ServerInfo;
pub use unlogged::Unlogged;
pub use version::SchemaVersion;
pub use writer::{LeftForLater, Writer};
