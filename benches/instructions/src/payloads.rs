//! What is read and written for each message.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use prost::Message as _;

use crate::core::ids::{ChannelName, ClientId, Guid, Sequence};
use crate::core::message::Message;
use crate::core::outbound::Reply;
use crate::core::time::Timestamp;
use crate::subjects::{Prefixes, Subjects};
use crate::{decode, encode, pb};

const CHANNEL: &str = "orders.created";
const GUID: &str = "Xq3dkQ0bTyJ8eV2mLr5wZa";
const INBOX: &str = "_INBOX.Xq3dkQ0bTyJ8eV2mLr5wZb";

/// As the active does, and a standby.
pub fn read_publishes(count: usize) {
    let sent = pb::PubMsg {
        client_id: "shop-frontend-7".into(),
        guid: GUID.into(),
        subject: CHANNEL.into(),
        reply: Bytes::new(),
        data: vec![7; 128].into(),
        conn_id: "Xq3dkQ0bTyJ8eV2mLr5wZc".into(),
        sha256: Bytes::new(),
    };
    let sent = sent.encode_to_vec();
    for _ in 0..count {
        let payload = Bytes::copy_from_slice(&sent);
        let event = decode::publish(payload, Some(ByteString::from_static(INBOX)));
        assert!(std::hint::black_box(event).is_some());
    }
}

pub fn read_acks(count: usize) {
    for sequence in 0..count {
        let sent = pb::Ack {
            subject: Bytes::from_static(CHANNEL.as_bytes()),
            sequence: 1_000_000 + sequence as u64,
        };
        let event = decode::ack(sent.encode_to_vec().into(), INBOX.into());
        assert!(std::hint::black_box(event).is_some());
    }
}

pub fn write_acks(count: usize) {
    let subjects = Subjects::new("test-cluster", &Prefixes::default()).expect("valid");
    let answer = Reply::Published(Guid::parse(GUID.into()).expect("valid"));
    let mut buffer = BytesMut::with_capacity(64 << 10);
    for _ in 0..count {
        std::hint::black_box(encode::reply(&answer, &subjects, &mut buffer));
    }
}

pub fn write_deliveries(count: usize) {
    let channel = ChannelName::parse(CHANNEL.into()).expect("valid");
    let message = Message {
        sequence: Sequence(1_000_000),
        published_at: Timestamp(1_764_000_000_000_000_000),
        client_id: ClientId::parse("shop-frontend-7".into()).expect("valid"),
        guid: Guid::parse(GUID.into()).expect("valid"),
        reply: ByteString::new(),
        data: vec![7; 128].into(),
    };
    let mut buffer = BytesMut::with_capacity(64 << 10);
    for _ in 0..count {
        std::hint::black_box(encode::delivery(&channel, &message, 0, &mut buffer));
    }
}
