//! What is in flight in a group: who holds each message, how often it was delivered, and when it is due again.

use std::collections::BTreeMap;

use super::Group;
use crate::core::batch::{PageHolders, Progress};
use crate::core::ids::{Sequence, SubscriptionId};
use crate::core::members::Member;
use crate::core::progress::{Acked, Pages};
use crate::core::time::Instant;

#[derive(Clone, Copy, Debug)]
pub(in crate::core) struct InFlight {
    pub(in crate::core) holder: Option<SubscriptionId>,
    pub(in crate::core) due: Due,
    /// How often it has been delivered, as far as this term knows.
    pub(in crate::core) deliveries: u32,
    /// When it was first delivered; `None` when that was before this term.
    pub(in crate::core) since: Option<Instant>,
}

/// What handing a message to a member has changed.
#[derive(Clone, Copy, Debug)]
pub(in crate::core) struct Handed {
    /// For the header; 0 for a first delivery.
    pub(in crate::core) redelivery_count: u32,
    /// The tables do not know it.
    pub(in crate::core) is_news: bool,
    pub(in crate::core) due: Instant,
}

/// When a message in flight is to be redelivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) enum Due {
    At(Instant),
    /// Its wait after the message was published, or after the term began where that was its last delivery: the time of the delivery
    /// did not survive the takeover.
    AfterPublish,
}

impl Due {
    /// What was never given a deadline comes first.
    fn at(self) -> Instant {
        match self {
            Self::At(at) => at,
            Self::AfterPublish => Instant::default(),
        }
    }
}

impl Group {
    /// The next message is put in flight with nobody, to be sent like one that was not acked.
    pub(in crate::core) fn send_later(&mut self, next: Sequence, now: Instant) {
        let parked = InFlight {
            holder: None,
            due: Due::At(now),
            deliveries: 1,
            since: None,
        };
        self.in_flight.insert(next, parked);
        self.schedule.add(now, next);
        self.last_sent = next;
    }

    /// Puts in flight what the tables show as delivered and not acked, of messages that still exist.
    pub(in crate::core) fn restore_in_flight(
        &mut self,
        progress: Progress,
        pages: Pages,
        first: Sequence,
        last: Sequence,
    ) {
        self.last_sent = progress.last_sent.min(last);
        let floor = progress.acked_floor.max(first.previous());
        let floor = floor.min(self.last_sent);
        self.acked = Acked::restored(progress, pages, floor, self.last_sent);
        let mut cursor = self.acked.floor();
        let top = (self.last_sent.next(), self.last_sent.next());
        for (from, to) in self.acked.above().iter().chain([top]) {
            while cursor.next() < from {
                cursor = cursor.next();
                let parked = InFlight {
                    holder: None,
                    due: Due::AfterPublish,
                    deliveries: 1,
                    since: None,
                };
                self.in_flight.insert(cursor, parked);
                self.schedule.add(parked.due.at(), cursor);
            }
            cursor = to;
        }
    }

    /// What the tables tell of a page: each member that is still there holds what it held.
    pub(in crate::core) fn restore_holders(&mut self, page: u64, holders: &PageHolders) {
        self.holders.restored(page);
        for &(sequence, id) in holders {
            if let Some(entry) = self.in_flight.get_mut(&sequence)
                && let Some(member) = self.members.get_mut(&id)
            {
                entry.holder = Some(id);
                member.in_flight += 1;
            }
        }
    }

