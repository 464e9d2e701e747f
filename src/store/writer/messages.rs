//! Rows of `messages`, the hottest table.

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};

use super::int8;
use super::pipeline::{Parameters, Pipeline};
use super::{channel_updates, channels};
use crate::core::batch::{Batch, Trim};
use crate::core::ids::{ChannelId, Epoch};
use crate::store::encryption::Sealed;

const COLUMNS: usize = 9;

// Arrays are taken apart in the list of columns and not in FROM, where each of them would be written to a tuplestore first: a
// quarter of what Postgres spends on a row (docs/decisions/speed.md).
const INSERT: &str = "INSERT INTO messages
        (channel_id, sequence, published_at_ns, epoch, client_id, guid, reply, data, encrypted)
    SELECT unnest($2::int8[]), unnest($3::int8[]), unnest($4::int8[]), $1,
        unnest($5::text[]), unnest($6::text[]), unnest($7::text[]), unnest($8::bytea[]), $9";

const TRIM: &str = "DELETE FROM messages m
    USING unnest($1::int8[], $2::int8[], $3::int8[]) AS t (channel_id, after, through)
    WHERE m.channel_id = t.channel_id AND m.sequence > t.after AND m.sequence <= t.through";

/// Where some of what is dropped was published within a standby's memory.
const TRIM_YOUNG: &str = "WITH places AS (
        SELECT * FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::int8[])
            AS t (channel_id, after, through, settled)
    ), gone AS (
        DELETE FROM messages m USING places t
        WHERE m.channel_id = t.channel_id AND m.sequence > t.after AND m.sequence <= t.through
        RETURNING m.channel_id, m.sequence, m.guid, t.settled, m.client_id, CASE
            WHEN m.sequence <= t.settled OR m.encrypted THEN NULL
            ELSE substr(sha256(convert_to(m.reply, 'UTF8') || decode('00', 'hex') || m.data), 1, 16)
        END AS content
    ), forgotten AS (
        DELETE FROM dropped_guids d USING places t
        WHERE d.channel_id = t.channel_id AND d.through <= t.settled
    )
    INSERT INTO dropped_guids (channel_id, through, channel, guids, client_ids, contents)
    SELECT g.channel_id, max(g.sequence), c.name, array_agg(g.guid ORDER BY g.sequence),
        array_agg(g.client_id ORDER BY g.sequence), array_agg(g.content ORDER BY g.sequence)
    FROM gone g JOIN channels c ON c.channel_id = g.channel_id
    WHERE g.sequence > g.settled
    GROUP BY g.channel_id, c.name";

/// The statement by which messages are stored, for another table of the same columns.
pub(in crate::store) fn insert_into(table: &str) -> String {
    INSERT.replacen("messages", table, 1)
}

/// Messages and what becomes of their channels' rows in one statement: what a server does when its clients only publish.
fn publish(channels: &str, parameters: usize) -> String {
    let mut channels = channels.to_owned();
    // From the highest, so that no new number is taken for an old one.
    for number in (1..=parameters).rev() {
        channels = channels.replace(&format!("${number}:"), &format!("${}:", number + COLUMNS));
    }
    format!("WITH channels_put AS ({channels}) {INSERT}")
}

fn publish_and_put() -> String {
    publish(channels::PUT, channels::PUT_PARAMETERS)
}

fn publish_and_append() -> String {
    publish(channel_updates::APPEND, channel_updates::APPEND_PARAMETERS)
}

#[derive(Debug)]
pub(super) struct Statements {
    publish: Statement,
    publish_and_append: Statement,
    insert: Statement,
    trim: Statement,
    trim_young: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            publish: client.prepare(&publish_and_put()).await?,
            publish_and_append: client.prepare(&publish_and_append()).await?,
            insert: client.prepare(INSERT).await?,
            trim: client.prepare(TRIM).await?,
            trim_young: client.prepare(TRIM_YOUNG).await?,
        })
    }
}

#[derive(Default)]
pub(super) struct Columns<'a> {
    epoch: i64,
    channel_id: Vec<i64>,
    sequence: Vec<i64>,
    published_at: Vec<i64>,
    client_id: Vec<&'a str>,
    guid: Vec<&'a str>,
    reply: Vec<&'a str>,
    data: Vec<&'a [u8]>,
    encrypted: bool,
}

impl<'a> Columns<'a> {
    /// `sealed` goes in place of the payloads.
    pub(super) fn of(batch: &'a Batch, epoch: Epoch, sealed: Option<&'a Sealed>) -> Self {
        let messages = batch.messages.len();
        let mut columns = Self {
            epoch: int8(epoch.0),
            channel_id: Vec::with_capacity(messages),
            sequence: Vec::with_capacity(messages),
            published_at: Vec::with_capacity(messages),
            client_id: Vec::with_capacity(messages),
            guid: Vec::with_capacity(messages),
            reply: Vec::with_capacity(messages),
            data: Vec::with_capacity(messages),
            encrypted: sealed.is_some(),
        };
        // Channel by channel: they come to stand together in the table, so that a channel is read from few pages, and
        // the index is entered where it was left.
        let mut sorted: Vec<_> = batch.messages.iter().collect();
        sorted.sort_by_key(|(channel, _)| *channel);
        for (channel, message) in sorted {
            columns.channel_id.push(int8(channel.0));
            columns.sequence.push(int8(message.sequence.0));
            columns.published_at.push(message.published_at.0);
            columns.client_id.push(message.client_id.as_str());
            columns.guid.push(message.guid.as_str());
            columns.reply.push(&message.reply);
            if sealed.is_none() {
                columns.data.push(&message.data);
            }
        }
        if let Some(sealed) = sealed {
            columns.data.extend(sealed.payloads());
        }
        columns
    }

