//! Rows of `channels`.

use tokio_postgres::{Client, Error, Statement};

use super::channel_updates::{ChannelUpdates, Row};
use super::int8;
use super::pipeline::{Parameters, Pipeline};
use crate::core::batch::{Batch, ChannelRow};
use crate::core::ids::{ChannelId, Epoch};

const DELETE: &str = "DELETE FROM channels WHERE channel_id = ANY($1)";

pub(super) const PUT: &str = "INSERT INTO channels
        (channel_id, name, created_at_ns, deleting, first_sequence, last_sequence,
         last_published_at_ns, message_count, byte_count)
    SELECT unnest($1::int8[]), unnest($2::text[]), unnest($3::int8[]), unnest($4::bool[]), unnest($5::int8[]),
        unnest($6::int8[]), unnest($7::int8[]), unnest($8::int8[]), unnest($9::int8[])
    ON CONFLICT (channel_id) DO UPDATE SET
        name = excluded.name, created_at_ns = excluded.created_at_ns, deleting = excluded.deleting,
        first_sequence = excluded.first_sequence, last_sequence = excluded.last_sequence,
        last_published_at_ns = excluded.last_published_at_ns,
        message_count = excluded.message_count, byte_count = excluded.byte_count";

pub(super) const PUT_PARAMETERS: usize = 9;

#[derive(Debug)]
pub(super) struct Statements {
    delete: Statement,
    put: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            delete: client.prepare(DELETE).await?,
            put: client.prepare(PUT).await?,
        })
    }
}

/// What changes with each message, channel by channel.
#[derive(Default)]
pub(super) struct Values {
    id: Vec<i64>,
    first_sequence: Vec<i64>,
    last_sequence: Vec<i64>,
    last_published_at: Vec<i64>,
    message_count: Vec<i64>,
    byte_count: Vec<i64>,
}

impl Values {
    pub(super) fn push(&mut self, id: ChannelId, row: &ChannelRow) {
        self.id.push(int8(id.0));
        self.first_sequence.push(int8(row.first_sequence.0));
        self.last_sequence.push(int8(row.last_sequence.0));
        self.last_published_at.push(row.last_published_at.0);
        self.message_count.push(int8(row.message_count));
        self.byte_count.push(int8(row.byte_count));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.id.is_empty()
    }

    pub(super) fn parameters(&self) -> Parameters<'_> {
        vec![
            &self.id,
            &self.first_sequence,
            &self.last_sequence,
            &self.last_published_at,
            &self.message_count,
            &self.byte_count,
        ]
    }
}

#[derive(Default)]
pub(super) struct Columns<'a> {
    deleted: Vec<i64>,
    name: Vec<&'a str>,
    created_at: Vec<i64>,
    deleting: Vec<bool>,
    values: Values,
}

impl<'a> Columns<'a> {
    /// With the row to append to `channel_updates`, for what is written here later.
    pub(super) fn of(batch: &'a Batch, updates: &ChannelUpdates, epoch: Epoch) -> (Self, Row) {
        let mut columns = Self::default();
        let mut appended = updates.next_row(epoch);
        let are_many = updates.are_many(batch);
        for (&id, row) in &batch.channels {
            let Some(row) = row else {
                columns.deleted.push(int8(id.0));
                continue;
            };
            let is_late = are_many && updates.may_be_late(id, row);
            if is_late || updates.names(id) {
                appended.values.push(id, row);
            }
            if !is_late {
                columns.push(id, row);
            }
        }
        (columns, appended)
    }

    pub(super) fn of_rows(rows: &'a [(ChannelId, ChannelRow)]) -> Self {
        let mut columns = Self::default();
        for (id, row) in rows {
            columns.push(*id, row);
        }
        columns
    }

    fn push(&mut self, id: ChannelId, row: &'a ChannelRow) {
        self.name.push(row.name.as_str());
        self.created_at.push(row.created_at.0);
        self.deleting.push(row.deleting);
        self.values.push(id, row);
    }

    /// Nothing but rows to put, which can go with the messages.
    pub(super) fn only_put(&self) -> bool {
        self.deleted.is_empty() && !self.values.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.deleted.is_empty() && self.values.is_empty()
    }

    /// Deletes come first: a new channel may have the name of a deleted one.
    pub(super) fn add_to<'f>(&'f self, pipeline: &mut Pipeline<'f>, statements: &'f Statements) {
        if !self.deleted.is_empty() {
            pipeline.add(
                &statements.delete,
                vec![&self.deleted],
                "channels deleted",
                None,
            );
        }
        if !self.values.is_empty() {
            let rows = Some(self.name.len());
            pipeline.add(&statements.put, self.parameters(), "channels", rows);
        }
    }

    pub(super) fn parameters(&self) -> Parameters<'_> {
        let mut values = self.values.parameters();
        let rest = values.split_off(1);
        values.extend::<Parameters<'_>>(vec![&self.name, &self.created_at, &self.deleting]);
        values.extend(rest);
        values
    }
}
