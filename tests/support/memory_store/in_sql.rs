//! What people and applications write into tables in SQL, and the active carries out.

use stanby::core::admin::{RequestChange, RequestId, RequestPage, RequestRow};
use stanby::core::batch::Batch;
use stanby::core::ids::{ChannelId, PositionId, Sequence};
use stanby::core::outbox::{OutboxId, OutboxPage, OutboxRow};
use stanby::core::policy::StoredDeadLetter;
use stanby::core::sql_acks::{AckId, AckRow, Verdict};
use stanby::core::time::Timestamp;

use super::MemoryStore;

impl MemoryStore {
    /// A transaction of an application commits, in which it has published this.
    pub(crate) fn publish_in_sql(&mut self, rows: Vec<(Option<Timestamp>, OutboxRow)>) {
        for (due, mut row) in rows {
            self.outbox_rows += 1;
            row.id = OutboxId(self.outbox_rows);
            self.outbox.insert(row.id, (due, row));
        }
    }

    /// A transaction of an application that has called `ack` or `nack` commits.
    pub(crate) fn ack_in_sql(
        &mut self,
        position: PositionId,
        sequence: Sequence,
        verdict: Verdict,
    ) {
        self.ack_rows += 1;
        self.rows.sql_acks.push(AckRow {
            id: AckId(self.ack_rows),
            position,
            sequence,
            verdict,
        });
    }

    /// What `ack` returns: the message is not acked, in SQL or otherwise.
    pub(crate) fn may_ack(&self, position: PositionId, sequence: Sequence) -> bool {
        let mut pending = self.rows.sql_acks.iter();
        let is_pending = pending.any(|row| {
            (row.position, row.sequence, &row.verdict) == (position, sequence, &Verdict::Acked)
        });
        let exists = self.rows.positions.contains_key(&position);
        let count = self.rows.counts.get(&(position, sequence));
        let is_given_up = count.is_some_and(|count| count.is_given_up);
        exists && !is_pending && !is_given_up && !self.is_acked(position, sequence)
    }

    /// As the position tells.
    pub(super) fn is_acked(&self, position: PositionId, sequence: Sequence) -> bool {
        self.rows.positions.get(&position).is_some_and(|row| {
            let progress = &row.progress;
            sequence <= progress.acked_floor || progress.acked_above.contains(sequence)
        })
    }

    pub(super) fn apply_sql_acks(&mut self, batch: &Batch) {
        let change = &batch.outbox;
        for &(position, id) in &change.acked {
            let row = self.rows.sql_acks.iter().find(|row| row.id == id);
            let row = row.unwrap_or_else(|| panic!("ack {id:?} was carried out before"));
            let is_gone = !self.rows.positions.contains_key(&position);
            assert!(
                is_gone || self.is_acked(position, row.sequence),
                "an ack leaves with the position that covers it: {row:?} does not"
            );
        }
        self.rows.sql_acks.retain(|row| {
            let mut acked = change.acked.iter();
            !acked.any(|(_, id)| *id == row.id) && !change.acks_dropped.contains(&row.id)
        });
    }

    /// What the outbox holds.
    pub(crate) fn outbox(&self) -> impl Iterator<Item = &OutboxRow> {
        self.outbox.values().map(|(_, row)| row)
    }

    pub(super) fn apply_outbox(&mut self, batch: &Batch) {
        self.apply_sql_acks(batch);
        let change = &batch.outbox;
        self.outbox.retain(|_, (_, row)| {
            !change
                .put_back
                .iter()
                .any(|guid| *guid.as_str() == *row.guid)
        });
        for id in &change.taken {
            let taken = self.outbox.remove(id);
            assert!(taken.is_some(), "row {id:?} of the outbox is gone");
        }
        for (id, why) in &change.refused {
            if let Some((_, row)) = self.outbox.remove(id) {
                self.outbox_refused.push((row, why.clone()));
            }
        }
    }

    /// An operator asks for something.
    pub(crate) fn ask(&mut self, mut row: RequestRow) -> RequestId {
        row.id = RequestId(self.requests.len() as u64 + 1);
        let id = row.id;
        self.requests.insert(id, (row, None));
        id
    }

    /// What was asked for, and what became of it; `None`: nothing yet.
    pub(crate) fn requests(&self) -> impl Iterator<Item = &(RequestRow, Option<RequestChange>)> {
        self.requests.values()
    }

