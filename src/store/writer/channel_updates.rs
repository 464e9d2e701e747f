//! Rows of `channel_updates`. A commit that publishes to many channels appends one row with the values of all of them, which costs less
//! than to rewrite the row of each in `channels`; a second later the newest values are written there (docs/decisions/speed.md).
//!
//! What a reader relies on: of the rows that name a channel the newest is right, and no older than `channels`. So while a row names a
//! channel, each later write of that channel appends one, too.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_postgres::{Client, Error, Statement};

use super::channels::Values;
use super::int8;
use super::left_for_later::LeftForLater;
use super::pipeline::{Parameters, Pipeline};
use crate::core::batch::{Batch, ChannelRow};
use crate::core::ids::{ChannelId, Epoch, Sequence};
use crate::core::time::Instant;

/// With fewer channels the rows of `channels` are as cheap, and nothing is written twice.
const MANY: usize = 64;

/// How old `channels` may be.
const WRITE_AFTER: Duration = Duration::from_secs(1);

/// A batch waits for so many rows at most: some 7 ms.
const ROWS_AT_ONCE: usize = 2_000;

pub(super) const APPEND: &str = "INSERT INTO channel_updates
        (epoch, number, channel_id, first_sequence, last_sequence, last_published_at_ns, message_count, byte_count)
    VALUES ($1::int8, $2::int8, $3::int8[], $4::int8[], $5::int8[], $6::int8[], $7::int8[], $8::int8[])";

pub(super) const APPEND_PARAMETERS: usize = 8;

const DELETE: &str = "DELETE FROM channel_updates WHERE (epoch, number) <= ($1, $2)";

/// Where a crash undoes the commit, the rows that it deleted are there again. Who holds a row must not hold up everybody.
const SETTINGS: &str = "SELECT set_config('synchronous_commit', 'off', true), set_config('lock_timeout', '50ms', true)";

#[derive(Debug)]
pub(super) struct Statements {
    append: Statement,
    delete: Statement,
    settings: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            append: client.prepare(APPEND).await?,
            delete: client.prepare(DELETE).await?,
            settings: client.prepare(SETTINGS).await?,
        })
    }
}

/// A row to append.
#[derive(Default)]
pub(super) struct Row {
    epoch: i64,
    number: i64,
    pub(super) values: Values,
}

impl Row {
    pub(super) fn add_to<'f>(&'f self, pipeline: &mut Pipeline<'f>, statements: &'f Statements) {
        if !self.values.is_empty() {
            let parameters = self.parameters();
            pipeline.add(&statements.append, parameters, "channel_updates", Some(1));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub(super) fn parameters(&self) -> Parameters<'_> {
        let mut parameters: Parameters<'_> = vec![&self.epoch, &self.number];
        parameters.extend(self.values.parameters());
        parameters
    }
}

/// What this writer has appended and not written to `channels` yet. Changes only after a commit.
#[derive(Debug, Default)]
pub(super) struct ChannelUpdates {
    is_on: bool,
    /// Channels that have a row in `channels`, with what it says of their first message: statements compare with that, so that
    /// it is never late.
    known: BTreeMap<ChannelId, Sequence>,
    /// Channels that a row of `channel_updates` names.
    named: BTreeMap<ChannelId, Named>,
    /// The number of the row that was appended last.
    number: u64,
    due: Option<Instant>,
    round: Option<Round>,
    /// The last attempt to write rows of `channels` was refused.
    was_refused: bool,
}

#[derive(Debug)]
struct Named {
    /// The newest row that names it.
    number: u64,
    /// Its newest values, where `channels` has older ones.
    late: Option<ChannelRow>,
}

/// Rows up to a number become superfluous as the channels that they name are written.
#[derive(Debug)]
struct Round {
    through: u64,
    left: Vec<ChannelId>,
}

/// What is written to `channels` at once.
pub(super) struct Part {
    pub(super) rows: Vec<(ChannelId, ChannelRow)>,
    /// They are appended again instead, because somebody holds one of them: the rows before can go, and what waits stays small.
    puts_off: bool,
    delete_through: Option<u64>,
}

impl ChannelUpdates {
    pub(super) fn turn_on(&mut self, left: LeftForLater, now: Instant) {
        self.is_on = true;
        let left = left.0.into_iter().map(|(id, row)| {
            let late = Some(row);
            (id, Named { number: 0, late })
        });
        self.named = left.collect();
        if !self.named.is_empty() {
            self.due = Some(now + WRITE_AFTER);
        }
    }

    /// When [`Self::part`] is to be written.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether the rows of this batch that can be written later are enough for that.
    pub(super) fn are_many(&self, batch: &Batch) -> bool {
        let later = batch.channels.iter().filter(|(id, row)| {
            let row = row.as_ref();
            row.is_some_and(|row| self.may_be_late(**id, row))
        });
        self.is_on && batch.channels.len() >= MANY && later.count() >= MANY
    }

