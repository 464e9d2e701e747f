//! Bytes as the Go client and NATS Streaming write them, in both directions.

use bytes::{Bytes, BytesMut};
use stanby::core::Request;
use stanby::core::Request::Answered;
use stanby::core::ids::{ChannelName, ClientId, ConnectionId, DurableName, Guid, Sequence};
use stanby::core::message::Message;
use stanby::core::outbound::Reply;
use stanby::core::rejection::Rejection;
use stanby::core::request::{Ack, Connect, Leave, Publish, Publisher, StartPosition, Subscribe};
use stanby::core::time::Timestamp;
use stanby::protocol::{client, decode, encode};
use std::time::Duration;

use crate::support::{ACK_TOKEN, REPLY, hex, reply, subject, subjects};

const CONNECT: &str = "0a026d6512095f494e424f582e686218012202433128053058";
const PUBLISH: &str = "0a026d65120267311a03666f6f2a0568656c6c6f32024331";
const PUBLISH_ACK: &str = "0a026731";
const PUBLISH_REFUSED: &str =
    "0a026731121d7374616e3a20696e76616c6964207075626c6973682072657175657374";
const DELIVERY: &str = "08011203666f6f220568656c6c6f28808080c5ddf0959a1630013801";
const ACK: &str = "0a03666f6f1001";
const SUBSCRIBE: &str = "0a026d651203666f6f22085f494e424f582e31288008301e3a036475725004";
const SUBSCRIBED: &str = "12085f494e424f582e32";
const LEAVE: &str = "0a026d651203666f6f1a085f494e424f582e32";
const CLOSE: &str = "0a026d65";
const PING: &str = "0a024331";
const PING_REFUSED: &str = "0a33636c69656e7420686173206265656e207265706c61636564206f72206973206e6f206c6f6e\
                            6765722072656769737465726564";

fn me() -> ClientId {
    ClientId::parse("me".into()).expect("a valid name")
}

fn foo() -> ChannelName {
    ChannelName::parse("foo".into()).expect("a valid name")
}

fn guid() -> Guid {
    Guid::parse("g1".into()).expect("a valid name")
}

fn connection_id() -> ConnectionId {
    ConnectionId(Bytes::from_static(b"C1"))
}

fn encoded(reply: &Reply) -> Bytes {
    encode::reply(reply, &subjects(), &mut BytesMut::new())
}

/// Acceptance: 1.
#[test]
fn a_connect_request() {
    assert_eq!(
        decode::connect(hex(CONNECT), reply()),
        Some(Request::Connect {
            request: Connect {
                client_id: me(),
                heartbeat_inbox: subject("_INBOX.hb"),
                protocol: 1,
                connection_id: connection_id(),
                ping_interval: 5,
                ping_max_out: 88,
            },
            reply: Some(subject(REPLY)),
        })
    );
    assert_eq!(
        client::connect_request(&client::Connect {
            client_id: "me",
            heartbeat_inbox: "_INBOX.hb",
            protocol: 1,
            connection_id: b"C1",
            ping_interval: 5,
            ping_max_out: 88,
        }),
        hex(CONNECT)
    );
}

#[test]
fn a_publish() {
    assert_eq!(
        decode::publish(hex(PUBLISH), reply()),
        Some(Request::Publish {
            request: Publish {
                publisher: Publisher::Connection(connection_id()),
                guid: guid(),
                channel: foo(),
                reply: "".into(),
                data: Bytes::from_static(b"hello"),
            },
            reply: Some(subject(REPLY)),
        })
    );
    assert_eq!(
        client::publish_request(client::Publish {
            client_id: "me",
            connection_id: b"C1",
            guid: "g1",
            channel: "foo",
            data: Bytes::from_static(b"hello"),
        }),
        hex(PUBLISH)
    );
}

/// Acceptance: 36.
#[test]
fn a_publish_ack() {
    assert_eq!(encoded(&Reply::Published(guid())), hex(PUBLISH_ACK));
    assert_eq!(
        client::publish_ack(hex(PUBLISH_ACK)),
        Ok(client::PublishAck {
            guid: "g1".into(),
            refusal: None
        })
    );
}

#[test]
fn a_refused_publish() {
    let reply = Reply::PublishRefused(guid().into(), Rejection::InvalidPublish);

    assert_eq!(encoded(&reply), hex(PUBLISH_REFUSED));
    assert_eq!(
        client::publish_ack(hex(PUBLISH_REFUSED)),
        Ok(client::PublishAck {
            guid: "g1".into(),
            refusal: Some("stan: invalid publish request".to_owned()),
        })
    );
}

/// Acceptance: 75.
#[test]
fn a_redelivery() {
    let message = Message {
        sequence: Sequence(1),
        published_at: Timestamp(1_600_000_000_000_000_000),
        client_id: me(),
        guid: guid(),
        reply: "".into(),
        data: Bytes::from_static(b"hello"),
    };

    assert_eq!(
        encode::delivery(&foo(), &message, 1, &mut BytesMut::new()),
        hex(DELIVERY)
    );
    assert_eq!(
        client::delivery(hex(DELIVERY)),
        Ok(client::Delivery {
            sequence: 1,
            channel: "foo".into(),
            reply: "".into(),
            data: Bytes::from_static(b"hello"),
            published_at: 1_600_000_000_000_000_000,
            redelivered: true,
            redelivery_count: 1,
        })
    );
}

