//! The directory of a file store of nats-streaming-server, opened to be read and never written, or created. What the bytes mean is
//! [`crate::former::files`]'.
//!
//! | file | what |
//! |---|---|
//! | [`directory`] | the root: server, clients, which channels there are |
//! | [`channel`] | one channel: its slices of messages, its subscriptions |
//! | [`cluster`] | the nodes of a Raft cluster: whether they belong together, and which of them is imported |
//! | [`raft`] | one of them |
//! | [`fingerprint`] | recognizes a directory |
//! | [`export`] | a directory that is made, for those who go back |
//! | `in_use` | whether a process has the directory open |

pub mod channel;
pub mod cluster;
pub mod directory;
pub mod export;
pub mod fingerprint;
mod in_use;
pub mod raft;

pub use channel::ChannelFiles;
pub use cluster::{Cluster, Expected};
pub use directory::FileStore;
pub use raft::{NodePlace, RaftNode};
