//! Rows of `messages`, the hottest table.

use tokio_postgres::types::ToSql;

use super::channels;
use super::flight::Parameters;
use super::int8;
use crate::core::batch::Batch;
use crate::core::ids::Epoch;

const COLUMNS: usize = 8;

pub(super) const INSERT: &str = "INSERT INTO messages
        (channel_id, sequence, published_at_ns, epoch, client_id, guid, reply, data)
    SELECT channel_id, sequence, published_at_ns, $1, client_id, guid, reply, data
    FROM unnest($2::int8[], $3::int8[], $4::int8[], $5::text[], $6::text[], $7::text[], $8::bytea[])
        AS t (channel_id, sequence, published_at_ns, client_id, guid, reply, data)";

pub(super) const TRIM: &str = "DELETE FROM messages m
    USING unnest($1::int8[], $2::int8[]) AS t (channel_id, through)
    WHERE m.channel_id = t.channel_id AND m.sequence <= t.through";

/// Messages and their channels' rows in one statement: what a server does when its clients only publish.
pub(super) fn publish() -> String {
    let mut put = channels::PUT.to_owned();
    // From the highest, so that no new number is taken for an old one.
    for number in (1..=9).rev() {
        put = put.replace(&format!("${number}:"), &format!("${}:", number + COLUMNS));
    }
    format!("WITH channels_put AS ({put}) {INSERT}")
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
}

impl<'a> Columns<'a> {
    pub(super) fn of(batch: &'a Batch, epoch: Epoch) -> Self {
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
        };
        for (channel, message) in &batch.messages {
            columns.channel_id.push(int8(channel.0));
            columns.sequence.push(int8(message.sequence.0));
            columns.published_at.push(message.published_at.0);
            columns.client_id.push(message.client_id.as_str());
            columns.guid.push(message.guid.as_str());
            columns.reply.push(&message.reply);
            columns.data.push(&message.data);
        }
        columns
    }

    pub(super) fn len(&self) -> usize {
        self.sequence.len()
    }

    pub(super) fn parameters(&self) -> Parameters<'_> {
        let parameters: [&(dyn ToSql + Sync); COLUMNS] = [
            &self.epoch,
            &self.channel_id,
            &self.sequence,
            &self.published_at,
            &self.client_id,
            &self.guid,
            &self.reply,
            &self.data,
        ];
        parameters.to_vec()
    }
}

#[derive(Default)]
pub(super) struct Trims {
    channel_id: Vec<i64>,
    through: Vec<i64>,
}

impl Trims {
    pub(super) fn of(batch: &Batch) -> Self {
        let mut trims = Self::default();
        for (channel, through) in &batch.trims {
            trims.channel_id.push(int8(channel.0));
            trims.through.push(int8(through.0));
        }
        trims
    }

    pub(super) fn is_empty(&self) -> bool {
        self.channel_id.is_empty()
    }

    pub(super) fn parameters(&self) -> Parameters<'_> {
        vec![&self.channel_id, &self.through]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_publish_statement_numbers_each_parameter_once() {
        let statement = publish();
        for number in 1..=17 {
            let parameter = format!("${number}");
            let uses = statement.match_indices(&parameter).filter(|(at, found)| {
                !statement[at + found.len()..].starts_with(|next: char| next.is_ascii_digit())
            });
            assert_eq!(uses.count(), 1, "${number} in {statement}");
        }
    }
}
