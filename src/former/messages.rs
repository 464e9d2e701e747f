//! Stored messages. They do not tell who published them, nor the publisher's own ID: both are made up here.

use bytes::Bytes;

use super::encryption::{ChannelKeys, looks_encrypted};
use super::error::Broken;
use crate::core::ids::{ChannelName, ClientId, Guid, Sequence};
use crate::core::message::Message;
use crate::core::time::Timestamp;
use crate::protocol::client::{Delivery, delivery};

/// In place of the publisher.
pub const PUBLISHER: &str = "imported";

/// Reads the messages of one channel, in order, and counts them.
#[derive(Debug)]
pub struct Reader<'a> {
    channel: &'a ChannelName,
    keys: &'a ChannelKeys,
    totals: Totals,
    /// Payloads that are not empty.
    payloads: u64,
    encrypted_looks: u64,
}

/// What a channel's messages are together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub first: Sequence,
    pub last: Sequence,
    pub count: u64,
    /// As limits count them.
    pub bytes: u64,
    pub last_published_at: Timestamp,
    /// Messages whose time was before that of the message before them.
    pub raised_times: u64,
}

/// Why a message cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error(transparent)]
    Record(#[from] Broken),
    /// The record is good, and the key is not.
    #[error("{0}")]
    Payload(&'static str),
}

impl<'a> Reader<'a> {
    pub fn new(channel: &'a ChannelName, keys: &'a ChannelKeys) -> Self {
        Self {
            channel,
            keys,
            totals: Totals::default(),
            payloads: 0,
            encrypted_looks: 0,
        }
    }

    /// Goes on behind what was read before.
    pub fn going_on(channel: &'a ChannelName, keys: &'a ChannelKeys, totals: Totals) -> Self {
        Self {
            totals,
            ..Self::new(channel, keys)
        }
    }

    /// The error says what is wrong with the row.
    pub fn read(&mut self, sequence: i64, stored: Bytes) -> Result<Message, Unreadable> {
        self.take(sequence, stored, Some(self.keys))
    }

    /// One whose payload is not encrypted, whatever it looks like.
    pub fn read_plain(&mut self, sequence: i64, stored: Bytes) -> Result<Message, Unreadable> {
        self.take(sequence, stored, None)
    }

    fn take(
        &mut self,
        sequence: i64,
        stored: Bytes,
        keys: Option<&ChannelKeys>,
    ) -> Result<Message, Unreadable> {
        let Delivery {
            sequence,
            channel: _,
            reply,
            data,
            published_at,
            redelivered: _,
            redelivery_count: _,
        } = self.record(sequence, stored)?;
        let sequence = Sequence(sequence);
        let made_up = || Broken::from("a name that is made up here is refused");
        let client_id = ClientId::parse(PUBLISHER.into()).ok_or_else(made_up)?;
        let guid = Guid::parse(format!("{PUBLISHER}-{sequence}").into()).ok_or_else(made_up)?;
        if !data.is_empty() && keys.is_some() {
            self.payloads += 1;
            self.encrypted_looks += u64::from(looks_encrypted(&data, sequence));
        }
        // Start positions by time are looked up by bisection.
        let published_at = Timestamp(published_at);
        let not_before = published_at.max(self.totals.last_published_at);
        let message = Message {
            sequence,
            published_at: not_before,
            client_id,
            guid,
            reply,
            data: match keys {
                Some(keys) => keys.open(data).map_err(Unreadable::Payload)?,
                None => data,
            },
        };
        let totals = &mut self.totals;
        if totals.count == 0 {
            totals.first = sequence;
        }
        totals.last = sequence;
        totals.count += 1;
        totals.bytes += message.size(self.channel);
        totals.last_published_at = not_before;
        totals.raised_times += u64::from(not_before != published_at);
        Ok(message)
    }

    /// The record of the row with this sequence.
    fn record(&self, sequence: i64, stored: Bytes) -> Result<Delivery, Broken> {
        let record = delivery(stored)?;
        let sequence = u64::try_from(sequence).ok().filter(|&number| number > 0);
        let sequence = sequence.ok_or("its sequence is below 1")?;
        if record.sequence != sequence {
            return Err(format!("its record is that of sequence {}", record.sequence).into());
        }
        if *record.channel != *self.channel.as_str() {
            return Err(format!("its record is that of channel {:?}", record.channel).into());
        }
        if record.reply.contains('\0') {
            return Err("its reply subject holds a NUL".into());
        }
        Ok(record)
    }

    /// True when nobody gave a key and every payload looks as if one were needed.
    pub fn lacks_key(&self) -> bool {
        self.keys.is_empty() && self.payloads > 0 && self.encrypted_looks == self.payloads
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::former::encryption::Keys;
    use crate::protocol::pb::MsgProto;

    fn stored(sequence: u64, timestamp: i64, data: &[u8]) -> Bytes {
        let record = MsgProto {
            sequence,
            subject: "foo".into(),
            reply: "answers".into(),
            data: Bytes::copy_from_slice(data),
            timestamp,
            ..MsgProto::default()
        };
        record.encode_to_vec().into()
    }

    fn foo() -> ChannelName {
        ChannelName::parse("foo".into()).unwrap()
    }

    #[test]
    fn a_message_keeps_its_sequence_time_reply_and_data() {
        let (channel, keys) = (foo(), Keys::default().of_channel(&foo()));
        let mut reader = Reader::new(&channel, &keys);

        let message = reader.read(5, stored(5, 100, b"x")).unwrap();
        assert_eq!((message.sequence.0, message.published_at.0), (5, 100));
        assert_eq!((&*message.reply, &message.data[..]), ("answers", &b"x"[..]));
        let earlier = reader.read(9, stored(9, 90, b"")).unwrap();
        assert_eq!(earlier.published_at.0, 100);
        assert_ne!(message.guid, earlier.guid);

        let totals = reader.totals();
        assert_eq!((totals.first.0, totals.last.0, totals.count), (5, 9, 2));
        assert_eq!(totals.last_published_at, Timestamp(100));
        assert_eq!(totals.raised_times, 1);
        assert_eq!(
            totals.bytes,
            message.size(&channel) + earlier.size(&channel)
        );
    }

    #[test]
    fn a_record_of_another_row_is_refused() {
        let (channel, keys) = (foo(), Keys::default().of_channel(&foo()));
        let mut reader = Reader::new(&channel, &keys);
        let other = ChannelName::parse("other".into()).unwrap();
        for (sequence, record) in [
            (6, stored(5, 1, b"")),
            (0, stored(0, 1, b"")),
            (-1, stored(1, 1, b"")),
            (1, Bytes::from_static(b"\xff\xff")),
        ] {
            assert!(reader.read(sequence, record).is_err(), "{sequence}");
        }
        let mut of_other = Reader::new(&other, &keys);
        assert!(of_other.read(5, stored(5, 1, b"")).is_err());
        assert_eq!(reader.totals(), Totals::default());
    }

    #[test]
    fn payloads_that_all_look_encrypted_call_for_a_key() {
        let (channel, none) = (foo(), Keys::default().of_channel(&foo()));
        let sealed = |counter: u8| {
            let mut data = vec![0; 40];
            (data[0], data[12]) = (1, counter);
            data
        };
        let mut reader = Reader::new(&channel, &none);
        assert!(!reader.lacks_key());
        reader.read(1, stored(1, 1, &sealed(1))).unwrap();
        reader.read(2, stored(2, 1, b"")).unwrap();
        assert!(reader.lacks_key());
        reader.read(3, stored(3, 1, b"plain")).unwrap();
        assert!(!reader.lacks_key());
    }
}
