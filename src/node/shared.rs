//! What the roles of a node share: its parts, and the ways in which a role ends before its time.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::batches::Upload;
use super::partition_peers;
use super::presence::Presence;
use super::status_publisher::StatusPublisher;
use super::watchdog::Watchdog;
use crate::config::Config;
use crate::core::attempts::EndKind;
use crate::core::commit_history::CommitHistory;
use crate::core::limits::Limits;
use crate::monitoring::reports::Reports;
use crate::nats::{AckTokens, Connection};
use crate::protocol::recollection::Signer;
use crate::store::Store;
use crate::{leadership, nats, store};

/// What every role of the node needs.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) config: Config,
    pub(super) leadership: leadership::Settings,
    pub(super) store: Store,
    pub(super) nats: Connection,
    pub(super) ack_tokens: AckTokens,
    /// Signs the messages between servers.
    pub(super) signer: Signer,
    /// The number of this node's own last question to the others.
    pub(super) asked_with: Mutex<Option<[u8; 16]>>,
    pub(super) presence: Arc<Presence>,
    pub(super) status: StatusPublisher,
    /// The limits of channels, as loaded last.
    pub(super) limits: watch::Receiver<Limits>,
    pub(super) reports: Reports,
    pub(super) watchdog: Watchdog,
    /// How much one statement may carry to Postgres.
    pub(super) upload: Upload,
    /// Something was refused in a term of this process: the next one begins with savepoints.
    pub(super) needs_savepoints: AtomicBool,
    /// Asked when the tables know less than this process. Never held across an await.
    pub(super) history: Mutex<CommitHistory>,
    pub(super) tasks: TaskTracker,
    pub(super) shutdown: CancellationToken,
}

/// Why a role ended before its time.
#[derive(Debug, thiserror::Error)]
pub(super) enum RoleError {
    #[error("the node is to stop")]
    Shutdown,
    #[error("NATS is out of reach")]
    NatsLost,
    #[error(transparent)]
    Nats(#[from] nats::Error),
    #[error(transparent)]
    Leadership(#[from] leadership::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    TermLost(#[from] leadership::TermLost),
    /// The tables are of a server with other settings, and clients rely on those.
    #[error("{0}")]
    Settings(String),
    /// Another server serves the same cluster ID from other tables.
    #[error("{0}")]
    ConflictingActive(String),
}

impl From<partition_peers::Error> for RoleError {
    fn from(error: partition_peers::Error) -> Self {
        match error {
            partition_peers::Error::Nats(error) => error.into(),
            partition_peers::Error::TooSmall(error) => Self::Settings(error.to_string()),
        }
    }
}

impl Node {
    pub(super) fn history(&self) -> MutexGuard<'_, CommitHistory> {
        // A panic while it was held left marks that are each true.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    pub(super) fn asked_with(&self) -> MutexGuard<'_, Option<[u8; 16]>> {
        self.asked_with
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl RoleError {
    /// Whether the next attempt would end alike.
    pub(super) fn kind(&self) -> EndKind {
        match self {
            Self::NatsLost | Self::Nats(_) => EndKind::NatsLost,
            Self::Leadership(error) => error.kind(),
            Self::TermLost(lost) => lost.kind,
            Self::Store(error) => error.kind(),
            Self::ConflictingActive(_) => EndKind::ConflictingActive,
            Self::Shutdown | Self::Settings(_) => EndKind::Own,
        }
    }

    /// True when it will be the same however often this process tries.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Store(error) => {
                matches!(error, store::Error::OtherCluster(_) | store::Error::Key(_))
            }
            Self::Settings(_) => true,
            Self::Shutdown
            | Self::NatsLost
            | Self::Nats(_)
            | Self::Leadership(_)
            | Self::TermLost(_)
            | Self::ConflictingActive(_) => false,
        }
    }

    /// True when somebody has to change something before it goes.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::Store(error) => !matches!(error, store::Error::Unavailable(_)),
            Self::Leadership(error) => matches!(error, leadership::Error::Refused(_)),
            Self::Shutdown
            | Self::NatsLost
            | Self::Nats(_)
            | Self::TermLost(_)
            | Self::Settings(_)
            | Self::ConflictingActive(_) => false,
        }
    }

    /// True when a start does not wait for it to go.
    pub(super) fn ends_a_start(&self) -> bool {
        match self {
            Self::Nats(error) => match error {
                nats::Error::Unauthorized { .. }
                | nats::Error::InvalidSettings(_)
                | nats::Error::InvalidSubject { .. }
                | nats::Error::UnreadableFile { .. }
                | nats::Error::TooLarge { .. } => true,
                nats::Error::Unreachable { .. }
                | nats::Error::NoAnswer(_)
                | nats::Error::Lost
                | nats::Error::Closed => false,
            },
            Self::Settings(_) => true,
            Self::Leadership(_)
            | Self::Store(_)
            | Self::Shutdown
            | Self::NatsLost
            | Self::TermLost(_)
            | Self::ConflictingActive(_) => self.is_lasting(),
        }
    }

    /// What was received so far may lack something.
    pub(super) fn is_of_nats(&self) -> bool {
        match self {
            Self::NatsLost | Self::Nats(_) => true,
            Self::Shutdown
            | Self::Leadership(_)
            | Self::Store(_)
            | Self::TermLost(_)
            | Self::Settings(_)
            | Self::ConflictingActive(_) => false,
        }
    }
}
