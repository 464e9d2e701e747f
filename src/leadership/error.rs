//! Why a server cannot become or stay active, by what the caller would do about it.

use crate::config::database::{Trouble, TroubleKind};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Try again after a pause, on a new session.
    #[error("{0}")]
    Unavailable(String),
    /// Trying again does not help until somebody changes something: ends a server that is starting.
    #[error("{0}")]
    Refused(String),
}

/// The end of a term: nothing that was not reported as committed may be taken for committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the term is over: {0}")]
pub struct TermLost(pub String);

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        match trouble.kind {
            TroubleKind::Unavailable | TroubleKind::Failed => Self::Unavailable(trouble.text),
            TroubleKind::Refused => Self::Refused(trouble.text),
        }
    }
}
