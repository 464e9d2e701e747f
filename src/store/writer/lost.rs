//! Rows of `lost_ranges`.

use tokio_postgres::{Client, Error, Statement};

use super::int8;
use super::pipeline::{Parameters, Pipeline};
use crate::core::batch::{Batch, RangeOutcome};
use crate::core::ids::Epoch;

const PUT: &str =
    "INSERT INTO lost_ranges (epoch, channel_id, first_sequence, last_sequence, channel, fate)
    SELECT $1, channel_id, first_sequence, last_sequence, channel, fate
    FROM unnest($2::int8[], $3::int8[], $4::int8[], $5::text[], $6::text[])
        AS t (channel_id, first_sequence, last_sequence, channel, fate)";

#[derive(Debug)]
pub(super) struct Statements {
    put: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            put: client.prepare(PUT).await?,
        })
    }
}

#[derive(Default)]
pub(super) struct Columns<'a> {
    epoch: i64,
    channel_id: Vec<i64>,
    first: Vec<i64>,
    last: Vec<i64>,
    channel: Vec<&'a str>,
    fate: Vec<&'static str>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(batch: &'a Batch, epoch: Epoch) -> Self {
        let mut columns = Self {
            epoch: int8(epoch.0),
            ..Self::default()
        };
        for range in &batch.lost {
            columns.channel_id.push(int8(range.channel.0));
            columns.first.push(int8(range.first.0));
            columns.last.push(int8(range.last.0));
            columns.channel.push(range.name.as_str());
            columns.fate.push(match range.outcome {
                RangeOutcome::Restored => "restored",
                RangeOutcome::StoredAnew => "stored anew",
                RangeOutcome::Lost => "lost",
                RangeOutcome::Unknown => "unknown",
            });
        }
        columns
    }

    pub(super) fn add_to<'f>(&'f self, pipeline: &mut Pipeline<'f>, statements: &'f Statements) {
        if !self.first.is_empty() {
            let parameters: Parameters<'_> = vec![
                &self.epoch,
                &self.channel_id,
                &self.first,
                &self.last,
                &self.channel,
                &self.fate,
            ];
            let rows = Some(self.first.len());
            pipeline.add(&statements.put, parameters, "lost ranges", rows);
        }
    }
}
