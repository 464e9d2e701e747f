//! Why the task of the leader session gives up a term that nobody asked it to end.

use std::time::Duration;

use super::error::{Error, TermLost};
use crate::core::attempts::EndKind;
use crate::core::ids::Epoch;

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
    #[error("nothing waits for commits")]
    NobodyWaits,
    #[error("a commit failed: {source}")]
    Commit {
        kind: EndKind,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
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
    #[error(
        "another session has changed table leadership, which {found} now, and this is term {own}; leave that table to the \
         servers"
    )]
    Overwritten { own: Epoch, found: String },
    /// Anything else that is asked on the session.
    #[error(transparent)]
    Call(#[from] Error),
}

impl Loss {
    pub(super) fn commit(
        kind: EndKind,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        let source = Box::new(error);
        Self::Commit { kind, source }
    }

    fn kind(&self) -> EndKind {
        match self {
            Self::Closed(_) | Self::ClosedDuringCommit { .. } | Self::ClosedDuringRead(_) => {
                EndKind::DatabaseLost
            }
            Self::CommitTooLong(_) | Self::ReadTooLong(_) => EndKind::DatabaseSlow,
            Self::Commit { kind, .. } => *kind,
            Self::LockLost | Self::Overwritten { .. } => EndKind::LockLost,
            Self::Renewal(error) | Self::Call(error) => error.kind(),
            Self::GivenUp | Self::NobodyWaits => EndKind::Own,
        }
    }
}

impl From<Loss> for TermLost {
    fn from(loss: Loss) -> Self {
        Self::new(loss.kind(), loss.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::attempts::SameCause;
    use crate::core::time::Instant;

    #[test]
    fn three_crashes_of_postgres_are_one_cause_whatever_they_are_called() {
        let closed = |why: &str| Loss::Closed(why.to_owned());
        let during_commit = Loss::ClosedDuringCommit {
            lesson: String::new(),
            why: "Connection reset by peer (os error 104)".to_owned(),
        };
        let mut same = SameCause::default();
        for (second, loss) in (0..).zip([
            closed("connection closed"),
            during_commit,
            closed("Broken pipe (os error 32)"),
        ]) {
            let at = Instant::from_nanos(second * 1_000_000_000);
            same.ended(TermLost::from(loss).kind, at);
        }
        assert_eq!(same.count(), 3);
    }
}
