//! What the consoles of a node share.

use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::live::STREAMS_MAX;
use super::now::Found;
use super::once::Once;
use super::rates::Rates;
use super::session::EndedSessions;
use super::users::Users;
use crate::core::time::Instant;
use crate::http::failures::Failures;
use crate::monitoring::view_reader::ViewReader;

/// Passwords that are looked at at once: each keeps a processor busy for a moment.
const VERIFIED_AT_ONCE: usize = 1;

/// Cheap to clone; all listeners of a node share it.
#[derive(Clone, Debug, Default)]
pub struct Console(Option<Arc<Inner>>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) views: ViewReader,
    pub(super) users: Users,
    pub(super) failures: Failures,
    pub(super) verifying: Semaphore,
    pub(super) ended: EndedSessions,
    pub(super) once: Once,
    /// Verbs under way, whose forms may have been left.
    pub(super) acting: TaskTracker,
    pub(super) rates: Rates,
    pub(super) streams: Arc<Semaphore>,
    /// The server ends, and so do its streams.
    pub(super) ends: CancellationToken,
    /// Where the consoles of the other servers are, by the names of their machines.
    pub(super) others: RwLock<Vec<(String, String)>>,
    /// What the first page shows, for those who look at the same moment.
    pub(super) now: Mutex<Option<(Instant, Arc<Found>)>>,
}

impl Console {
    /// Off where nobody may log in: neither by a file of users nor, without one, by the token of the API.
    pub fn new(
        views: ViewReader,
        users_file: Option<PathBuf>,
        token_file: Option<PathBuf>,
    ) -> Self {
        let users = match (users_file, token_file) {
            (Some(file), _) => Users::File(file),
            (None, Some(file)) => Users::TokenFile(file),
            (None, None) => return Self(None),
        };
        Self(Some(Arc::new(Inner {
            views,
            users,
            failures: Failures::default(),
            verifying: Semaphore::new(VERIFIED_AT_ONCE),
            ended: EndedSessions::default(),
            once: Once::default(),
            acting: TaskTracker::new(),
            rates: Rates::default(),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            ends: CancellationToken::new(),
            others: RwLock::default(),
            now: Mutex::new(None),
        })))
    }

    pub(super) fn inner(&self) -> Option<&Inner> {
        self.0.as_deref()
    }
}
