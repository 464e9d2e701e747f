//! Whether a message may become a dead letter, though consumers ack in transactions of their own: one that was answered that its
//! ack counts may commit only later, and until then nobody sees it. What it wrote and the dead letter would be two answers to
//! one message.
//!
//! So a message is given up in two steps. A batch marks it: from that commit on an ack in SQL is answered that it comes too late.
//! Then every transaction that may have acked it before has to end; the reads of `outbox` tell, and bring the ack if there is
//! one. Nobody waits for a lock: a transaction that has acked something and stays open holds up the dead letter, and nothing else.

use std::collections::BTreeMap;

use super::broker::Broker;
use super::deadlines::Timer;
use super::group::Due;
use super::ids::{PositionId, Sequence};
use super::outbox::{BUSY_PAUSE, OutboxPage};

/// How far it is with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Its mark is to be committed.
    Marking,
    Marked,
    /// A page was asked for since.
    Asked,
    /// A transaction before this one may have acked it.
    Until(u64),
    /// Nobody has acked it, and nobody can.
    Over,
}

/// Entries of messages that are settled or delivered again stay until the next page, and mean nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct GivingUp(BTreeMap<(PositionId, Sequence), Wait>);

impl GivingUp {
    /// The outbox has to be read for them.
    pub(super) fn waits(&self) -> bool {
        let mut waits = self.0.values();
        waits.any(|wait| !matches!(wait, Wait::Marking | Wait::Over))
    }

    /// A page is asked for. True when some wait for their first one: it has to bring all acks there are, as one that came before
    /// its message was sent may have been read and forgotten.
    pub(super) fn ask(&mut self) -> bool {
        let mut are_new = false;
        for wait in self.0.values_mut() {
            if *wait == Wait::Marked {
                *wait = Wait::Asked;
                are_new = true;
            }
        }
        are_new
    }

    /// Returns the messages that nobody can have acked any more.
    fn learn(&mut self, page: &OutboxPage) -> Vec<(PositionId, Sequence)> {
        let mut over = Vec::new();
        for (key, wait) in &mut self.0 {
            if *wait == Wait::Asked {
                *wait = Wait::Until(page.next);
            }
            let Wait::Until(before) = *wait else {
                continue;
            };
            let mut acks = page.acks.iter();
            let is_answered = acks.any(|row| (row.position, row.sequence) == *key);
            if page.acks_ended_before >= before && page.acks_through.is_none() && !is_answered {
                *wait = Wait::Over;
                over.push(*key);
            }
        }
        over
    }
}

impl Broker {
    /// False while somebody may have acked the message in SQL. It is due again once that is known.
    pub(super) fn may_give_up(&mut self, position: PositionId, sequence: Sequence) -> bool {
        let key = (position, sequence);
        let Some(group) = self.groups.get_mut(&position) else {
            return false;
        };
        let Some(attempts) = &mut group.attempts else {
            return false;
        };
        if attempts.give_up(sequence) {
            self.outbox.acks.giving_up.0.insert(key, Wait::Marking);
            self.note_progress(position);
            return false;
        }
        // It stays so while the mark is there: the dead letter may find no room at first.
        self.outbox.acks.giving_up.0.get(&key) == Some(&Wait::Over)
    }

    /// The tables have the mark since an earlier term.
    pub(super) fn go_on_giving_up(&mut self, position: PositionId, sequence: Sequence) {
        let waits = &mut self.outbox.acks.giving_up.0;
        waits.insert((position, sequence), Wait::Marked);
        self.deadlines.set_by(Timer::Outbox, self.now.monotonic);
    }

    pub(super) fn marks_committed(&mut self, marks: Vec<(PositionId, Sequence)>) {
        for key in marks {
            if let Some(wait) = self.outbox.acks.giving_up.0.get_mut(&key)
                && *wait == Wait::Marking
            {
                *wait = Wait::Marked;
                self.outbox.pause = BUSY_PAUSE;
                self.deadlines.set_by(Timer::Outbox, self.now.monotonic);
            }
        }
    }

    /// To be called before what the page brings is carried out.
    pub(super) fn learn_who_can_ack(&mut self, page: &OutboxPage) {
        let Self { outbox, groups, .. } = self;
        let waits = &mut outbox.acks.giving_up;
        if waits.0.is_empty() {
            return;
        }
        waits.0.retain(|(position, sequence), _| {
            let attempts = groups
                .get(position)
                .and_then(|group| group.attempts.as_ref());
            attempts.is_some_and(|attempts| attempts.is_given_up(*sequence))
        });
        for (position, sequence) in waits.learn(page) {
            if let Some(group) = self.groups.get_mut(&position) {
                group.set_due(sequence, Due::At(self.now.monotonic));
            }
            self.arm_redelivery(position, self.now.monotonic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::sql_acks::{AckId, AckRow, Verdict};

    const KEY: (PositionId, Sequence) = (PositionId(3), Sequence(7));

    fn page(acks_ended_before: u64, next: u64) -> OutboxPage {
        OutboxPage {
            next,
            acks_ended_before,
            ..OutboxPage::default()
        }
    }

    fn marked() -> GivingUp {
        GivingUp(BTreeMap::from([(KEY, Wait::Marked)]))
    }

    #[test]
    fn a_page_that_was_asked_for_before_the_mark_proves_nothing() {
        let mut waits = marked();
        assert_eq!(waits.learn(&page(100, 100)), []);
        assert!(waits.ask());
        assert_eq!(waits.learn(&page(100, 100)), [KEY]);
        assert!(!waits.waits());
    }

    #[test]
    fn a_transaction_that_was_open_at_the_mark_is_waited_for_and_later_ones_are_not() {
        let mut waits = marked();
        assert!(waits.ask());
        assert_eq!(waits.learn(&page(90, 100)), []);
        assert_eq!(waits.learn(&page(99, 200)), []);
        assert!(waits.waits());
        assert_eq!(waits.learn(&page(100, 300)), [KEY]);
    }

    #[test]
    fn an_ack_that_the_page_brings_or_may_not_have_room_for_comes_first() {
        let mut waits = marked();
        assert!(waits.ask());
        let ack = AckRow {
            id: AckId(1),
            position: KEY.0,
            sequence: KEY.1,
            verdict: Verdict::Acked,
        };
        let answered = OutboxPage {
            acks: vec![ack],
            ..page(100, 100)
        };
        assert_eq!(waits.learn(&answered), []);
        let cut = OutboxPage {
            acks_through: Some(AckId(1)),
            ..page(100, 100)
        };
        assert_eq!(waits.learn(&cut), []);
    }
}
