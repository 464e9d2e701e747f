//! Proof that the task of a node's role makes progress. What holds up that task (a call that blocks, an endless turn) keeps the
//! proof away, whatever the rest of the process does; the pages, the watchdog and, through the term, the lock rest on it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::clock::Clock;
use crate::core::time::Instant;

const BEAT_EVERY: Duration = Duration::from_millis(100);

/// A server that has made no progress for so long is not ready: it may not take over, or does not serve.
const READY_MAX: Duration = Duration::from_secs(5);

/// And after so long it is not well: its supervisor should restart it. No restore of a state takes that long in
/// one go.
const WELL_MAX: Duration = Duration::from_secs(30);

/// Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Liveness {
    /// On the boot clock, in nanoseconds; 0 before the first beat.
    beat_at: Arc<AtomicU64>,
}

impl Liveness {
    /// Runs the roles; beats whenever they could go on.
    pub(crate) async fn during<T>(&self, roles: impl Future<Output = T>) -> T {
        let mut roles = pin!(roles);
        let mut tick = interval(BEAT_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let done = loop {
            self.beat(Clock.now().monotonic);
            tokio::select! {
                biased;
                done = &mut roles => break done,
                _ = tick.tick() => {}
            }
        };
        // What ends is not watched.
        self.beat_at.store(0, Ordering::Release);
        done
    }

    fn beat(&self, now: Instant) {
        self.beat_at.store(now.as_nanos(), Ordering::Release);
    }

    /// The time of the last beat; `None` while nothing has to beat.
    pub(crate) fn beat_at(&self) -> Option<Instant> {
        match self.beat_at.load(Ordering::Acquire) {
            0 => None,
            nanos => Some(Instant::from_nanos(nanos)),
        }
    }

    /// For how long there was no beat.
    fn silence(&self, now: Instant) -> Duration {
        self.beat_at()
            .map_or(Duration::ZERO, |beat_at| now.since(beat_at))
    }

    /// Why the server is not ready, when it has made no progress for too long.
    pub fn stalled(&self, now: Instant) -> Option<String> {
        let silence = self.silence(now);
        (silence > READY_MAX).then(|| {
            format!(
                "the server has made no progress for {} s: something blocks it; the watchdog ends the process if this goes \
                 on, or restart it",
                silence.as_secs()
            )
        })
    }

    /// True when it has been stuck for so long that it should be restarted.
    pub fn is_lost(&self, now: Instant) -> bool {
        self.silence(now) > WELL_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn without_a_beat_a_server_is_first_not_ready_and_then_not_well() {
        let liveness = Liveness::default();
        assert!(liveness.stalled(at(99)).is_none(), "it has not begun");
        liveness.beat(at(100));

        assert!(liveness.stalled(at(105)).is_none());
        assert!(liveness.stalled(at(106)).unwrap().contains("6 s"));
        assert!(!liveness.is_lost(at(130)));
        assert!(liveness.is_lost(at(131)));
        liveness.beat(at(131));
        assert!(liveness.stalled(at(131)).is_none() && !liveness.is_lost(at(131)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_waits_beats_and_one_that_has_ended_needs_no_beat() {
        let liveness = Liveness::default();
        let inside = liveness.clone();
        let beats = liveness
            .during(async move {
                let first = inside.beat_at();
                tokio::time::advance(BEAT_EVERY * 3).await;
                tokio::task::yield_now().await;
                (first, inside.beat_at())
            })
            .await;
        assert!(beats.0.is_some() && beats.1 > beats.0, "{beats:?}");
        assert_eq!(liveness.beat_at(), None);
    }
}
