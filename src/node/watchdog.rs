//! The last line against acting without the lock: a plain thread that ends the process when, soon after the trust
//! window of a term has passed, the term is neither given up nor seen to keep silent. A stuck runtime cannot hide
//! from it; an active that waits for a slow commit has nothing to fear.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::clock::Clock;
use crate::core::time::Instant;
use crate::leadership::Term;

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Time to notice, and to drop the term or to keep silent. Counted from when this thread first sees it untrusted: after the whole
/// process was frozen, the others need a moment as well.
const GRACE: Duration = Duration::from_secs(1);

/// The term that this process acts in.
#[derive(Clone, Debug, Default)]
pub(super) struct Watchdog {
    term: Arc<Mutex<Option<Term>>>,
    /// When the active last said that it does nothing, in nanoseconds of the boot clock.
    silent_at: Arc<AtomicU64>,
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
            let noticed = *untrusted_since.get_or_insert(now);
            let silent_at = Instant::from_nanos(self.silent_at.load(Ordering::Acquire));
            if now.since(noticed.max(silent_at)) >= GRACE {
                tracing::error!(
                    "the term cannot be trusted, and for {GRACE:?} it was neither given up nor kept still: the \
                     process ends, so that it cannot act beside another active"
                );
                std::process::abort();
            }
        }
    }
}

/// Whoever holds it acts in a term.
#[derive(Debug)]
pub(super) struct Guard(Watchdog);

impl Guard {
    /// The active does nothing while it is not trusted; to be said again and again.
    pub(super) fn keeps_silent(&self, now: Instant) {
        self.0.silent_at.store(now.as_nanos(), Ordering::Release);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(None);
    }
}
