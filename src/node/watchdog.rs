//! The last line against acting without the lock: a plain thread that ends the process when a term is not given
//! up soon after its trust window has passed. A stuck runtime cannot hide from it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::clock::Clock;
use crate::core::time::Instant;
use crate::leadership::Term;

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Time to notice and to drop the term. Counted from when this thread first sees it untrusted: after the whole
/// process was frozen, the others need a moment as well.
const GRACE: Duration = Duration::from_secs(1);

/// The term that this process acts in.
#[derive(Clone, Debug, Default)]
pub(super) struct Watchdog {
    term: Arc<Mutex<Option<Term>>>,
}

impl Watchdog {
    /// Starts the thread; it ends with the process.
    pub(super) fn start() -> std::io::Result<Self> {
        let watchdog = Self::default();
        let watched = watchdog.clone();
        std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watched.watch())?;
        Ok(watchdog)
    }

    /// From now on the term is watched, until the returned guard is dropped.
    pub(super) fn guard(&self, term: &Term) -> Guard {
        self.set(Some(term.clone()));
        Guard(self.clone())
    }

    fn set(&self, term: Option<Term>) {
        *self.term.lock().unwrap_or_else(PoisonError::into_inner) = term;
    }

    fn watch(&self) {
        let mut untrusted_since: Option<Instant> = None;
        loop {
            std::thread::park_timeout(LOOK_EVERY);
            let now = Clock.now().monotonic;
            let term = self
                .term
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            if term.is_none_or(|term| term.is_trusted(now)) {
                untrusted_since = None;
                continue;
            }
            let since = *untrusted_since.get_or_insert(now);
            if now.since(since) >= GRACE {
                tracing::error!(
                    "the term is lost and was not given up within {GRACE:?}: the process ends, so that it \
                     cannot act beside the new active"
                );
                std::process::abort();
            }
        }
    }
}

/// Whoever holds it acts in a term.
#[derive(Debug)]
pub(super) struct Guard(Watchdog);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(None);
    }
}
