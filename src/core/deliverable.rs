//! What NATS carries to a subscription. A client's publish reached this server through NATS, and was larger than the message that
//! becomes of it; what comes from elsewhere has to be measured before it is stored, or it would never be delivered.

use std::fmt;

use super::broker::Broker;
use super::ids::{ChannelName, NAME_BYTES_MAX, Sequence};
use super::message::{Message, encoded_size};
use super::time::Timestamp;

/// What the flag and the count of a redelivery add to a message, at most.
const REDELIVERY_BYTES: u64 = 8;

/// More than the encoding of any message adds to its reply and its data.
const OVERHEAD_BYTES_MAX: usize = NAME_BYTES_MAX + 128;

/// NATS does not deliver it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge {
    /// As a redelivery, with its header: channel, reply, sequence and time.
    pub(super) bytes: u64,
    pub(super) most: u64,
}

impl TooLarge {
    /// Its payload alone has more bytes than NATS delivers.
    pub(super) fn payload(bytes: u64, most: usize) -> Self {
        Self {
            bytes,
            most: most as u64,
        }
    }
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, most } = self;
        write!(
            f,
            "it has {bytes} bytes with its header, and NATS delivers {most} at most (max_payload)"
        )
    }
}

impl Broker {
    /// Whether NATS carries the message, even as a redelivery.
    pub(super) fn fits(&self, channel: &ChannelName, message: &Message) -> Result<(), TooLarge> {
        let Message { reply, data, .. } = message;
        self.measure(reply.len() + data.len(), || message.size(channel))
    }

    /// The same of a message that is to be stored, whatever its sequence and its time will be.
    pub(super) fn fits_once_stored(
        &self,
        channel: &ChannelName,
        reply: &str,
        data_bytes: usize,
    ) -> Result<(), TooLarge> {
        self.measure(reply.len() + data_bytes, || {
            let (sequence, time) = (Sequence::LAST, Timestamp(i64::MAX));
            let channel = channel.as_str().len();
            encoded_size(sequence, time, channel, reply.len(), data_bytes)
        })
    }

    /// Nearly all are so small that nothing else has to be looked at.
    pub(super) fn is_small(&self, message: &Message) -> bool {
        self.surely_fits(message.reply.len() + message.data.len())
    }

    fn surely_fits(&self, content: usize) -> bool {
        content + OVERHEAD_BYTES_MAX <= self.settings.limits.payload_bytes
    }

    fn measure(&self, content: usize, size: impl Fn() -> u64) -> Result<(), TooLarge> {
        if self.surely_fits(content) {
            return Ok(());
        }
        let most = self.settings.limits.payload_bytes as u64;
        let bytes = size() + REDELIVERY_BYTES;
        if bytes <= most {
            return Ok(());
        }
        Err(TooLarge { bytes, most })
    }
}
