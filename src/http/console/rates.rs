//! What went through the server in the last quarter of an hour: a ring in memory, of the active's own counters; at a standby,
//! of how far the channels in the tables are, and only while somebody looks.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use crate::core::ids::Epoch;
use crate::core::time::{Instant, Now};
use crate::monitoring::status::{Role, Status};

/// Between two samples.
pub(super) const EVERY: Duration = Duration::from_secs(5);

/// A quarter of an hour.
const SAMPLES_MAX: usize = 180;

/// After nobody has looked for so long a standby does not ask the tables any more.
const LOOKED_AT: Duration = Duration::from_mins(2);

/// Per second, since the sample before. `None`: it is not known here.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Sample {
    /// Seconds since 1970.
    pub(super) at: i64,
    pub(super) published: Option<f64>,
    pub(super) delivered: Option<f64>,
    pub(super) acked: Option<f64>,
    /// Mean time from a batch's leaving to its being in the tables: what publishers wait for at least.
    pub(super) commit_ms: Option<f64>,
}

/// Counters at one moment, and whose they are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Counters {
    /// `None`: of the tables.
    epoch: Option<Epoch>,
    published: u64,
    delivered: u64,
    acked: u64,
    commits: u64,
    commit_seconds: f64,
}

impl Counters {
    /// The counters of the active; `None`: this server is not it.
    pub(super) fn of_active(status: &Status, now: Now) -> Option<Self> {
        let is_active = status.role_at(now.monotonic) == Role::Active;
        let counts = &status.counts;
        is_active.then(|| Self {
            epoch: status.epoch,
            published: counts.traffic.in_messages,
            delivered: counts.traffic.out_messages,
            acked: counts.traffic.acked_messages,
            commits: status.commit_seconds.count(),
            commit_seconds: status.commit_seconds.sum(),
        })
    }

    /// `published`: the sum of the last sequences of all channels.
    pub(super) fn of_tables(published: u64) -> Self {
        Self {
            epoch: None,
            published,
            delivered: 0,
            acked: 0,
            commits: 0,
            commit_seconds: 0.0,
        }
    }
}

#[derive(Debug)]
pub(super) struct Rates {
    ring: Mutex<Ring>,
    /// The newest sample, for those who watch.
    newest: watch::Sender<Option<Sample>>,
}

#[derive(Debug, Default)]
struct Ring {
    samples: VecDeque<Sample>,
    before: Option<(Instant, Counters)>,
    looked_at: Option<Instant>,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            ring: Mutex::default(),
            newest: watch::Sender::new(None),
        }
    }
}

impl Rates {
    /// Somebody looks at them. The oldest first.
    pub(super) fn look(&self, now: Now) -> Vec<Sample> {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.looked_at = Some(now.monotonic);
        ring.samples.iter().copied().collect()
    }

    pub(super) fn is_looked_at(&self, now: Now) -> bool {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.looked_at
            .is_some_and(|at| now.monotonic.since(at) < LOOKED_AT)
    }

    pub(super) fn watch(&self) -> watch::Receiver<Option<Sample>> {
        self.newest.subscribe()
    }

    pub(super) fn take(&self, counters: Option<Counters>, now: Now) {
        let sample = {
            let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
            let before = ring.before.take();
            ring.before = counters.map(|counters| (now.monotonic, counters));
            let sample = sample(before, counters, now);
            if ring.samples.len() == SAMPLES_MAX {
                ring.samples.pop_front();
            }
            ring.samples.push_back(sample);
            sample
        };
        self.newest.send_replace(Some(sample));
    }
}

fn sample(before: Option<(Instant, Counters)>, counters: Option<Counters>, now: Now) -> Sample {
    let mut sample = Sample {
        at: now.wall.0.div_euclid(1_000_000_000),
        published: None,
        delivered: None,
        acked: None,
        commit_ms: None,
    };
    let (Some((at, before)), Some(after)) = (before, counters) else {
        return sample;
    };
    // Those of another term, or of the tables, count something else.
    if before.epoch != after.epoch {
        return sample;
    }
    let seconds = now.monotonic.since(at).as_secs_f64().max(0.001);
    #[expect(clippy::cast_precision_loss, reason = "a rate is for people")]
    let rate = |before: u64, after: u64| Some(after.saturating_sub(before) as f64 / seconds);
    sample.published = rate(before.published, after.published);
    if after.epoch.is_some() {
        sample.delivered = rate(before.delivered, after.delivered);
        sample.acked = rate(before.acked, after.acked);
        let commits = after.commits.saturating_sub(before.commits);
        let took = after.commit_seconds - before.commit_seconds;
        #[expect(clippy::cast_precision_loss, reason = "a mean is for people")]
        let mean = (commits > 0).then(|| took * 1000.0 / commits as f64);
        sample.commit_ms = mean;
    }
    sample
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::Timestamp;

    fn at(seconds: u64) -> Now {
        let nanos = seconds * 1_000_000_000;
        Now {
            monotonic: Instant::from_nanos(nanos),
            wall: Timestamp(i64::try_from(nanos).unwrap()),
        }
    }

    fn counters(epoch: u64, published: u64, commits: u64) -> Counters {
        let mut counters = Counters::of_tables(published);
        counters.epoch = Some(Epoch(epoch));
        counters.commits = commits;
        counters.commit_seconds = 0.004 * f64::from(u32::try_from(commits).unwrap());
        counters
    }

    #[test]
    fn rates_are_since_the_sample_before_of_the_same_term_and_only_a_quarter_of_an_hour_is_kept() {
        let rates = Rates::default();
        rates.take(Some(counters(1, 100, 0)), at(0));
        rates.take(Some(counters(1, 150, 10)), at(5));
        rates.take(Some(counters(2, 10, 0)), at(10));
        rates.take(None, at(15));
        let published: Vec<_> = rates.look(at(15)).iter().map(|it| it.published).collect();
        assert_eq!(published, [None, Some(10.0), None, None]);
        let commit = rates.look(at(15))[1].commit_ms.unwrap();
        assert!((commit - 4.0).abs() < 1e-9, "{commit}");
        for second in 16..1000 {
            rates.take(None, at(second));
        }
        assert_eq!(rates.look(at(1000)).len(), SAMPLES_MAX);
        assert!(rates.is_looked_at(at(1001)) && !rates.is_looked_at(at(1121)));
    }
}