    pub(super) fn apply_requests(&mut self, batch: &Batch) {
        for (id, change) in &batch.requests {
            // One that a failover has lost.
            let Some((row, answer)) = self.requests.get_mut(id) else {
                continue;
            };
            match change {
                RequestChange::Taken => row.taken = Some(row.taken.unwrap_or_default()),
                RequestChange::Underway(underway) => row.taken = Some(*underway),
                RequestChange::Done(_) | RequestChange::Refused(_) => {
                    assert!(answer.is_none(), "{row:?} is answered twice");
                    assert!(row.taken.is_some(), "{row:?} was taken before");
                    *answer = Some(change.clone());
                }
            }
        }
    }

    pub(super) fn request_page(&self, rows: usize) -> RequestPage {
        let open = self.requests.values();
        let open = open.filter(|(_, answer)| answer.is_none());
        RequestPage {
            is_used: !self.requests.is_empty(),
            rows: open.map(|(row, _)| row.clone()).take(rows).collect(),
        }
    }

    /// Transactions end at once here, so their numbers are those of the rows.
    pub(super) fn outbox_page(
        &self,
        [gaps, ack_gaps]: [&[(u64, u64)]; 2],
        (due, put_off): (Timestamp, &[OutboxId]),
        count: usize,
        payload_bytes: usize,
    ) -> OutboxPage {
        let plain = self.outbox.values().filter(|(at, _)| at.is_none());
        let plain = plain.filter(|(_, row)| is_in(gaps, row.id.0)).take(count);
        let plain: Vec<&OutboxRow> = plain.map(|(_, row)| row).collect();
        let now = plain.first().zip(plain.last());
        let now = now.map(|(first, last)| (first.id, last.id));
        let is_cut = plain.len() == count;
        let through = plain.last().filter(|_| is_cut).map(|row| row.id);
        let scheduled = || {
            self.outbox
                .values()
                .filter_map(|(at, row)| Some(((*at)?, row)))
        };
        let mut ripe: Vec<_> = scheduled()
            .filter(|(at, row)| *at <= due && !put_off.contains(&row.id))
            .collect();
        ripe.sort_by_key(|(at, row)| (*at, row.id));
        let next_due = scheduled().map(|(at, _)| at).filter(|at| *at > due).min();
        let rows = ripe
            .into_iter()
            .take(count)
            .map(|(_, row)| row)
            .chain(plain);
        let fits = |row: &OutboxRow| {
            let mut row = row.clone();
            if let Ok(data) = &row.data
                && data.len() > payload_bytes
            {
                row.data = Err(data.len() as u64);
            }
            row
        };
        let acks = self.rows.sql_acks.iter();
        let acks = acks.filter(|row| is_in(ack_gaps, row.id.0));
        let acks: Vec<AckRow> = acks.take(count).cloned().collect();
        let inserted = self.outbox_rows + self.ack_rows;
        OutboxPage {
            is_used: inserted > 0,
            rows: rows.map(fits).collect(),
            now,
            through,
            acks_through: acks
                .last()
                .filter(|_| acks.len() == count)
                .map(|row| row.id),
            acks,
            next_due,
            ended_before: inserted + 1,
            next: inserted + 1,
            acks_ended_before: inserted + 1,
        }
    }

    /// Dead letters that are there: those that were never redriven, or those that this request has not redriven.
    pub(super) fn letters(
        &self,
        channel: ChannelId,
        (first, last): (Sequence, Sequence),
        again: Option<RequestId>,
        rows: usize,
    ) -> Vec<StoredDeadLetter> {
        let letters = self.dead_letters.iter().filter(|(id, sequence, _)| {
            let by = self.redriven.get(&(*id, *sequence));
            *id == channel
                && (first..=last).contains(sequence)
                && again.map_or(by.is_none(), |request| by != Some(&request))
        });
        let letters = letters.filter_map(|(id, sequence, letter)| {
            let (_, message) = self.messages.get(&(*id, *sequence))?;
            Some(StoredDeadLetter {
                sequence: *sequence,
                origin: letter.origin.as_str().into(),
                reply: letter.reply.clone(),
                bytes: message.data.len() as u64,
            })
        });
        letters.take(rows).collect()
    }
}

fn is_in(gaps: &[(u64, u64)], id: u64) -> bool {
    let mut gaps = gaps.iter();
    gaps.any(|(first, last)| (first..=last).contains(&&id))
}