    pub(super) fn len(&self) -> usize {
        self.sequence.len()
    }

    pub(super) fn payloads(&self) -> &[&'a [u8]] {
        &self.data
    }

    /// For the statement that finds the payloads in the tables.
    pub(super) fn without_data(&self) -> Parameters<'_> {
        vec![
            &self.epoch,
            &self.channel_id,
            &self.sequence,
            &self.published_at,
            &self.client_id,
            &self.guid,
            &self.reply,
            &self.encrypted,
        ]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sequence.is_empty()
    }

    pub(super) fn add_to<'f>(&'f self, pipeline: &mut Pipeline<'f>, statements: &'f Statements) {
        if !self.is_empty() {
            let rows = Some(self.sequence.len());
            pipeline.add(&statements.insert, self.parameters(), "messages", rows);
        }
    }

    pub(super) fn add_to_with<'f>(
        &'f self,
        channels: &'f channels::Columns<'_>,
        pipeline: &mut Pipeline<'f>,
        statements: &'f Statements,
    ) {
        let mut parameters = self.parameters();
        parameters.extend(channels.parameters());
        pipeline.add(
            &statements.publish,
            parameters,
            "messages",
            Some(self.sequence.len()),
        );
    }

    pub(super) fn add_to_appending<'f>(
        &'f self,
        row: &'f channel_updates::Row,
        pipeline: &mut Pipeline<'f>,
        statements: &'f Statements,
    ) {
        let mut parameters = self.parameters();
        parameters.extend(row.parameters());
        let rows = Some(self.sequence.len());
        pipeline.add(&statements.publish_and_append, parameters, "messages", rows);
    }

    fn parameters(&self) -> Parameters<'_> {
        let parameters: [&(dyn ToSql + Sync); COLUMNS] = [
            &self.epoch,
            &self.channel_id,
            &self.sequence,
            &self.published_at,
            &self.client_id,
            &self.guid,
            &self.reply,
            &self.data,
            &self.encrypted,
        ];
        parameters.to_vec()
    }
}

#[derive(Default)]
pub(super) struct Trims {
    old: Places,
    young: Places,
    /// Per entry of `young`: the GUIDs of what is dropped after it are kept.
    settled: Vec<i64>,
}

#[derive(Default)]
struct Places {
    channel_id: Vec<i64>,
    after: Vec<i64>,
    through: Vec<i64>,
}

impl Places {
    fn push(&mut self, channel: ChannelId, trim: Trim) {
        self.channel_id.push(int8(channel.0));
        self.after.push(int8(trim.after.0));
        self.through.push(int8(trim.through.0));
    }
}

impl Trims {
    pub(super) fn of(batch: &Batch) -> Self {
        let mut trims = Self::default();
        for (channel, &trim) in &batch.trims {
            match batch.guids_kept_after.get(channel) {
                None => trims.old.push(*channel, trim),
                Some(settled) => {
                    trims.young.push(*channel, trim);
                    trims.settled.push(int8(settled.0));
                }
            }
        }
        // What operators delete goes the same way.
        for deleted in &batch.deleted {
            let trim = Trim {
                after: deleted.first.previous(),
                through: deleted.last,
            };
            trims.young.push(deleted.channel, trim);
            trims.settled.push(int8(deleted.settled.0));
        }
        trims
    }

    pub(super) fn add_to<'f>(&'f self, pipeline: &mut Pipeline<'f>, statements: &'f Statements) {
        let (old, young) = (&self.old, &self.young);
        if !old.through.is_empty() {
            let parameters: Parameters<'_> = vec![&old.channel_id, &old.after, &old.through];
            pipeline.add(&statements.trim, parameters, "messages trimmed", None);
        }
        if !young.through.is_empty() {
            let parameters: Parameters<'_> = vec![
                &young.channel_id,
                &young.after,
                &young.through,
                &self.settled,
            ];
            pipeline.add(&statements.trim_young, parameters, "messages trimmed", None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_publish_statements_number_each_parameter_once() {
        for (statement, parameters) in [(publish_and_put(), 18), (publish_and_append(), 17)] {
            let mut numbers: Vec<usize> = statement
                .split('$')
                .skip(1)
                .map(|rest| {
                    let digits = rest.chars().take_while(char::is_ascii_digit);
                    digits.collect::<String>().parse().unwrap()
                })
                .collect();
            numbers.sort_unstable();

            let expected: Vec<usize> = (1..=parameters).collect();
            assert_eq!(numbers, expected, "{statement}");
        }
    }
}
