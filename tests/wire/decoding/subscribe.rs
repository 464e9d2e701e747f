//! Requests to subscribe.

use bytes::Bytes;
use stanby::core::Request;
use stanby::core::ids::{NAME_BYTES_MAX, QueueName, Sequence};
use stanby::core::outbound::Reply;
use stanby::core::rejection::Rejection;
use stanby::core::request::StartPosition;
use stanby::protocol::{decode, pb};

use super::{NOT_UTF8, refused};
use crate::support::{ACK_TOKEN, bytes, reply};

fn good_subscribe() -> pb::SubscriptionRequest {
    pb::SubscriptionRequest {
        client_id: Bytes::from_static(b"me"),
        subject: Bytes::from_static(b"foo"),
        inbox: Bytes::from_static(b"_INBOX.1"),
        max_in_flight: 1,
        ack_wait_in_secs: 1,
        ..Default::default()
    }
}

fn subscribe(request: &pb::SubscriptionRequest) -> Option<Request> {
    decode::subscribe(bytes(request), reply(), ACK_TOKEN)
}

/// Acceptance: 47.
#[test]
fn a_subscribe_is_checked_in_order() {
    let mut request = pb::SubscriptionRequest {
        inbox: Bytes::from_static(b"a b"),
        start_position: 5,
        ..Default::default()
    };
    let mut expect = |fix: fn(&mut pb::SubscriptionRequest), rejection: Rejection| {
        assert_eq!(
            subscribe(&request),
            refused(Reply::SubscribeRefused(rejection)),
            "{request:?}"
        );
        fix(&mut request);
    };

    expect(
        |r| r.client_id = Bytes::from_static(b"not valid"),
        Rejection::ClientIdMissing,
    );
    expect(|r| r.ack_wait_in_secs = -1, Rejection::InvalidAckWait);
    expect(|r| r.ack_wait_in_secs = 1, Rejection::InvalidAckWait);
    expect(|r| r.max_in_flight = -1, Rejection::InvalidMaxInFlight);
    expect(|r| r.max_in_flight = 1, Rejection::InvalidMaxInFlight);
    expect(|r| r.start_position = -1, Rejection::InvalidStartPosition);
    expect(|r| r.start_position = 0, Rejection::InvalidStartPosition);
    expect(
        |r| r.subject = Bytes::from_static(b"foo"),
        Rejection::InvalidChannel,
    );
    expect(
        |r| r.inbox = Bytes::from_static(b"_INBOX.1"),
        Rejection::InvalidSubscribe,
    );
    expect(
        |r| r.client_id = Bytes::from_static(b"valid"),
        Rejection::UnknownClient,
    );

    assert!(matches!(
        subscribe(&request),
        Some(Request::Subscribe { .. })
    ));
}

#[test]
fn a_subscribe_is_refused_for_names_that_no_table_holds() {
    let long = || Bytes::from(vec![b'x'; NAME_BYTES_MAX + 1]);
    for name in [
        Bytes::from_static(NOT_UTF8),
        Bytes::from_static(b"a\0b"),
        long(),
    ] {
        let durable = pb::SubscriptionRequest {
            durable_name: name.clone(),
            ..good_subscribe()
        };
        let queue = pb::SubscriptionRequest {
            q_group: name.clone(),
            ..good_subscribe()
        };
        let expected = refused(Reply::SubscribeRefused(Rejection::InvalidSubscribe));
        assert_eq!(subscribe(&durable), expected, "{name:?}");
        assert_eq!(subscribe(&queue), expected, "{name:?}");

        let channel = pb::SubscriptionRequest {
            subject: name,
            ..good_subscribe()
        };
        let expected = refused(Reply::SubscribeRefused(Rejection::InvalidChannel));
        assert_eq!(subscribe(&channel), expected);
    }
}

#[test]
fn every_start_position_is_understood() {
    let start = |position, sequence, delta| {
        let request = pb::SubscriptionRequest {
            start_position: position,
            start_sequence: sequence,
            start_time_delta: delta,
            q_group: Bytes::from_static(b"a:b"),
            ..good_subscribe()
        };
        match subscribe(&request) {
            Some(Request::Subscribe { request, .. }) => {
                assert_eq!(request.queue_group, QueueName::parse("a:b".into()));
                request.start
            }
            other => panic!("{other:?}"),
        }
    };

    assert_eq!(start(0, 9, 9), StartPosition::NewOnly);
    assert_eq!(start(1, 9, 9), StartPosition::LastReceived);
    assert_eq!(start(2, 9, -5), StartPosition::TimeDelta(-5));
    assert_eq!(start(3, 9, 9), StartPosition::Sequence(Sequence(9)));
    assert_eq!(start(4, 9, 9), StartPosition::First);
    let past_any_message = StartPosition::Sequence(Sequence(i64::MAX.unsigned_abs()));
    assert_eq!(start(3, u64::MAX, 0), past_any_message);
}