    pub(super) fn may_be_late(&self, id: ChannelId, row: &ChannelRow) -> bool {
        !row.deleting && self.known.get(&id) == Some(&row.first_sequence)
    }

    pub(super) fn names(&self, id: ChannelId) -> bool {
        self.named.contains_key(&id)
    }

    pub(super) fn next_row(&self, epoch: Epoch) -> Row {
        Row {
            epoch: int8(epoch.0),
            number: int8(self.number + 1),
            values: Values::default(),
        }
    }

    /// The batch is in the tables.
    pub(super) fn committed(&mut self, batch: &Batch, now: Instant) {
        if !self.is_on {
            return;
        }
        let are_many = self.are_many(batch);
        let number = self.number + 1;
        let mut has_row = false;
        for (&id, row) in &batch.channels {
            let Some(row) = row else {
                self.known.remove(&id);
                if let Some(named) = self.named.get_mut(&id) {
                    named.late = None;
                }
                continue;
            };
            if are_many && self.may_be_late(id, row) {
                let late = Some(row.clone());
                self.named.insert(id, Named { number, late });
                has_row = true;
                continue;
            }
            if row.deleting {
                self.known.remove(&id);
            } else {
                self.known.insert(id, row.first_sequence);
            }
            if let Some(named) = self.named.get_mut(&id) {
                *named = Named { number, late: None };
                has_row = true;
            }
        }
        if has_row {
            self.number = number;
            self.due.get_or_insert(now + WRITE_AFTER);
        }
    }

    pub(super) fn part(&mut self) -> Part {
        let (number, named) = (self.number, &self.named);
        let round = self.round.get_or_insert_with(|| {
            let late = named.iter().filter(|(_, named)| named.late.is_some());
            // Taken from the end, in the order of the primary key.
            let left = late.rev().map(|(&id, _)| id).collect();
            Round {
                through: number,
                left,
            }
        });
        let mut rows = Vec::new();
        while rows.len() < ROWS_AT_ONCE
            && let Some(id) = round.left.pop()
        {
            // A batch may have written it meanwhile.
            if let Some(row) = named.get(&id).and_then(|named| named.late.as_ref()) {
                rows.push((id, row.clone()));
            }
        }
        Part {
            rows,
            puts_off: self.was_refused,
            delete_through: round.left.is_empty().then_some(round.through),
        }
    }

    pub(super) fn written(&mut self, part: &Part, now: Instant) {
        if part.puts_off && !part.rows.is_empty() {
            self.number += 1;
        }
        let number = self.number;
        for (id, _) in &part.rows {
            match self.named.get_mut(id) {
                Some(named) if part.puts_off => named.number = number,
                Some(named) => named.late = None,
                None => {}
            }
        }
        self.was_refused = false;
        if let Some(through) = part.delete_through {
            self.named.retain(|_, named| named.number > through);
            self.round = None;
            self.due = (!self.named.is_empty()).then(|| now + WRITE_AFTER);
        }
    }

    /// Nothing of it is in the tables.
    pub(super) fn refused(&mut self, part: &Part, now: Instant) {
        if let Some(round) = &mut self.round {
            round.left.extend(part.rows.iter().rev().map(|(id, _)| *id));
        }
        if self.was_refused {
            self.due = Some(now + WRITE_AFTER);
        }
        self.was_refused = true;
    }
}

/// The statements of a part; its rows of `channels` are the caller's.
pub(super) struct Columns {
    row: Row,
    epoch: i64,
    delete_through: Option<i64>,
}

impl Columns {
    pub(super) fn of(part: &Part, updates: &ChannelUpdates, epoch: Epoch) -> Self {
        let mut row = updates.next_row(epoch);
        if part.puts_off {
            for (id, channel) in &part.rows {
                row.values.push(*id, channel);
            }
        }
        Self {
            row,
            epoch: int8(epoch.0),
            delete_through: part.delete_through.map(int8),
        }
    }

    pub(super) fn puts_off(&self) -> bool {
        !self.row.values.is_empty()
    }

    pub(super) fn begin<'f>(&'f self, pipeline: &mut Pipeline<'f>, statements: &'f Statements) {
        pipeline.add(&statements.settings, Vec::new(), "settings", None);
        self.row.add_to(pipeline, statements);
    }

    pub(super) fn end<'f>(&'f self, pipeline: &mut Pipeline<'f>, statements: &'f Statements) {
        if let Some(through) = &self.delete_through {
            let parameters: Parameters<'_> = vec![&self.epoch, through];
            pipeline.add(&statements.delete, parameters, "channel_updates", None);
        }
    }
}
