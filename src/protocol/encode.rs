//! Replies and deliveries to payloads. Fields at their default are not on the wire, so a plain success is
//! often no bytes at all.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::encode_varint;

use super::subjects::Subjects;
use super::{pb, rejection};
use crate::core::ids::ChannelName;
use crate::core::message::Message;
use crate::core::outbound::Reply;

/// The server's level of the protocol of NATS Streaming: connection IDs and client pings.
pub const VERSION: i32 = 1;

/// Payloads are cut from `buffer`, so that a burst of them shares a few allocations.
pub fn reply(reply: &Reply, subjects: &Subjects, buffer: &mut BytesMut) -> Bytes {
    match reply {
        Reply::Connected {
            protocol,
            ping_interval,
            ping_max_out,
            ..
        } => {
            let answer = connected(*protocol, *ping_interval, *ping_max_out, subjects);
            cut(&answer, buffer)
        }
        Reply::ConnectRefused(reason) => cut(
            &pb::ConnectResponse {
                error: rejection::text(reason),
                ..Default::default()
            },
            buffer,
        ),
        Reply::Published(guid) => published(guid.as_str().as_bytes(), buffer),
        Reply::PublishRefused(guid, reason) => cut(
            &pb::PubAck {
                guid: guid.clone(),
                error: rejection::text(reason),
            },
            buffer,
        ),
        Reply::Subscribed { ack_inbox } => {
            let ack_inbox = ack_inbox.to_text().into_bytes();
            cut(
                &pb::SubscriptionResponse {
                    ack_inbox,
                    error: Bytes::new(),
                },
                buffer,
            )
        }
        Reply::SubscribeRefused(reason) | Reply::LeaveRefused(reason) => {
            let error = rejection::text(reason);
            cut(
                &pb::SubscriptionResponse {
                    ack_inbox: Bytes::new(),
                    error,
                },
                buffer,
            )
        }
        Reply::CloseRefused(reason) => cut(
            &pb::CloseResponse {
                error: rejection::text(reason),
            },
            buffer,
        ),
        Reply::PingRefused(reason) => cut(
            &pb::PingResponse {
                error: rejection::text(reason),
            },
            buffer,
        ),
        Reply::Left | Reply::ClientClosed | Reply::Pong => Bytes::new(),
    }
}

/// A `PubAck` without an error, as prost would encode it.
fn published(guid: &[u8], buffer: &mut BytesMut) -> Bytes {
    buffer.clear();
    buffer.reserve(1 + LENGTH_BYTES_MAX + guid.len());
    field(PUB_ACK_GUID, guid, buffer);
    buffer.split().freeze()
}

fn connected(
    protocol: i32,
    ping_interval: i32,
    ping_max_out: i32,
    subjects: &Subjects,
) -> pb::ConnectResponse {
    let mut answer = pb::ConnectResponse {
        pub_prefix: subjects.publish_prefix().as_bytes().clone(),
        sub_requests: subjects.subscribe().as_bytes().clone(),
        unsub_requests: subjects.unsubscribe().as_bytes().clone(),
        close_requests: subjects.close_client().as_bytes().clone(),
        sub_close_requests: subjects.close_subscription().as_bytes().clone(),
        protocol: VERSION,
        ..Default::default()
    };
    if protocol >= 1 {
        answer.ping_requests = subjects.pings().as_bytes().clone();
        answer.ping_interval = ping_interval;
        answer.ping_max_out = ping_max_out;
    }
    answer
}

/// As [`reply`]; `redelivery_count` is 0 for a first delivery.
pub fn delivery(
    channel: &ChannelName,
    message: &Message,
    redelivery_count: u32,
    buffer: &mut BytesMut,
) -> Bytes {
    let (subject, reply) = (channel.as_str().as_bytes(), message.reply.as_bytes());
    let data: &[u8] = &message.data;
    buffer.clear();
    let fields = [subject, reply, data];
    let lengths: usize = fields.iter().map(|field| field.len()).sum();
    buffer.reserve(lengths + fields.len() * (1 + LENGTH_BYTES_MAX) + NUMBERS_BYTES_MAX);
    number(MSG_SEQUENCE, message.sequence.0, buffer);
    field(MSG_SUBJECT, subject, buffer);
    field(MSG_REPLY, reply, buffer);
    field(MSG_DATA, data, buffer);
    number(
        MSG_TIMESTAMP,
        message.published_at.0.cast_unsigned(),
        buffer,
    );
    number(MSG_REDELIVERED, u64::from(redelivery_count > 0), buffer);
    number(MSG_REDELIVERY_COUNT, u64::from(redelivery_count), buffer);
    buffer.split().freeze()
}

