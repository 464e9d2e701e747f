//! How often messages were delivered, where dead letters come from, and what limits dropped that was not acked.

use tokio_postgres::{Client, Error, Statement};

use super::int8;
use super::pipeline::{Parameters, Pipeline};
use crate::core::batch::Batch;

const FORGET: &str = "DELETE FROM delivery_counts d
    USING unnest($1::int8[], $2::int8[]) AS t (position_id, sequence)
    WHERE d.position_id = t.position_id AND d.sequence = t.sequence";

const CLEAR: &str = "DELETE FROM delivery_counts WHERE position_id = ANY($1)";

/// Since when a message is waited for holds as long as nobody writes its row without it, as a server of before version 87 does.
const COUNT: &str = "INSERT INTO delivery_counts (position_id, sequence, deliveries, reason, given_up, last_at, awaited_since)
    SELECT t.position_id, t.sequence, t.deliveries, t.reason, t.given_up, moment, CASE WHEN t.awaited THEN moment END
    FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::text[], $5::bool[], $6::bool[])
        AS t (position_id, sequence, deliveries, reason, given_up, awaited), statement_timestamp() AS moment
    ON CONFLICT (position_id, sequence) DO UPDATE SET
        deliveries = excluded.deliveries, reason = excluded.reason, given_up = excluded.given_up, last_at = excluded.last_at,
        awaited_since = excluded.awaited_since";

const BURY: &str = "INSERT INTO dead_letters
        (channel_id, sequence, origin_channel, origin_sequence, durable_name, queue_group, deliveries, reason, reply)
    SELECT * FROM unnest($1::int8[], $2::int8[], $3::text[], $4::int8[], $5::text[], $6::text[], $7::int8[], $8::text[],
                         $9::text[])
    ON CONFLICT (channel_id, sequence) DO UPDATE SET
        origin_channel = excluded.origin_channel, origin_sequence = excluded.origin_sequence,
        durable_name = excluded.durable_name, queue_group = excluded.queue_group, deliveries = excluded.deliveries,
        reason = excluded.reason, reply = excluded.reply, dead_since = excluded.dead_since, redriven_at = NULL,
        redriven_by = NULL";

const REDRIVE: &str =
    "UPDATE dead_letters d SET redriven_at = clock_timestamp(), redriven_by = t.request
    FROM unnest($1::int8[], $2::int8[], $3::int8[]) AS t (channel_id, sequence, request)
    WHERE d.channel_id = t.channel_id AND d.sequence = t.sequence";

const DROPPED: &str = "INSERT INTO dropped_messages AS d (channel, messages, first_sequence, last_sequence)
    SELECT * FROM unnest($1::text[], $2::int8[], $3::int8[], $4::int8[])
    ON CONFLICT (channel) DO UPDATE SET
        messages = d.messages + excluded.messages, last_sequence = excluded.last_sequence, last_at = excluded.last_at";

#[derive(Debug)]
pub(super) struct Statements {
    forget: Statement,
    clear: Statement,
    count: Statement,
    bury: Statement,
    redrive: Statement,
    dropped: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            forget: client.prepare(FORGET).await?,
            clear: client.prepare(CLEAR).await?,
            count: client.prepare(COUNT).await?,
            bury: client.prepare(BURY).await?,
            redrive: client.prepare(REDRIVE).await?,
            dropped: client.prepare(DROPPED).await?,
        })
    }
}

#[derive(Default)]
struct Keys {
    number: Vec<i64>,
    sequence: Vec<i64>,
}

