//! The last line against acting without the lock, and against holding it for nothing: a plain thread that ends the process
//! when, soon after the trust window of a term has passed, the term is neither given up nor seen to keep silent, and when
//! the task of the role, active or standby, has made no progress for a minute. A stuck runtime cannot hide from it; an
//! active that waits for a slow commit has nothing to fear.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use crate::clock::Clock;
use crate::core::time::Instant;
use crate::leadership::Term;
use crate::log_queue;
use crate::monitoring::liveness::Liveness;

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Time to notice, and to drop the term or to keep silent. Counted from when this thread first sees it untrusted: after the whole
/// process was frozen, the others need a moment as well.
const GRACE: Duration = Duration::from_secs(1);

/// Nothing that a role does takes so long in one go. Counted in looks of this thread, so that time for which the whole
/// process was frozen does not count.
const STALL_MAX: Duration = Duration::from_mins(1);

/// For the last words. Their way may be what is stuck.
const LAST_WORDS_LIMIT: Duration = Duration::from_millis(500);

/// The term that this process acts in.
#[derive(Clone, Debug, Default)]
pub(super) struct Watchdog {
    term: Arc<Mutex<Option<Term>>>,
    /// When the active last said that it does nothing, in nanoseconds of the boot clock.
    silent_at: Arc<AtomicU64>,
}

impl Watchdog {
    /// Starts the thread; it ends with the process.
    pub(super) fn start(liveness: Liveness) -> std::io::Result<Self> {
        let watchdog = Self::default();
        let watched = watchdog.clone();
        std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watched.watch(&liveness))?;
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

    fn watch(&self, liveness: &Liveness) {
        let mut untrusted_since: Option<Instant> = None;
        let mut stall = Stall::default();
        loop {
            std::thread::park_timeout(LOOK_EVERY);
            let now = Clock.now().monotonic;
            if stall.look(liveness.beat_at(), now) >= STALL_MAX {
                end_process(&format!(
                    "the server has made no progress for {STALL_MAX:?}: the process ends, so that it can be started again"
                ));
            }
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
                end_process(&format!(
                    "the term cannot be trusted, and for {GRACE:?} it was neither given up nor kept still: the process \
                     ends, so that it cannot act beside another active"
                ));
            }
        }
    }
}

/// For how long there was no beat, as far as this thread was awake.
#[derive(Debug, Default)]
struct Stall {
    beat_at: Option<Instant>,
    looked_at: Instant,
    silence: Duration,
}

impl Stall {
    fn look(&mut self, beat_at: Option<Instant>, now: Instant) -> Duration {
        let passed = now.since(std::mem::replace(&mut self.looked_at, now));
        if beat_at.is_none() || beat_at != self.beat_at {
            self.beat_at = beat_at;
            self.silence = Duration::ZERO;
        } else {
            self.silence += passed.min(LOOK_EVERY * 2);
        }
        self.silence
    }
}

/// Whatever else of the process is stuck.
fn end_process(why: &str) -> ! {
    let (logged, done) = mpsc::channel::<()>();
    let why = why.to_owned();
    // A program that embeds a server has its own logger, which may be what everything waits for.
    let words = std::thread::Builder::new().spawn(move || {
        tracing::error!("{why}");
        log_queue::flush(LAST_WORDS_LIMIT);
        drop(logged);
    });
    if words.is_ok() {
        done.recv_timeout(LAST_WORDS_LIMIT).ok();
    }
    std::process::abort();
}

/// Held while acting in a term.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_process_is_not_stuck_and_one_whose_task_is_held_up_is() {
        let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        let mut stall = Stall::default();
        stall.look(Some(at(1)), at(100));
        assert_eq!(stall.look(Some(at(1)), at(200)), LOOK_EVERY);

        // An hour without a look is an hour in which the thread did not run either.
        assert_eq!(stall.look(Some(at(1)), at(3_600_200)), LOOK_EVERY * 3);
        assert_eq!(
            stall.look(Some(at(3_600_250)), at(3_600_300)),
            Duration::ZERO
        );

        let mut now = 3_600_300;
        while stall.look(Some(at(3_600_250)), at(now)) < STALL_MAX {
            now += 100;
        }
        assert_eq!(now, 3_660_300);
        assert_eq!(
            stall.look(None, at(now)),
            Duration::ZERO,
            "nothing has to beat"
        );
    }
}