// The two payloads that are made for each message are encoded by hand. prost asks of each field whether it is its default, by a
// comparison of bytes; that of nothing with nothing looks at an address that is not there, which costs a modern processor
// hundreds of cycles. Keys: the number of the field, and whether a length or a number follows.
const PUB_ACK_GUID: u8 = (1 << 3) | LENGTH_FOLLOWS;
const MSG_SEQUENCE: u8 = 1 << 3;
const MSG_SUBJECT: u8 = (2 << 3) | LENGTH_FOLLOWS;
const MSG_REPLY: u8 = (3 << 3) | LENGTH_FOLLOWS;
const MSG_DATA: u8 = (4 << 3) | LENGTH_FOLLOWS;
const MSG_TIMESTAMP: u8 = 5 << 3;
const MSG_REDELIVERED: u8 = 6 << 3;
const MSG_REDELIVERY_COUNT: u8 = 7 << 3;
const LENGTH_FOLLOWS: u8 = 2;

/// The most bytes that a varint takes.
const LENGTH_BYTES_MAX: usize = 10;
/// The most bytes that a message's numbers take, with their keys.
const NUMBERS_BYTES_MAX: usize = 4 * (1 + LENGTH_BYTES_MAX);

fn field(key: u8, value: &[u8], buffer: &mut BytesMut) {
    if !value.is_empty() {
        buffer.put_u8(key);
        encode_varint(value.len() as u64, buffer);
        buffer.put_slice(value);
    }
}

fn number(key: u8, value: u64, buffer: &mut BytesMut) {
    if value != 0 {
        buffer.put_u8(key);
        encode_varint(value, buffer);
    }
}

fn cut(message: &impl prost::Message, buffer: &mut BytesMut) -> Bytes {
    buffer.clear();
    buffer.reserve(message.encoded_len());
    message
        .encode(buffer)
        .expect("the buffer has just been made large enough");
    buffer.split().freeze()
}

#[cfg(test)]
mod tests {
    use bytestring::ByteString;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::core::ids::{ClientId, Guid, Sequence};
    use crate::core::time::Timestamp;

    fn text(name: &str) -> ByteString {
        ByteString::from(name.to_owned())
    }

    proptest! {
        #[test]
        fn what_is_encoded_by_hand_is_what_prost_encodes(
            sequence in any::<u64>(),
            timestamp in any::<i64>(),
            reply in "[a-z]{0,200}",
            data in vec(any::<u8>(), 0..300),
            redelivery_count in prop_oneof![Just(0), any::<u32>()],
            guid in "[a-zA-Z0-9]{1,200}",
        ) {
            let channel = ChannelName::parse(text("foo.bar")).unwrap();
            let message = Message {
                sequence: Sequence(sequence),
                published_at: Timestamp(timestamp),
                client_id: ClientId::parse(text("me")).unwrap(),
                guid: Guid::parse(text(&guid)).unwrap(),
                reply: text(&reply),
                data: data.clone().into(),
            };
            let mut buffer = BytesMut::new();
            let by_prost = pb::MsgProto {
                sequence,
                subject: "foo.bar".into(),
                reply: reply.into(),
                data: data.into(),
                timestamp,
                redelivered: redelivery_count > 0,
                redelivery_count,
                crc32: 0,
            };
            let by_hand = delivery(&channel, &message, redelivery_count, &mut buffer);
            prop_assert_eq!(cut(&by_prost, &mut buffer), by_hand);
            let by_prost = pb::PubAck { guid: guid.clone().into(), error: Bytes::new() };
            let by_hand = published(guid.as_bytes(), &mut buffer);
            prop_assert_eq!(cut(&by_prost, &mut buffer), by_hand);
        }
    }
}
