//! What can fail between the node and NATS, by what the caller can do about it.

use std::time::Duration;

use thiserror::Error;

use super::dial::DialError;

#[derive(Debug, Error)]
pub enum Error {
    /// To be tried again.
    #[error(
        "cannot connect to NATS at {servers}; check that nats-server runs there and can be reached \
         from this machine"
    )]
    Unreachable {
        servers: String,
        #[source]
        source: DialError,
    },
    /// Not worth trying again before somebody changes something.
    #[error(
        "NATS at {servers} does not accept the credentials; check the user and password, token, credentials \
         file or nkey seed that this server is given"
    )]
    Unauthorized { servers: String },
    #[error("{0}")]
    InvalidSettings(String),
    #[error("cannot read {what} {path}; check that the file exists and is readable and complete")]
    UnreadableFile {
        what: &'static str,
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("NATS has not answered within {0:?}; the connection is down or the server overloaded")]
    NoAnswer(Duration),
    /// What was under way may or may not have arrived.
    #[error("the connection to NATS was lost before it answered")]
    Lost,
    #[error(
        "{subject:?} is no subject of NATS: it is empty, or has blanks or control characters in it"
    )]
    InvalidSubject { subject: String },
    #[error("a message of {size} bytes is more than NATS takes ({max}); raise its max_payload")]
    TooLarge { size: usize, max: usize },
    #[error("the connection to NATS has been closed")]
    Closed,
}
