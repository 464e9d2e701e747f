//! What is wrong with what nats-streaming-server kept.

use crate::protocol::client;

/// As the end of a sentence about a file, a row or a record. Callers only report it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("{0}")]
    Content(String),
    #[error(transparent)]
    Protobuf(#[from] prost::DecodeError),
    #[error(transparent)]
    Message(#[from] client::Error),
}

impl From<String> for Broken {
    fn from(why: String) -> Self {
        Self::Content(why)
    }
}

impl From<&str> for Broken {
    fn from(why: &str) -> Self {
        Self::Content(why.to_owned())
    }
}
