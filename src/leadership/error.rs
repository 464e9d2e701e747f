//! Why a server cannot become or stay active, by what the caller would do about it.

use crate::config::database::{DatabaseError, DatabaseErrorKind};
use crate::core::attempts::EndKind;

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
#[error("the term is over: {why}")]
pub struct TermLost {
    pub kind: EndKind,
    /// For people; it may differ from one end to the next of the same kind.
    pub why: String,
}

impl TermLost {
    pub fn new(kind: EndKind, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { kind, why }
    }
}

impl Error {
    pub fn kind(&self) -> EndKind {
        match self {
            Self::Unavailable(_) => EndKind::DatabaseLost,
            Self::Refused(_) => EndKind::DatabaseRefused,
        }
    }
}

impl From<DatabaseError> for Error {
    fn from(error: DatabaseError) -> Self {
        match error.kind {
            DatabaseErrorKind::Unavailable | DatabaseErrorKind::Failed => {
                Self::Unavailable(error.text)
            }
            DatabaseErrorKind::Refused => Self::Refused(error.text),
        }
    }
}
