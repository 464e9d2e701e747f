//! What the active reports of itself: for the status page, the history, and the tables.

use std::time::Duration;

use super::Active;
use crate::clock::Clock;
use crate::leadership::{ConditionRow, Record, Term, TermLost};
use crate::monitoring::condition::Condition;

/// Whatever ended the terms before, this one is none of them.
const TERM_IS_WELL: Duration = Duration::from_secs(30);

impl Active<'_> {
    /// Figures for the history: when they cannot be noted, the term is ending anyway.
    pub(super) fn note_answers(&self, first_ack: Option<Duration>) {
        let is_first = first_ack.is_none() || self.from_memory > 0;
        let now = Clock.now().monotonic;
        let silence = self.last_sign.filter(|_| is_first).map(|at| now.since(at));
        let from_memory = self.from_memory as u64;
        if is_first {
            self.node.status.answered(silence, from_memory);
        }
        let answered_from_memory = Some(from_memory);
        let record = Record {
            load_time: Some(self.takeover_time),
            first_ack,
            silence,
            answered_from_memory,
            ..Record::default()
        };
        self.leader.record(record).ok();
    }

    pub(super) fn report(&self, term: &Term) {
        let counts = self.active.broker().counts().after(self.earlier);
        let late = self.earlier_late + term.late_renewals();
        self.node.status.progress(term, counts, late);
        self.node.status.nats(self.node.nats.counts());
        match self.active.broker().unreachable_clients() {
            Some(clients) => self.node.status.raise(
                Condition::ClientsUnreachable,
                format!(
                    "clients that do not answer: {clients}, at least half of all; they are taken to be out of reach and \
                     closed after three times as many missed heartbeats; look at the routes of the NATS cluster, \
                     leafnodes, and imports of the account"
                ),
            ),
            None => self.node.status.clear(Condition::ClientsUnreachable),
        }
    }

    pub(super) fn look_at_conditions(&mut self, term: &Term) {
        let now = Clock.now().monotonic;
        self.refusals.look(&self.node.status, now);
        self.dead_letters.look(&self.node.status, now);
        match term.blocked_by() {
            Some(why) => self.node.status.raise(Condition::CommitBlocked, why),
            None => self.node.status.clear(Condition::CommitBlocked),
        }
        match term.unnoted() {
            Some(why) => self.node.status.raise(Condition::HistoryLacks, why),
            None => self.node.status.clear(Condition::HistoryLacks),
        }
        let lasts = now.since(self.began);
        if lasts > self.node.leadership.lease.duration() {
            self.node.status.serves();
        }
        if lasts > TERM_IS_WELL {
            self.node.status.clear(Condition::TermsEnd);
        }
    }

    /// In the tables, when they have changed.
    pub(super) fn show_conditions(&mut self) -> Result<(), TermLost> {
        let conditions = self.node.status.conditions();
        if self.conditions.as_ref() == Some(&conditions) {
            return Ok(());
        }
        let rows = conditions.iter().map(|(condition, raised)| ConditionRow {
            kind: condition.name(),
            reason: raised.reason.clone(),
            since: raised.since,
        });
        if self.leader.show_conditions(rows.collect())? {
            self.conditions = Some(conditions);
        }
        Ok(())
    }
}
