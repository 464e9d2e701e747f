//! What a group has in flight, by when it is due. Deliveries come in the order of their deadlines as long as ack waits
//! are alike, so most of it is a queue; the rest is sorted. What was acked or delivered again meanwhile is passed over
//! when its old time comes, and thrown out when there is more of it than of the rest.

use std::collections::{BTreeSet, VecDeque};

use super::ids::Sequence;
use super::time::Instant;

/// Old entries that are kept at least.
const STALE_ENOUGH: usize = 64;

type Entry = (Instant, Sequence);

#[derive(Clone, Debug, Default)]
pub(super) struct Schedule {
    /// In order of time.
    queue: VecDeque<Entry>,
    rest: BTreeSet<Entry>,
}

impl Schedule {
    pub(super) fn add(&mut self, due: Instant, sequence: Sequence) {
        if self.queue.back().is_none_or(|&(last, _)| last <= due) {
            self.queue.push_back((due, sequence));
        } else {
            self.rest.insert((due, sequence));
        }
    }

    /// Puts back what was taken and not used.
    pub(super) fn put_back(&mut self, due: Instant, sequence: Sequence) {
        self.rest.insert((due, sequence));
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// When the earliest is due; `is_current` says what still is to be done.
    pub(super) fn next(&mut self, is_current: impl Fn(Entry) -> bool) -> Option<Instant> {
        while let Some(entry) = self.first() {
            if is_current(entry) {
                return Some(entry.0);
            }
            self.pop();
        }
        None
    }

    /// Takes the earliest that is due at `limit`.
    pub(super) fn take(
        &mut self,
        limit: Instant,
        is_current: impl Fn(Entry) -> bool,
    ) -> Option<Sequence> {
        while let Some(entry) = self.first().filter(|(due, _)| *due <= limit) {
            self.pop();
            if is_current(entry) {
                return Some(entry.1);
            }
        }
        None
    }

    /// Throws out old entries when they are more than the `live` ones.
    pub(super) fn compact(&mut self, live: usize, is_current: impl Fn(Entry) -> bool) {
        if self.queue.len() + self.rest.len() > 2 * live + STALE_ENOUGH {
            self.queue.retain(|&entry| is_current(entry));
            self.rest.retain(|&entry| is_current(entry));
        }
    }

    fn first(&self) -> Option<Entry> {
        match (self.queue.front(), self.rest.first()) {
            (Some(one), Some(other)) => Some(*one.min(other)),
            (one, other) => one.or(other).copied(),
        }
    }

    fn pop(&mut self) {
        let queued = self.queue.front();
        let is_queued = match (queued, self.rest.first()) {
            (Some(one), Some(other)) => one <= other,
            (one, _) => one.is_some(),
        };
        if is_queued {
            self.queue.pop_front();
        } else {
            self.rest.pop_first();
        }
    }

    /// Old ones included.
    pub(super) fn entries(&self) -> BTreeSet<Entry> {
        self.rest.iter().chain(&self.queue).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    fn taken(schedule: &mut Schedule, limit: u64) -> Vec<u64> {
        let all = std::iter::from_fn(|| schedule.take(at(limit), |_| true));
        all.map(|sequence| sequence.0).collect()
    }

    #[test]
    fn what_is_due_comes_in_order_of_time_however_it_was_added() {
        let mut schedule = Schedule::default();
        for (due, sequence) in [(10, 1), (20, 2), (15, 3), (20, 4), (5, 5)] {
            schedule.add(at(due), Sequence(sequence));
        }

        assert_eq!(taken(&mut schedule, 15), [5, 1, 3]);
        assert_eq!(schedule.next(|_| true), Some(at(20)));
        assert_eq!(taken(&mut schedule, 100), [2, 4]);
    }

    #[test]
    fn old_entries_are_passed_over_and_do_not_pile_up() {
        let mut schedule = Schedule::default();
        for sequence in 1..=10_000 {
            schedule.add(at(sequence), Sequence(sequence));
            schedule.compact(1, |(_, live)| live.0 == sequence);
            assert!(schedule.queue.len() <= STALE_ENOUGH + 3);
        }

        assert_eq!(schedule.next(|(_, s)| s.0 == 10_000), Some(at(10_000)));
    }
}
