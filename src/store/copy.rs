//! Messages as binary COPY, the cheapest way into a table, with a checksum of each channel.
//!
//! Postgres ends no session that stopped in the middle of a COPY, so a server never uses it: a frozen active would keep
//! the lock. An import may, because nobody serves from the tables that it fills, and each COPY carries what is in
//! memory already.

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};
use ring::digest::{Context, SHA256};

use super::encryption::Sealed;
use crate::core::batch::Batch;
use crate::core::ids::{ChannelId, Epoch};
use crate::core::message::Message;

pub(super) const COPY: &str = "COPY messages
    (channel_id, sequence, published_at_ns, epoch, client_id, guid, reply, data, encrypted) FROM STDIN (FORMAT binary)";

/// What [`Checksums`] computes of the rows of a channel.
pub(super) const CHECKSUM: &str = "bit_xor(('x' || encode(substr(sha256(int8send(sequence)
    || int8send(published_at_ns) || convert_to(reply, 'UTF8') || data), 1, 8), 'hex'))::bit(64)::int8)";

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
const COLUMNS: i16 = 9;

/// The size of a row beside its texts and data: the lengths of all columns, and those with a fixed length.
const ROW_BYTES: usize = 2 + 9 * 4 + 4 * 8 + 1;

/// One of each channel, over what was sent: every row's sequence, time, reply subject and payload as it is stored.
#[derive(Debug, Default)]
pub(super) struct Checksums(BTreeMap<ChannelId, i64>);

impl Checksums {
    pub(super) fn of(&self, channel: ChannelId) -> i64 {
        self.0.get(&channel).copied().unwrap_or_default()
    }

    pub(super) fn channels(&self) -> impl Iterator<Item = ChannelId> {
        self.0.keys().copied()
    }

    fn add(&mut self, channel: ChannelId, message: &Message, data: &[u8]) {
        let mut digest = Context::new(&SHA256);
        digest.update(&int8(message.sequence.0).to_be_bytes());
        digest.update(&message.published_at.0.to_be_bytes());
        digest.update(message.reply.as_bytes());
        digest.update(data);
        let mut half = [0; 8];
        half.copy_from_slice(&digest.finish().as_ref()[..8]);
        *self.0.entry(channel).or_default() ^= i64::from_be_bytes(half);
    }
}

/// The messages of a batch; `sealed` goes in place of their payloads.
pub(super) fn rows(
    batch: &Batch,
    epoch: Epoch,
    sealed: Option<&Sealed>,
    checksums: &mut Checksums,
) -> Bytes {
    let sealed: Option<Vec<&[u8]>> = sealed.map(|sealed| sealed.payloads().collect());
    let payload = |index: usize, message: &'_ Message| match &sealed {
        Some(sealed) => sealed[index].len(),
        None => message.data.len(),
    };
    let texts = batch.messages.iter().enumerate();
    let bytes = texts.map(|(index, (_, message))| {
        let texts = message.client_id.as_str().len() + message.guid.as_str().len();
        ROW_BYTES + texts + message.reply.len() + payload(index, message)
    });
    let mut rows = BytesMut::with_capacity(bytes.sum::<usize>() + 32);
    rows.put_slice(SIGNATURE);
    rows.put_u64(0);
    for (index, (channel, message)) in batch.messages.iter().enumerate() {
        let data = match &sealed {
            Some(sealed) => sealed[index],
            None => &message.data[..],
        };
        checksums.add(*channel, message, data);
        rows.put_i16(COLUMNS);
        for number in [
            int8(channel.0),
            int8(message.sequence.0),
            message.published_at.0,
            int8(epoch.0),
        ] {
            rows.put_i32(8);
            rows.put_i64(number);
        }
        for column in [
            message.client_id.as_str().as_bytes(),
            message.guid.as_str().as_bytes(),
            message.reply.as_bytes(),
            data,
        ] {
            // No message has 2 GiB: NATS does not take it.
            rows.put_i32(i32::try_from(column.len()).unwrap_or(i32::MAX));
            rows.put_slice(column);
        }
        rows.put_i32(1);
        rows.put_u8(u8::from(sealed.is_some()));
    }
    rows.put_i16(-1);
    rows.freeze()
}

fn int8(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