    /// Hands a message to a member.
    pub(in crate::core) fn hand_to(
        &mut self,
        id: SubscriptionId,
        sequence: Sequence,
        now: Instant,
    ) -> (Handed, &Member) {
        // Most are new, and nothing above what was sent last is in flight.
        let known = if sequence > self.last_sent {
            None
        } else {
            self.in_flight.get_mut(&sequence)
        };
        let before = known.as_deref().copied();
        release(&mut self.members, before.and_then(|entry| entry.holder));
        self.turn += 1;
        let member = self.members.get_mut(&id).expect("only members are picked");
        member.in_flight += 1;
        member.last_turn = self.turn;
        member.last_sent = member.last_sent.max(sequence);
        let deliveries = before.map_or(0, |entry| entry.deliveries);
        // The count wraps to 1: 0 means a first delivery.
        let delivery = deliveries.checked_add(1).unwrap_or(1);
        let mut due = now + member.ack_wait;
        let mut is_counted = false;
        if let Some(attempts) = &mut self.attempts {
            due = now + attempts.policy.wait(delivery, member.ack_wait);
            if before.is_some() {
                attempts.delivered_again(sequence);
                is_counted = true;
            }
        }
        let entry = InFlight {
            holder: Some(id),
            due: Due::At(due),
            deliveries: delivery,
            since: before.map_or(Some(now), |entry| entry.since),
        };
        if let Some(known) = known {
            *known = entry;
        } else {
            self.in_flight.insert(sequence, entry);
        }
        self.schedule.add(due, sequence);
        self.last_sent = self.last_sent.max(sequence);
        let is_queue = self.queue_group.is_some();
        let has_moved = is_queue && before.is_none_or(|entry| entry.holder != Some(id));
        if has_moved {
            self.holders.delivered(sequence);
        }
        let handed = Handed {
            // At least one, also for an attempt that is made again.
            redelivery_count: before.map_or(0, |_| deliveries.max(1)),
            is_news: has_moved || is_counted || before.is_none(),
            due,
        };
        (handed, member)
    }

    /// Ends a message's being in flight; false when it is not.
    pub(in crate::core) fn settle(&mut self, sequence: Sequence) -> bool {
        let Some(entry) = self.in_flight.remove(&sequence) else {
            return false;
        };
        release(&mut self.members, entry.holder);
        self.acked.add(sequence, sequence);
        self.holders.settled(sequence);
        if let Some(attempts) = &mut self.attempts {
            attempts.settled(sequence);
        }
        let in_flight = &self.in_flight;
        self.schedule
            .compact(in_flight.len(), |entry| is_current(in_flight, entry));
        true
    }

    /// Gives a message in flight another deadline.
    pub(in crate::core) fn set_due(&mut self, sequence: Sequence, due: Due) {
        if let Some(entry) = self.in_flight.get_mut(&sequence)
            && entry.due != due
        {
            entry.due = due;
            self.schedule.add(due.at(), sequence);
        }
    }

    /// Everything in flight is due now, in order.
    pub(in crate::core) fn make_all_due(&mut self, now: Instant) {
        self.schedule.clear();
        for (&sequence, entry) in &mut self.in_flight {
            entry.due = Due::At(now);
            self.schedule.add(now, sequence);
        }
    }

    /// Takes what is due at `limit`, the earliest first, up to `max`. What becomes of each of them is said by
    /// [`Self::hand_to`], [`Self::settle`] or [`Self::set_due`]; the others are to be put back.
    pub(in crate::core) fn take_due(&mut self, limit: Instant, max: usize) -> Vec<Sequence> {
        let in_flight = &self.in_flight;
        let mut due = Vec::new();
        while due.len() < max
            && let Some(sequence) = self
                .schedule
                .take(limit, |entry| is_current(in_flight, entry))
        {
            due.push(sequence);
        }
        due
    }

    pub(in crate::core) fn put_back(&mut self, sequences: impl IntoIterator<Item = Sequence>) {
        for sequence in sequences {
            if let Some(entry) = self.in_flight.get(&sequence) {
                self.schedule.put_back(entry.due.at(), sequence);
            }
        }
    }

    /// Each message in flight has its place in the schedule. Looks at all of them.
    pub(in crate::core) fn is_scheduled(&self) -> bool {
        let entries = self.schedule.entries();
        let mut in_flight = self.in_flight.iter();
        in_flight.all(|(&sequence, entry)| entries.contains(&(entry.due.at(), sequence)))
    }

    /// The earliest time at which something in flight is due.
    pub(in crate::core) fn next_due(&mut self) -> Option<Instant> {
        let in_flight = &self.in_flight;
        self.schedule.next(|entry| is_current(in_flight, entry))
    }

