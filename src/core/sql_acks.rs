//! What consumers ack in transactions of their own: rows of a table, which this term reads with the outbox and carries
//! out like acks of clients. A row leaves the table in the batch that writes the position which covers it, and not
//! before: until then it shows a second caller that the message was acked.
//!
//! Between a commit and its being carried out the message may be delivered again; the ack of that delivery gets false.
//! A term begins with what is in the table, before it redelivers anything.

use std::collections::VecDeque;
use std::time::Duration;

use bytestring::ByteString;

use super::broker::Broker;
use super::deadlines::Timer;
use super::giving_up::GivingUp;
use super::ids::{PositionId, Sequence};
use super::scan_ranges::ScanRanges;
use super::time::Instant;

/// The table is read from its beginning at least so often.
const RESCAN_EVERY: Duration = Duration::from_secs(10);

/// And so often while it holds acks of what this term has not sent yet.
const RESCAN_EARLY_EVERY: Duration = Duration::from_secs(1);

/// Rows that are carried out in one turn.
const ROWS_PER_TURN: usize = 2048;

/// Number of a row of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AckId(pub u64);

/// What somebody says in SQL about a message that was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AckRow {
    pub id: AckId,
    pub position: PositionId,
    pub sequence: Sequence,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Acked,
    /// It is to be delivered again after this time.
    Refused {
        after: Duration,
        reason: ByteString,
    },
}

#[derive(Clone, Debug, Default)]
pub(super) struct SqlAcks {
    pub(super) waiting: VecDeque<AckRow>,
    pub(super) unread: ScanRanges,
    pub(super) giving_up: GivingUp,
    rescanned_at: Option<Instant>,
    /// Some are of messages that this term has not sent.
    has_early: bool,
}

impl SqlAcks {
    /// The next read is of all rows there are.
    pub(super) fn read_all(&mut self) {
        self.rescanned_at = None;
    }

    /// Where the next read is to look.
    pub(super) fn gaps(&mut self, now: Instant) -> Vec<(u64, u64)> {
        let every = if self.has_early {
            RESCAN_EARLY_EVERY
        } else {
            RESCAN_EVERY
        };
        if self.rescanned_at.is_none_or(|at| now.since(at) >= every) {
            self.rescanned_at = Some(now);
            self.unread.rescan();
            self.has_early = false;
        }
        self.unread.gaps()
    }
}

impl Broker {
    /// The term begins with what is in the table: nothing of it is delivered again. The rows leave the table later.
    pub(super) fn restore_sql_acks(&mut self, rows: Vec<AckRow>) {
        if rows.is_empty() {
            return;
        }
        for row in &rows {
            let Some(group) = self.groups.get(&row.position) else {
                continue;
            };
            if row.verdict != Verdict::Acked {
                continue;
            }
            if row.sequence > group.last_sent {
                self.ack_early(row.position, row.sequence);
            } else if self.settle(row.position, row.sequence) {
                self.traffic.acked_messages += 1;
            }
        }
        self.outbox.acks.waiting = rows.into();
        self.deadlines.set_by(Timer::Outbox, self.now.monotonic);
    }

    pub(super) fn carry_out_sql_acks(&mut self) {
        for _ in 0..ROWS_PER_TURN {
            if !self.has_capacity() {
                return;
            }
            let Some(row) = self.outbox.acks.waiting.pop_front() else {
                return;
            };
            self.carry_out_sql_ack(&row);
        }
    }

    fn carry_out_sql_ack(&mut self, row: &AckRow) {
        let (position, sequence) = (row.position, row.sequence);
        let Some(group) = self.groups.get(&position) else {
            // Its subscription has ended for good.
            return self.commits.drop_sql_ack(row.id);
        };
        match row.verdict {
            // An earlier term sent it and could not note it any more. It is passed over, and the row waits for that.
            Verdict::Acked if sequence > group.last_sent => {
                self.ack_early(position, sequence);
                self.outbox.acks.has_early = true;
            }
            Verdict::Acked => {
                let is_settled = self.settle(position, sequence);
                self.commits.take_sql_ack(position, row.id);
                self.note_progress(position);
                self.traffic.sql_acked += 1;
                if is_settled {
                    self.traffic.acked_messages += 1;
                    self.deliver(position);
                }
            }
            Verdict::Refused { after, ref reason } => {
                self.redeliver_after(position, sequence, after, reason);
                self.traffic.sql_nacked += 1;
                self.commits.drop_sql_ack(row.id);
            }
        }
    }
}
