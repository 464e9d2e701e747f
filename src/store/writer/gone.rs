//! Rows of `gone_ranges`.

use tokio_postgres::{Client, Error, Statement};

use super::int8;
use super::pipeline::{Parameters, Pipeline};
use crate::core::batch::Batch;
use crate::core::gone::Reason;

const FORGET: &str = "WITH set_back AS (
        SELECT * FROM unnest($1::int8[], $2::int8[]) AS t (channel_id, last)
    ), cut AS (
        UPDATE gone_ranges g SET last_sequence = s.last FROM set_back s
        WHERE g.channel_id = s.channel_id AND g.first_sequence <= s.last AND g.last_sequence > s.last
    )
    DELETE FROM gone_ranges g USING set_back s WHERE g.channel_id = s.channel_id AND g.first_sequence > s.last";

const SETTLE: &str = "UPDATE gone_ranges g SET settled_bytes = s.bytes
    FROM unnest($1::int8[], $2::int8[], $3::int8[]) AS s (channel_id, first, bytes)
    WHERE g.channel_id = s.channel_id AND g.first_sequence = s.first";

const ADD: &str = "INSERT INTO gone_ranges (channel_id, first_sequence, last_sequence, byte_count, reason)
    SELECT channel_id, first, last, 0, reason
    FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::text[]) AS t (channel_id, first, last, reason)
    ON CONFLICT (channel_id, first_sequence) DO UPDATE
    SET last_sequence = greatest(gone_ranges.last_sequence, excluded.last_sequence)";

/// What limits have dropped since is of no interest any more, so the table stays as small as what is wrong.
const TIDY: &str = "DELETE FROM gone_ranges g
    WHERE NOT EXISTS (
        SELECT FROM channels c WHERE c.channel_id = g.channel_id AND c.first_sequence <= g.last_sequence
    )";

#[derive(Debug)]
pub(super) struct Statements {
    forget: Statement,
    settle: Statement,
    add: Statement,
    tidy: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            forget: client.prepare(FORGET).await?,
            settle: client.prepare(SETTLE).await?,
            add: client.prepare(ADD).await?,
            tidy: client.prepare(TIDY).await?,
        })
    }
}

#[derive(Default)]
pub(super) struct Columns {
    forgotten: [Vec<i64>; 2],
    settled: [Vec<i64>; 3],
    added: [Vec<i64>; 3],
    reason: Vec<&'static str>,
}

impl Columns {
    pub(super) fn of(batch: &Batch) -> Self {
        let mut columns = Self::default();
        for (channel, last) in &batch.gone.forgotten_after {
            push(&mut columns.forgotten, [channel.0, last.0]);
        }
        for ((channel, first), bytes) in &batch.gone.settled {
            push(&mut columns.settled, [channel.0, first.0, *bytes]);
        }
        for (channel, first, last, reason) in &batch.gone.added {
            push(&mut columns.added, [channel.0, first.0, last.0]);
            columns.reason.push(match reason {
                Reason::Failover => "failover",
                Reason::Counted => "counted",
                Reason::Deleted => "deleted",
            });
        }
        columns
    }

    pub(super) fn add_to<'f>(&'f self, pipeline: &mut Pipeline<'f>, statements: &'f Statements) {
        const WHAT: &str = "gone ranges";
        let [channel, last] = &self.forgotten;
        let is_empty = [channel, &self.settled[0], &self.added[0]]
            .iter()
            .all(|column| column.is_empty());
        if is_empty {
            return;
        }
        if !channel.is_empty() {
            let parameters: Parameters<'_> = vec![channel, last];
            pipeline.add(&statements.forget, parameters, WHAT, None);
        }
        let [channel, first, bytes] = &self.settled;
        if !channel.is_empty() {
            let parameters: Parameters<'_> = vec![channel, first, bytes];
            // One that somebody has deleted meanwhile is settled, too.
            pipeline.add(&statements.settle, parameters, WHAT, None);
        }
        let [channel, first, last] = &self.added;
        if !channel.is_empty() {
            let parameters: Parameters<'_> = vec![channel, first, last, &self.reason];
            pipeline.add(&statements.add, parameters, WHAT, None);
        }
        pipeline.add(&statements.tidy, Parameters::new(), WHAT, None);
    }
}

fn push<const N: usize>(columns: &mut [Vec<i64>; N], row: [u64; N]) {
    for (column, value) in columns.iter_mut().zip(row) {
        column.push(int8(value));
    }
}
