//! Rows of `positions`, and progress of those that are there.

use tokio_postgres::{Client, Error, Statement};

use super::int8;
use super::pipeline::{Parameters, Pipeline};
use crate::core::batch::{AckedChange, Batch};
use crate::core::ids::{DurableName, QueueName, Sequence};
use crate::core::ranges::Ranges;
use crate::store::rows::multirange;

const DELETE: &str = "DELETE FROM positions WHERE position_id = ANY($1)";

const PUT: &str = "INSERT INTO positions
        (position_id, channel_id, durable_name, queue_group, last_sent, acked_floor, acked_above)
    SELECT position_id, channel_id, durable_name, queue_group, last_sent, acked_floor,
        acked_above::int8multirange
    FROM unnest($1::int8[], $2::int8[], $3::text[], $4::text[], $5::int8[], $6::int8[], $7::text[])
        AS t (position_id, channel_id, durable_name, queue_group, last_sent, acked_floor, acked_above)
    ON CONFLICT (position_id) DO UPDATE SET
        channel_id = excluded.channel_id, durable_name = excluded.durable_name,
        queue_group = excluded.queue_group, last_sent = excluded.last_sent,
        acked_floor = excluded.acked_floor, acked_above = excluded.acked_above";

const SET_PROGRESS: &str = "UPDATE positions p
    SET last_sent = t.last_sent, acked_floor = t.acked_floor,
        acked_above = t.acked_above::int8multirange
    FROM (SELECT unnest($1::int8[]), unnest($2::int8[]), unnest($3::int8[]), unnest($4::text[]))
        AS t (position_id, last_sent, acked_floor, acked_above)
    WHERE p.position_id = t.position_id";

#[derive(Debug)]
pub(super) struct Statements {
    delete: Statement,
    put: Statement,
    set_progress: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            delete: client.prepare(DELETE).await?,
            put: client.prepare(PUT).await?,
            set_progress: client.prepare(SET_PROGRESS).await?,
        })
    }
}

#[derive(Default)]
pub(super) struct Columns<'a> {
    deleted: Vec<i64>,
    channel: Vec<i64>,
    durable_name: Vec<Option<&'a str>>,
    queue_group: Vec<Option<&'a str>>,
    progress: ProgressColumns,
}

impl<'a> Columns<'a> {
    pub(super) fn of(batch: &'a Batch) -> Self {
        let mut columns = Self::default();
        for (id, row) in &batch.positions {
            let Some(row) = row else {
                columns.deleted.push(int8(id.0));
                continue;
            };
            columns.channel.push(int8(row.channel.0));
            columns
                .durable_name
                .push(row.durable_name.as_ref().map(DurableName::as_str));
            columns
                .queue_group
                .push(row.queue_group.as_ref().map(QueueName::as_str));
            let progress = &row.progress;
            columns
                .progress
                .push(id.0, progress.last_sent, progress.acked_floor);
            let above = multirange(&progress.acked_above);
            columns.progress.acked_above.push(above);
        }
        columns
    }

    pub(super) fn add_to<'f>(&'f self, pipeline: &mut Pipeline<'f>, statements: &'f Statements) {
        if !self.deleted.is_empty() {
            pipeline.add(
                &statements.delete,
                vec![&self.deleted],
                "positions deleted",
                None,
            );
        }
        if !self.channel.is_empty() {
            let rows = Some(self.channel.len());
            pipeline.add(&statements.put, self.parameters(), "positions", rows);
        }
    }

    fn parameters(&self) -> Parameters<'_> {
        let progress = &self.progress;
        vec![
            &progress.id,
            &self.channel,
            &self.durable_name,
            &self.queue_group,
            &progress.last_sent,
            &progress.acked_floor,
            &progress.acked_above,
        ]
    }
}

#[derive(Default)]
pub(super) struct ProgressColumns {
    id: Vec<i64>,
    last_sent: Vec<i64>,
    acked_floor: Vec<i64>,
    acked_above: Vec<String>,
}

impl ProgressColumns {
    pub(super) fn of(batch: &Batch) -> Self {
        let mut columns = Self::default();
        for (id, change) in &batch.progress {
            columns.push(id.0, change.last_sent, change.acked_floor);
            columns.acked_above.push(match &change.acked {
                AckedChange::Row { above, .. } => multirange(above),
                AckedChange::Pages { .. } => multirange(&Ranges::default()),
            });
        }
        columns
    }

    fn push(&mut self, id: u64, last_sent: Sequence, acked_floor: Sequence) {
        self.id.push(int8(id));
        self.last_sent.push(int8(last_sent.0));
        self.acked_floor.push(int8(acked_floor.0));
    }

    pub(super) fn add_to<'f>(&'f self, pipeline: &mut Pipeline<'f>, statements: &'f Statements) {
        if !self.id.is_empty() {
            let parameters: Parameters<'_> = vec![
                &self.id,
                &self.last_sent,
                &self.acked_floor,
                &self.acked_above,
            ];
            pipeline.add(
                &statements.set_progress,
                parameters,
                "progress",
                Some(self.id.len()),
            );
        }
    }
}
