//! The directory of a file store of nats-streaming-server, opened to be read and never written. What the bytes mean is
//! [`crate::former::files`]'.
//!
//! | file | what |
//! |---|---|
//! | [`directory`] | the root: server, clients, which channels there are |
//! | [`channel`] | one channel: its slices of messages, its subscriptions |
//! | [`raft`] | nodes of a Raft cluster, and which of them counts |
//! | [`fingerprint`] | what tells a directory again |
//! | `in_use` | whether a process has the directory open |

pub mod channel;
pub mod directory;
pub mod fingerprint;
mod in_use;
pub mod raft;

pub use channel::ChannelFiles;
pub use directory::FileStore;
pub use raft::{Cluster, NodePlace, RaftNode};
