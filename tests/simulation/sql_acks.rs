//! Consumers that ack in transactions of their own. What a transaction writes after it was told that its ack is the one
//! that counts, it writes once for each message, whichever servers and databases fail.

use std::collections::BTreeSet;
use std::time::Duration;

use stanby::core::ids::{PositionId, Sequence};
use stanby::core::sql_acks::Verdict;

use crate::replica::Change;
use crate::world::{Step, World};

/// Transactions that have acked, and neither committed nor rolled back.
#[derive(Debug, Default)]
pub(crate) struct OpenAcks(pub(crate) BTreeSet<(PositionId, Sequence)>);

impl World {
    /// True where this message is acked in SQL, and not by a request.
    pub(crate) fn acks_in_sql(&mut self, inbox: &str, sequence: Sequence) -> bool {
        let is_calm = self.calm;
        let Some(sql) = self.sql.as_mut() else {
            return false;
        };
        let is_in_sql = sql.rng.chance(400);
        // Others ack by a request at the same time.
        let is_both = sql.rng.chance(50);
        let delay = sql.rng.millis(0, if is_calm { 0 } else { 10 });
        if is_in_sql || is_both {
            let inbox = inbox.to_owned();
            self.after(delay, Step::AckInSql { inbox, sequence });
        }
        is_in_sql
    }

    /// `ack` is called in a transaction.
    pub(crate) fn ack_in_sql(&mut self, inbox: String, sequence: Sequence) {
        let is_down = self.time < self.database.down_until;
        let position = self.checks.position_of(&inbox);
        let (Some(sql), Some(position)) = (self.sql.as_mut(), position) else {
            return;
        };
        let key = (position, sequence);
        if is_down || sql.open_acks.0.contains(&key) {
            // The second one waits for the first.
            let pause = sql.rng.millis(1, if is_down { 200 } else { 20 });
            return self.after(pause, Step::AckInSql { inbox, sequence });
        }
        if !self.database.store.may_ack(position, sequence) {
            return self.note(|| format!("an ack in SQL of {position}#{sequence} is told: false"));
        }
        let wait = sql.rng.pick(&[(0, 0), (0, 0), (0, 40), (500, 2_500)]);
        let wait = if self.calm {
            Duration::ZERO
        } else {
            sql.rng.millis(wait.0, wait.1)
        };
        if !self.calm && sql.rng.chance(300) {
            let pause = sql.rng.millis(0, 60);
            let inbox = inbox.clone();
            self.after(pause, Step::AckInSql { inbox, sequence });
        }
        let Some(sql) = self.sql.as_mut() else {
            return;
        };
        sql.open_acks.0.insert(key);
        let is_nack = !self.calm && sql.rng.chance(50);
        let is_rolled_back = !self.calm && sql.rng.chance(150);
        let step = Step::EndAckInSql {
            inbox,
            position,
            sequence,
            is_nack,
            is_rolled_back,
        };
        self.after(wait, step);
    }

    /// And the transaction ends.
    pub(crate) fn end_ack_in_sql(
        &mut self,
        inbox: &str,
        position: PositionId,
        sequence: Sequence,
        is_nack: bool,
        is_rolled_back: bool,
    ) {
        let is_down = self.time < self.database.down_until;
        let Some(sql) = self.sql.as_mut() else {
            return;
        };
        let key = (position, sequence);
        if !sql.open_acks.0.remove(&key) || is_rolled_back || is_down {
            return;
        }
        self.note(|| format!("an ack in SQL of {position}#{sequence} commits"));
        let verdict = if is_nack {
            Verdict::Refused {
                after: Duration::from_millis(sequence.0 % 7 * 100),
                reason: "not now".into(),
            }
        } else {
            self.checks.acks(inbox, sequence);
            let before = self.checks.acked_in_sql.insert(key, self.time);
            let excused = self.checks.failovers.count > 0;
            self.checks.require(before.is_none() || excused, || {
                format!("one ack in SQL is told that it counts: two were for {position}#{sequence}")
            });
            Verdict::Acked
        };
        let store = &mut self.database.store;
        store.ack_in_sql(position, sequence, verdict.clone());
        self.replicate(Change::SqlAck(position, sequence, verdict));
        self.tell_of_outbox();
    }

    /// The tables are those of an earlier time.
    pub(crate) fn fail_over_sql_acks(&mut self) {
        if let Some(sql) = self.sql.as_mut() {
            sql.open_acks.0.clear();
        }
        let store = &self.database.store;
        let acked = &mut self.checks.acked_in_sql;
        acked.retain(|&(position, sequence), _| !store.may_ack(position, sequence));
    }

    pub(crate) fn check_sql_acks(&mut self) {
        let store = self.database.store.snapshot();
        let mut left = store.sql_acks.iter().filter(|row| {
            let position = store.positions.get(&row.position);
            position.is_some_and(|position| row.sequence <= position.progress.last_sent)
        });
        let left = left.next();
        self.checks.require(left.is_none(), || {
            format!("what is acked in SQL is carried out in the end: {left:?} is not")
        });
    }
}
