//! A published message, as stored and delivered.

use bytes::Bytes;
use bytestring::ByteString;

use super::ids::{ChannelName, ClientId, Guid, Sequence};
use super::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub sequence: Sequence,
    /// Never before that of the channel's previous message.
    pub published_at: Timestamp,
    pub client_id: ClientId,
    pub guid: Guid,
    pub reply: ByteString,
    pub data: Bytes,
}

impl Message {
    /// The size of its text and data together, by which a page of messages is cut.
    pub fn bytes(&self) -> usize {
        let Self {
            sequence: _,
            published_at: _,
            client_id,
            guid,
            reply,
            data,
        } = self;
        client_id.as_str().len() + guid.as_str().len() + reply.len() + data.len()
    }

    /// Size of the message in bytes as NATS Streaming counts it for `max_bytes`: that of its `MsgProto`
    /// encoding, without the redelivery fields.
    pub fn size(&self, channel: &ChannelName) -> u64 {
        let channel = channel.as_str().len();
        encoded_size(
            self.sequence,
            self.published_at,
            channel,
            self.reply.len(),
            self.data.len(),
        )
    }

    /// Size of what is sent to a subscription.
    pub fn delivered_size(&self, channel: &ChannelName, redelivery_count: u32) -> u64 {
        let marks = if redelivery_count == 0 {
            0
        } else {
            number_field(1) + number_field(redelivery_count.into())
        };
        self.size(channel) + marks
    }
}

/// [`Message::size`] for the store, which knows the lengths without reading what they are the lengths of.
pub fn encoded_size(
    sequence: Sequence,
    published_at: Timestamp,
    channel_bytes: usize,
    reply_bytes: usize,
    data_bytes: usize,
) -> u64 {
    number_field(sequence.0)
        + bytes_field(channel_bytes)
        + bytes_field(reply_bytes)
        + bytes_field(data_bytes)
        + number_field(published_at.0.cast_unsigned())
}

fn number_field(value: u64) -> u64 {
    if value == 0 { 0 } else { 1 + varint(value) }
}

pub(super) fn bytes_field(length: usize) -> u64 {
    let length = length as u64;
    if length == 0 {
        0
    } else {
        1 + varint(length) + length
    }
}

fn varint(value: u64) -> u64 {
    u64::from((64 - (value | 1).leading_zeros()).div_ceil(7))
}
