//! What can go wrong with the tables, by what the caller would do about it.

use crate::config::database::{DatabaseError, DatabaseErrorKind, DatabaseUrl};
use crate::core::attempts::EndKind;
use crate::core::refusal::Refusal;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be reached or used right now: try again later.
    #[error("{0}")]
    Unavailable(String),
    /// Wrong rights, schema or cluster: trying again does not help until somebody changes something.
    #[error("{0}")]
    Refused(String),
    /// What answers gives sessions away between transactions: nothing was set or read.
    #[error("{0}")]
    Pooler(String),
    /// The tables belong to another cluster, and will for ever: this process can never serve from them.
    #[error("{0}")]
    OtherCluster(String),
    /// The tables hold what this process' keys do not decrypt, and it will be given no other.
    #[error("{0}")]
    Key(String),
    /// A row that this server never wrote.
    #[error(
        "table {table}, row {row}: {why}; correct or delete the row (nothing was changed by the server)"
    )]
    Corrupt {
        table: &'static str,
        row: String,
        why: String,
    },
    /// Postgres refuses something in the batch, and always will.
    #[error("{refusal}")]
    NotStored {
        refusal: Box<Refusal>,
        /// Nothing of the batch is in the tables; otherwise some may be.
        is_rolled_back: bool,
    },
    /// The tables do not take the batch. A new term starts from what they hold.
    #[error("{0}")]
    Failed(String),
}

impl From<DatabaseError> for Error {
    fn from(error: DatabaseError) -> Self {
        match error.kind {
            DatabaseErrorKind::Unavailable => Self::Unavailable(error.text),
            DatabaseErrorKind::Refused => Self::Refused(error.text),
            DatabaseErrorKind::Failed => Self::Failed(error.text),
        }
    }
}

impl Error {
    /// Whether the next call would fail for the same cause.
    pub fn kind(&self) -> EndKind {
        match self {
            Self::Unavailable(_) => EndKind::DatabaseLost,
            Self::NotStored { .. } | Self::Failed(_) => EndKind::WriteRefused,
            Self::Refused(_)
            | Self::Pooler(_)
            | Self::OtherCluster(_)
            | Self::Key(_)
            | Self::Corrupt { .. } => EndKind::DatabaseRefused,
        }
    }
}

/// What a function that only sees a connection can say; whoever knows the URL makes a sentence of it.
#[derive(Debug)]
pub(super) enum Fault {
    Pool(sqlx::Error),
    Session(tokio_postgres::Error),
    Store(Error),
}

/// The SQLSTATE of rows that Postgres finds damaged on its disk.
const DATA_CORRUPTED: &str = "XX001";

const LOCK_NOT_AVAILABLE: &str = "55P03";

const QUERY_CANCELED: &str = "57014";

impl Fault {
    /// True when Postgres itself cannot make sense of what it stored; it will not another time either.
    pub(super) fn is_damage(&self) -> bool {
        self.is(DATA_CORRUPTED)
    }

    /// True when a statement took longer than it may.
    pub(super) fn is_timeout(&self) -> bool {
        self.is(QUERY_CANCELED)
    }

    /// True when another transaction held a lock for longer than this one waits.
    pub(super) fn is_lock(&self) -> bool {
        self.is(LOCK_NOT_AVAILABLE)
    }

    fn is(&self, code: &str) -> bool {
        match self {
            Self::Pool(sqlx::Error::Database(error)) => error.code().as_deref() == Some(code),
            Self::Session(error) => error.code().is_some_and(|it| it.code() == code),
            Self::Pool(_) | Self::Store(_) => false,
        }
    }

    pub(super) fn into_error(self, url: &DatabaseUrl) -> Error {
        match self {
            Self::Pool(error) => DatabaseError::of_pool(url, &error).into(),
            Self::Session(error) => DatabaseError::of_session(url, &error).into(),
            Self::Store(error) => error,
        }
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Pool(error)
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Session(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}
