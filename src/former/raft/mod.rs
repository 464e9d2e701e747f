//! What a node of a Raft cluster of nats-streaming-server keeps beside its file store: clients, subscriptions and positions
//! are in the log and in snapshots alone. From any source of bytes.
//!
//! | file | what it knows |
//! |---|---|
//! | [`bolt`] | the database file that holds the log |
//! | [`entry`] | entries of the log, and the nodes of the cluster |
//! | [`history`] | whether two logs can be those of one cluster |
//! | [`records`] | its protobuf records |
//! | [`snapshot`] | snapshots |
//! | [`state`] | what entries, one after the other, make of the state |
//!
//! Opening the files is `store/files/raft`'s.

pub mod bolt;
pub mod entry;
pub mod history;
pub mod records;
pub mod snapshot;
pub mod state;
