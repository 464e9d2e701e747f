//! Replies and deliveries to payloads. Fields at their default are not on the wire, so a plain success is
//! often no bytes at all.

use bytes::{Bytes, BytesMut};

use super::subjects::Subjects;
use super::{VERSION, pb, rejection};
use crate::core::ids::ChannelName;
use crate::core::message::Message;
use crate::core::outbound::Reply;

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
        Reply::Published(guid) => cut(
            &pb::PubAck {
                guid: guid.to_text().into_bytes(),
                error: Bytes::new(),
            },
            buffer,
        ),
        Reply::PublishRefused(guid, reason) => {
            let guid = guid
                .as_ref()
                .map(|guid| guid.to_text().into_bytes())
                .unwrap_or_default();
            cut(
                &pb::PubAck {
                    guid,
                    error: rejection::text(reason),
                },
                buffer,
            )
        }
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
    let delivery = pb::MsgProto {
        sequence: message.sequence.0,
        subject: channel.to_text().into_bytes(),
        reply: message.reply.as_bytes().clone(),
        data: message.data.clone(),
        timestamp: message.published_at.0,
        redelivered: redelivery_count > 0,
        redelivery_count,
        crc32: 0,
    };
    cut(&delivery, buffer)
}

fn cut(message: &impl prost::Message, buffer: &mut BytesMut) -> Bytes {
    buffer.clear();
    buffer.reserve(message.encoded_len());
    message
        .encode(buffer)
        .expect("the buffer has just been made large enough");
    buffer.split().freeze()
}