    /// Takes what a leaving member holds away from it; due at once, for whoever is there then.
    pub(in crate::core) fn park(&mut self, id: SubscriptionId, now: Instant) {
        let member = self.members.get_mut(&id).expect("it has not left yet");
        let in_flight = std::mem::take(&mut member.in_flight) as usize;
        let mut left = self.in_flight.iter_mut();
        let mut found = 0;
        while found < in_flight
            && let Some((&sequence, entry)) = left.next()
        {
            if entry.holder == Some(id) {
                found += 1;
                entry.holder = None;
                if entry.due != Due::At(now) {
                    entry.due = Due::At(now);
                    self.schedule.add(now, sequence);
                }
            }
        }
    }
}

fn release(members: &mut BTreeMap<SubscriptionId, Member>, holder: Option<SubscriptionId>) {
    if let Some(member) = holder.and_then(|id| members.get_mut(&id)) {
        member.in_flight -= 1;
    }
}

fn is_current(
    in_flight: &BTreeMap<Sequence, InFlight>,
    (due, sequence): (Instant, Sequence),
) -> bool {
    in_flight
        .get(&sequence)
        .is_some_and(|entry| entry.due.at() == due)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::core::batch::{PositionRow, SubscriptionRow};
    use crate::core::ids::{ChannelId, ClientId, PositionId, Subject};
    use crate::core::members::Member;
    use crate::core::ranges::Ranges;
    use crate::core::time::Timestamp;

    fn group(last_sent: u64) -> Group {
        Group::new(PositionRow {
            channel: ChannelId(1),
            durable_name: None,
            queue_group: None,
            progress: Progress {
                last_sent: Sequence(last_sent),
                ..Progress::default()
            },
        })
    }

    #[test]
    fn progress_and_back_keeps_exactly_what_is_in_flight() {
        for in_flight in [
            vec![],
            vec![10],
            vec![3],
            vec![1, 2, 5, 9, 10],
            (1..=10).collect(),
        ] {
            let mut before = group(10);
            let all = Progress {
                last_sent: Sequence(10),
                ..Progress::default()
            };
            before.restore_in_flight(all, Pages::new(), Sequence(1), Sequence(10));
            for acked in (1..=10).filter(|sequence| !in_flight.contains(sequence)) {
                before.settle(Sequence(acked));
            }

            let mut after = group(10);
            let progress = before.row().progress;
            after.restore_in_flight(progress.clone(), Pages::new(), Sequence(1), Sequence(10));

            let kept: Vec<u64> = after.in_flight.keys().map(|s| s.0).collect();
            assert_eq!(kept, in_flight);
            assert_eq!(after.row().progress, progress);
            assert!(after.is_exact() && before.is_exact());
        }
    }

    #[test]
    fn trimmed_and_future_messages_are_not_in_flight_after_a_restore() {
        let mut after = group(0);
        let progress = Progress {
            last_sent: Sequence(100),
            acked_floor: Sequence(0),
            acked_above: Ranges::default(),
        };
        after.restore_in_flight(progress, Pages::new(), Sequence(8), Sequence(10));

        let kept: Vec<u64> = after.in_flight.keys().map(|s| s.0).collect();
        assert_eq!(kept, [8, 9, 10]);
        assert_eq!(after.last_sent, Sequence(10));
    }

    #[test]
    fn the_count_of_deliveries_wraps_to_one_and_never_says_first() {
        let (mut group, id) = (group(1), SubscriptionId(1));
        let inbox = || Subject::parse("inbox".into()).expect("it is a subject");
        let row = SubscriptionRow {
            position: PositionId(1),
            client_id: ClientId::parse("app".into()).expect("it is an ID"),
            inbox: inbox(),
            ack_inbox: inbox(),
            max_in_flight: 1,
            ack_wait: Duration::from_secs(1),
            online: true,
            since: Timestamp(0),
        };
        group.members.insert(id, Member::from_row(row, true));
        let often = InFlight {
            holder: None,
            due: Due::At(Instant::from_nanos(1)),
            deliveries: u32::MAX - 1,
            since: None,
        };
        group.in_flight.insert(Sequence(1), often);

        let now = Instant::from_nanos(2);
        let counts = [(); 3].map(|()| group.hand_to(id, Sequence(1), now).0.redelivery_count);
        assert_eq!(counts, [u32::MAX - 1, u32::MAX, 1]);
    }
}