#[derive(Default)]
pub(super) struct Columns<'a> {
    cleared: Vec<i64>,
    forgotten: Keys,
    counted: Keys,
    deliveries: Vec<i64>,
    reasons: Vec<&'a str>,
    given_up: Vec<bool>,
    awaited: Vec<bool>,
    dead_letters: Keys,
    origins: Vec<&'a str>,
    origin_sequences: Vec<i64>,
    durables: Vec<Option<&'a str>>,
    groups: Vec<Option<&'a str>>,
    dead_letter_deliveries: Vec<i64>,
    dead_letter_reasons: Vec<&'a str>,
    dead_letter_replies: Vec<&'a str>,
    redriven: Keys,
    redriven_by: Vec<i64>,
    dropped: Vec<&'a str>,
    dropped_messages: Vec<i64>,
    dropped_first: Vec<i64>,
    dropped_last: Vec<i64>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(batch: &'a Batch) -> Self {
        let mut columns = Self::default();
        let gone = batch.positions.iter().filter(|(_, row)| row.is_none());
        columns.cleared = gone.map(|(id, _)| int8(id.0)).collect();
        for (&(position, sequence), count) in &batch.counts {
            let keys = match count {
                Some(count) => {
                    columns.deliveries.push(count.deliveries.into());
                    columns.reasons.push(&count.reason);
                    columns.given_up.push(count.is_given_up);
                    columns.awaited.push(count.is_awaited);
                    &mut columns.counted
                }
                None => &mut columns.forgotten,
            };
            keys.number.push(int8(position.0));
            keys.sequence.push(int8(sequence.0));
        }
        for (channel, sequence, letter) in &batch.dead_letters {
            columns.dead_letters.number.push(int8(channel.0));
            columns.dead_letters.sequence.push(int8(sequence.0));
            columns.origins.push(letter.origin.as_str());
            columns.origin_sequences.push(int8(letter.sequence.0));
            columns.durables.push(letter.durable.as_deref());
            columns.groups.push(letter.queue_group.as_deref());
            columns
                .dead_letter_deliveries
                .push(letter.deliveries.into());
            columns.dead_letter_reasons.push(&letter.reason);
            columns.dead_letter_replies.push(&letter.reply);
        }
        for (&(channel, sequence), request) in &batch.redriven {
            columns.redriven.number.push(int8(channel.0));
            columns.redriven.sequence.push(int8(sequence.0));
            columns.redriven_by.push(int8(request.0));
        }
        for dropped in batch.dropped_unacked.values() {
            columns.dropped.push(dropped.name.as_str());
            columns.dropped_messages.push(int8(dropped.messages));
            columns.dropped_first.push(int8(dropped.first.0));
            columns.dropped_last.push(int8(dropped.last.0));
        }
        columns
    }

    pub(super) fn add_to<'f>(&'f self, pipeline: &mut Pipeline<'f>, statements: &'f Statements) {
        const PART: &str = "delivery counts";
        if !self.cleared.is_empty() {
            pipeline.add(&statements.clear, vec![&self.cleared], PART, None);
        }
        if !self.forgotten.number.is_empty() {
            let parameters: Parameters<'_> = vec![&self.forgotten.number, &self.forgotten.sequence];
            pipeline.add(&statements.forget, parameters, PART, None);
        }
        if !self.counted.number.is_empty() {
            let Keys { number, sequence } = &self.counted;
            let parameters: Parameters<'_> = vec![
                number,
                sequence,
                &self.deliveries,
                &self.reasons,
                &self.given_up,
                &self.awaited,
            ];
            pipeline.add(&statements.count, parameters, PART, None);
        }
        if !self.dead_letters.number.is_empty() {
            let parameters: Parameters<'_> = vec![
                &self.dead_letters.number,
                &self.dead_letters.sequence,
                &self.origins,
                &self.origin_sequences,
                &self.durables,
                &self.groups,
                &self.dead_letter_deliveries,
                &self.dead_letter_reasons,
                &self.dead_letter_replies,
            ];
            pipeline.add(&statements.bury, parameters, "dead letters", None);
        }
        if !self.redriven.number.is_empty() {
            let Keys { number, sequence } = &self.redriven;
            let parameters: Parameters<'_> = vec![number, sequence, &self.redriven_by];
            pipeline.add(&statements.redrive, parameters, "dead letters", None);
        }
        if !self.dropped.is_empty() {
            let parameters: Parameters<'_> = vec![
                &self.dropped,
                &self.dropped_messages,
                &self.dropped_first,
                &self.dropped_last,
            ];
            pipeline.add(&statements.dropped, parameters, "dropped messages", None);
        }
    }
}
