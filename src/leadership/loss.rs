//! Why the task of the leader session gives up a term that nobody asked it to end.

use std::time::Duration;

use super::error::Error;

#[derive(Debug, thiserror::Error)]
pub(super) enum Loss {
    /// The session has ended, and why.
    #[error("{0}")]
    Closed(String),
    #[error("during a commit{lesson}: {why}")]
    ClosedDuringCommit { lesson: String, why: String },
    #[error("during a read: {0}")]
    ClosedDuringRead(String),
    #[error("the server gave it up")]
    GivenUp,
    #[error("nobody waits for commits")]
    NobodyWaits,
    #[error("a commit failed: {0}")]
    Commit(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("a commit took longer than {0:?}")]
    CommitTooLong(Duration),
    #[error("a read on the leader session took longer than {0:?}")]
    ReadTooLong(Duration),
    #[error("a renewal failed: {0}")]
    Renewal(#[source] Error),
    #[error(
        "the session no longer holds the lock; is there a pooler between the server and Postgres?"
    )]
    LockLost,
    /// Anything else that is asked on the session.
    #[error(transparent)]
    Call(#[from] Error),
}

impl Loss {
    pub(super) fn commit(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Commit(Box::new(error))
    }
}
