//! What is due when: one deadline per timer, the earliest first.

use std::collections::{BTreeMap, BTreeSet};

use super::ids::{ChannelId, ClientId, PositionId, ProbeId};
use super::pending_clients::Named;
use super::time::Instant;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The client is to be probed.
    Heartbeat(ClientId),
    /// The answer to a probe is overdue.
    Probe(ProbeId),
    /// A message in flight may be due again.
    Redelivery(PositionId),
    /// The channel's oldest message reaches its maximum age.
    Expiry(ChannelId),
    /// The channel may have been without subscriptions and publishes for too long.
    Inactivity(ChannelId),
    /// Progress of subscriptions has waited long enough for a batch.
    Progress,
    /// Progress that Postgres refused is tried again.
    Withheld(PositionId),
    /// The group may look again for messages that were missing.
    Unseen(PositionId),
    /// Failed reads are tried again.
    LoadRetry,
    /// What the terms before stored cannot come any more.
    ForgetStored,
    /// Requests have waited long enough for their client's registration.
    Unregistered(Named),
    /// Subscriptions of clients that have gone are to be closed.
    Orphans,
    /// The outbox is to be read, or what was read to be carried out.
    Outbox,
    /// Requests of operators are to be read, or to be carried out.
    Requests,
}

/// Which timers go off, and what is known then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// Those that are due by then. It is when they are handed in: what runs out before they are carried out may have been
    /// answered, and the answer waits behind them.
    pub(super) by: Instant,
    /// Nothing was taken from NATS for a while, and not all that came meanwhile is taken yet. Answers to probes may be among it.
    pub(super) answers_wait: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Deadlines {
    by_time: BTreeSet<(Instant, Timer)>,
    by_timer: BTreeMap<Timer, Instant>,
}

impl Deadlines {
    /// Sets the timer, instead of an earlier setting.
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(before) = self.by_timer.insert(timer.clone(), at) {
            self.by_time.remove(&(before, timer.clone()));
        }
        self.by_time.insert((at, timer));
    }

    /// Sets the timer unless it is already set to go off earlier.
    pub(super) fn set_by(&mut self, timer: Timer, at: Instant) {
        if self.by_timer.get(&timer).is_none_or(|&before| at < before) {
            self.set(timer, at);
        }
    }

    pub(super) fn clear(&mut self, timer: &Timer) {
        if let Some(at) = self.by_timer.remove(timer) {
            self.by_time.remove(&(at, timer.clone()));
        }
    }

    pub(super) fn is_set(&self, timer: &Timer) -> bool {
        self.by_timer.contains_key(timer)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|&(at, _)| at)
    }

    /// Takes the earliest timer that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.by_time.pop_first()?;
        self.by_timer.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_goes_off_once_at_its_latest_setting() {
        let at = Instant::from_nanos;
        let mut deadlines = Deadlines::default();
        deadlines.set(Timer::Progress, at(10));
        deadlines.set(Timer::Progress, at(20));
        deadlines.set_by(Timer::Progress, at(30));
        deadlines.set(Timer::LoadRetry, at(15));

        assert_eq!(deadlines.pop_due(at(14)), None);
        assert_eq!(deadlines.pop_due(at(20)), Some(Timer::LoadRetry));
        assert_eq!(deadlines.pop_due(at(20)), Some(Timer::Progress));
        assert_eq!(deadlines.next(), None);
    }
}
