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
    /// Size of the message in bytes as NATS Streaming counts it for `max_bytes`: that of its `MsgProto`
    /// encoding, without the redelivery fields.
    pub fn size(&self, channel: &ChannelName) -> u64 {
        let published_at = self.published_at.0.cast_unsigned();
        number_field(self.sequence.0)
            + bytes_field(channel.as_str().len())
            + bytes_field(self.reply.len())
            + bytes_field(self.data.len())
            + number_field(published_at)
    }
}

fn number_field(value: u64) -> u64 {
    if value == 0 { 0 } else { 1 + varint(value) }
}

fn bytes_field(length: usize) -> u64 {
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
