//! Rows of `unreadable_messages`.

use tokio_postgres::{Client, Error, Statement};

use super::int8;
use super::pipeline::{Parameters, Pipeline};
use crate::core::batch::Batch;

/// What limits have dropped since is of no interest any more, so the table stays as small as what is wrong.
const PUT: &str = "WITH gone AS (
        DELETE FROM unreadable_messages u
        WHERE NOT EXISTS (
            SELECT FROM channels c WHERE c.channel_id = u.channel_id AND c.first_sequence <= u.sequence
        )
    )
    INSERT INTO unreadable_messages (channel_id, sequence, why)
    SELECT channel_id, sequence, why
    FROM unnest($1::int8[], $2::int8[], $3::text[]) AS t (channel_id, sequence, why)
    ON CONFLICT DO NOTHING";

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
    channel: Vec<i64>,
    sequence: Vec<i64>,
    why: Vec<&'a str>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(batch: &'a Batch) -> Self {
        let mut columns = Self::default();
        for ((channel, sequence), why) in &batch.unreadable {
            columns.channel.push(int8(channel.0));
            columns.sequence.push(int8(sequence.0));
            columns.why.push(why);
        }
        columns
    }

    pub(super) fn add_to<'f>(&'f self, pipeline: &mut Pipeline<'f>, statements: &'f Statements) {
        if !self.channel.is_empty() {
            let parameters: Parameters<'_> = vec![&self.channel, &self.sequence, &self.why];
            // Another subscription may have passed over them before.
            pipeline.add(&statements.put, parameters, "unreadable messages", None);
        }
    }
}
