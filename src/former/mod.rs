//! What nats-streaming-server keeps in a SQL store or in files, and what becomes of it here. Pure: rows or bytes in,
//! rows out.
//!
//! | file | what it knows |
//! |---|---|
//! | [`records`] | its protobuf records, checked as they are read |
//! | [`pending`] | what a subscription was sent and has not acked, from several rows |
//! | [`messages`] | a stored message, as one of ours |
//! | [`encryption`] | payloads that its encryption has made |
//! | [`error`] | what is wrong with a file, a row or a record |
//! | [`problems`], [`findings`] | what cannot be taken over, and what is reported about the rest |
//! | [`files`] | the form of its files |
//! | [`raft`] | the log and the snapshots of a Raft node |
//! | [`return_way`] | rows of ours as its records, for those who go back |
//! | [`monitored`] | what the monitoring pages of a running server tell of its durables |
//! | [`adopt`] | which clients, channels, subscriptions and positions all of that makes |
//!
//! Reading its tables is `store/former`'s, opening its files `store/files`', and when to do it `node/import`'s.

pub mod adopt;
pub mod encryption;
pub mod error;
pub mod files;
pub mod findings;
pub mod messages;
pub mod monitored;
pub mod pending;
pub mod problems;
pub mod raft;
pub mod records;
pub mod return_way;

pub use adopt::{Adopted, Former, adopt};
pub use encryption::Keys;
pub use error::Broken;
pub use findings::Findings;
pub use problems::Problems;