/// Acceptance: 42, 75.
#[test]
fn a_first_delivery_is_as_long_as_the_core_counts_it() {
    let message = Message {
        sequence: Sequence(300),
        published_at: Timestamp(1_600_000_000_000_000_000),
        client_id: me(),
        guid: guid(),
        reply: "answer.here".into(),
        data: Bytes::from(vec![b'x'; 1000]),
    };

    let payload = encode::delivery(&foo(), &message, 0, &mut BytesMut::new());

    assert_eq!(payload.len() as u64, message.size(&foo()));
    assert_eq!(message.delivered_size(&foo(), 0), message.size(&foo()));
    let delivery = client::delivery(payload).unwrap();
    assert!(!delivery.redelivered);
    assert_eq!(delivery.redelivery_count, 0);
    assert_eq!(delivery.reply, "answer.here");
}

#[test]
fn an_ack() {
    assert_eq!(
        decode::ack(hex(ACK), "_INBOX.2".into()),
        Some(Request::Ack(Ack {
            ack_inbox: "_INBOX.2".into(),
            channel: "foo".into(),
            sequence: Sequence(1),
        }))
    );
    assert_eq!(client::ack("foo", 1), hex(ACK));
}

#[test]
fn a_subscribe_request() {
    assert_eq!(
        decode::subscribe(hex(SUBSCRIBE), reply(), ACK_TOKEN),
        Some(Request::Subscribe {
            request: Subscribe {
                client_id: me(),
                channel: foo(),
                inbox: subject("_INBOX.1"),
                queue_group: None,
                durable_name: DurableName::parse("dur".into()),
                max_in_flight: 1024,
                ack_wait: Duration::from_secs(30),
                start: StartPosition::First,
                ack_token: ACK_TOKEN,
            },
            reply: Some(subject(REPLY)),
        })
    );
    assert_eq!(
        client::subscribe_request(&client::Subscribe {
            client_id: "me",
            channel: "foo",
            inbox: "_INBOX.1",
            queue_group: "",
            durable_name: "dur",
            max_in_flight: 1024,
            ack_wait_seconds: 30,
            start: StartPosition::First,
        }),
        hex(SUBSCRIBE)
    );
}

#[test]
fn a_subscription_response() {
    let reply = Reply::Subscribed {
        ack_inbox: subject("_INBOX.2"),
    };

    assert_eq!(encoded(&reply), hex(SUBSCRIBED));
    assert_eq!(
        client::subscribe_response(hex(SUBSCRIBED)).unwrap(),
        "_INBOX.2"
    );
}

#[test]
fn an_unsubscribe_request() {
    let request = Leave {
        client_id: "me".into(),
        channel: foo(),
        inbox: "_INBOX.2".into(),
    };

    assert_eq!(
        decode::unsubscribe(hex(LEAVE), reply()),
        Some(Request::Unsubscribe {
            request: request.clone(),
            reply: Some(subject(REPLY))
        })
    );
    assert_eq!(
        decode::close_subscription(hex(LEAVE), None),
        Some(Request::CloseSubscription {
            request,
            reply: None
        })
    );
    assert_eq!(client::leave_request("me", "foo", "_INBOX.2"), hex(LEAVE));
}

#[test]
fn a_close_request() {
    assert_eq!(
        decode::close_client(hex(CLOSE), reply()),
        Some(Request::CloseClient {
            client_id: "me".into(),
            reply: Some(subject(REPLY))
        })
    );
    assert_eq!(client::close_request("me"), hex(CLOSE));
}

#[test]
fn a_ping() {
    assert_eq!(
        decode::ping(hex(PING), reply()),
        Some(Request::Ping {
            connection_id: connection_id(),
            reply: subject(REPLY)
        })
    );
    assert_eq!(client::ping_request(b"C1"), hex(PING));
}

/// Acceptance: 17.
#[test]
fn a_refused_ping() {
    let reply = Reply::PingRefused(Rejection::ClientReplaced);

    assert_eq!(encoded(&reply), hex(PING_REFUSED));
    assert_eq!(
        client::ping_response(hex(PING_REFUSED)),
        Err(client::Error::Refused(
            "client has been replaced or is no longer registered".to_owned()
        ))
    );
}

/// Acceptance: 25, 29.
#[test]
fn plain_successes_are_no_bytes_at_all() {
    for reply in [Reply::Left, Reply::ClientClosed, Reply::Pong] {
        assert_eq!(encoded(&reply), Bytes::new(), "{reply:?}");
    }
    assert_eq!(client::leave_response(Bytes::new()), Ok(()));
    assert_eq!(client::close_response(Bytes::new()), Ok(()));
    assert_eq!(client::ping_response(Bytes::new()), Ok(()));
}

/// Acceptance: 3, 25, 30, 48.
#[test]
fn the_bytes_dummy_are_no_request() {
    let dummy = || Bytes::from_static(b"dummy");
    let refusal = |answer| {
        Some(Answered {
            answer,
            reply: subject(REPLY),
        })
    };

    assert_eq!(
        decode::connect(dummy(), reply()),
        refusal(Reply::ConnectRefused(Rejection::InvalidConnectRequest))
    );
    assert_eq!(
        decode::publish(dummy(), reply()),
        refusal(Reply::PublishRefused(
            Bytes::new(),
            Rejection::InvalidPublish
        ))
    );
    assert_eq!(
        decode::subscribe(dummy(), reply(), ACK_TOKEN),
        refusal(Reply::SubscribeRefused(Rejection::InvalidSubscribe))
    );
    assert_eq!(
        decode::unsubscribe(dummy(), reply()),
        refusal(Reply::LeaveRefused(Rejection::InvalidLeave))
    );
    assert_eq!(
        decode::close_subscription(dummy(), reply()),
        refusal(Reply::LeaveRefused(Rejection::InvalidLeave))
    );
    assert_eq!(
        decode::close_client(dummy(), reply()),
        refusal(Reply::CloseRefused(Rejection::InvalidClose))
    );
    assert_eq!(decode::ping(dummy(), reply()), None);
    assert_eq!(decode::ack(dummy(), "_INBOX.2".into()), None);
}
