//! Any bytes at all: decoders answer, they do not panic; and what one side writes the other reads.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use stanby::core::Request;
use stanby::core::ids::{ChannelName, ClientId, Guid, Sequence};
use stanby::core::message::Message;
use stanby::core::request::{Publisher, StartPosition};
use stanby::core::time::Timestamp;
use stanby::protocol::{client, decode, encode};

use crate::support::{ACK_TOKEN, REPLY, reply, subject};

/// Bytes that look enough like a request to get past the first check.
fn payload() -> impl Strategy<Value = Bytes> {
    let field = (
        1_u8..13,
        prop::sample::select(vec![0_u8, 2]),
        prop::collection::vec(any::<u8>(), 0..12),
    )
        .prop_map(|(tag, wire, content)| {
            let mut bytes = vec![tag << 3 | wire];
            if wire == 2 {
                bytes.push(u8::try_from(content.len()).expect("at most 11"));
                bytes.extend(content);
            } else {
                bytes.push(content.first().copied().unwrap_or(0) & 0x7f);
            }
            bytes
        });
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from),
        prop::collection::vec(field, 0..8).prop_map(|fields| Bytes::from(fields.concat())),
    ]
}

/// What was refused is answered, and only to where the request asked.
fn is_sound(event: Option<&Request>) -> bool {
    match event {
        Some(Request::Answered { reply, .. }) => *reply == subject(REPLY),
        Some(_) | None => true,
    }
}

proptest! {
    #[test]
    fn requests_are_decoded_or_refused(payload in payload()) {
        let events = [
            decode::connect(payload.clone(), reply()),
            decode::publish(payload.clone(), reply()),
            decode::subscribe(payload.clone(), reply(), ACK_TOKEN),
            decode::unsubscribe(payload.clone(), reply()),
            decode::close_subscription(payload.clone(), reply()),
            decode::close_client(payload.clone(), reply()),
            decode::ping(payload.clone(), reply()),
            decode::ack(payload, "_INBOX.2".into()),
        ];
        for (number, event) in events.iter().enumerate() {
            prop_assert!(is_sound(event.as_ref()));
            // Only publishes, pings and acks may be dropped while there is somebody to tell.
            prop_assert!(event.is_some() || [1, 6, 7].contains(&number));
        }
    }

    #[test]
    fn answers_are_understood_or_not(payload in payload()) {
        let outcomes = [
            client::connect_response(payload.clone()).is_err(),
            client::publish_ack(payload.clone()).is_err(),
            client::subscribe_response(payload.clone()).is_err(),
            client::leave_response(payload.clone()).is_err(),
            client::close_response(payload.clone()).is_err(),
            client::ping_response(payload.clone()).is_err(),
            client::delivery(payload.clone()).is_err(),
        ];
        // No bytes are a message whose fields are all at their default.
        prop_assert!(!payload.is_empty() || outcomes == [false; 7]);
    }

    #[test]
    fn a_publish_arrives_as_it_was_sent(
        guid in "[a-z0-9-]{1,40}",
        channel in "[a-z]{1,8}(\\.[A-Z0-9 é]{1,8}){0,3}",
        connection_id in prop::collection::vec(any::<u8>(), 1..40),
        data in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let payload = client::publish_request(client::Publish {
            client_id: "me",
            connection_id: &connection_id,
            guid: &guid,
            channel: &channel,
            data: data.clone().into(),
        });
        let Some(Request::Publish { request, .. }) = decode::publish(payload, reply()) else {
            return Err(TestCaseError::fail("not a publish"));
        };
        prop_assert_eq!(request.guid.as_str(), guid);
        prop_assert_eq!(request.channel.as_str(), channel);
        prop_assert_eq!(request.data, data);
        prop_assert!(matches!(request.publisher, Publisher::Connection(id) if id.0 == connection_id));
    }

    #[test]
    fn a_subscribe_arrives_as_it_was_sent(
        max_in_flight in 1..i32::MAX,
        ack_wait_seconds in 1..i32::MAX,
        sequence in 0..=i64::MAX.unsigned_abs(),
        delta in any::<i64>(),
        by_time in any::<bool>(),
    ) {
        let start = if by_time {
            StartPosition::TimeDelta(delta)
        } else {
            StartPosition::Sequence(Sequence(sequence))
        };
        let payload = client::subscribe_request(&client::Subscribe {
            client_id: "me",
            channel: "foo",
            inbox: "_INBOX.1",
            queue_group: "group",
            durable_name: "",
            max_in_flight,
            ack_wait_seconds,
            start,
        });
        let Some(Request::Subscribe { request, .. }) = decode::subscribe(payload, reply(), ACK_TOKEN)
        else {
            return Err(TestCaseError::fail("not a subscribe"));
        };
        prop_assert_eq!(request.start, start);
        prop_assert_eq!(request.max_in_flight, max_in_flight.unsigned_abs());
        prop_assert_eq!(request.ack_wait.as_secs(), u64::from(ack_wait_seconds.unsigned_abs()));
        prop_assert!(request.queue_group.is_some_and(|name| name.as_str() == "group"));
        prop_assert!(request.durable_name.is_none());
    }

    #[test]
    fn a_delivery_arrives_as_it_was_sent_and_is_as_long_as_the_core_counts_it(
        sequence in 1..=i64::MAX.unsigned_abs(),
        timestamp in any::<i64>(),
        redelivery_count in 0_u32..1000,
        app_reply in "[a-z.]{0,20}",
        data in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let channel = ChannelName::parse("foo.bar".into()).expect("a valid name");
        let message = Message {
            sequence: Sequence(sequence),
            published_at: Timestamp(timestamp),
            client_id: ClientId::parse("me".into()).expect("a valid ID"),
            guid: Guid::parse("g".into()).expect("a valid guid"),
            reply: app_reply.clone().into(),
            data: data.clone().into(),
        };
        let payload =
            encode::delivery(&channel, &message, redelivery_count, &mut BytesMut::new());
        prop_assert_eq!(
            payload.len() as u64,
            message.delivered_size(&channel, redelivery_count)
        );
        let delivery = client::delivery(payload).expect("what was encoded decodes");
        prop_assert_eq!(delivery.sequence, sequence);
        prop_assert_eq!(delivery.channel, "foo.bar");
        prop_assert_eq!(delivery.reply, app_reply);
        prop_assert_eq!(delivery.data, data);
        prop_assert_eq!(delivery.published_at, timestamp);
        prop_assert_eq!(delivery.redelivered, redelivery_count > 0);
        prop_assert_eq!(delivery.redelivery_count, redelivery_count);
    }
}

/// A request is remembered by a standby, and a client's names for as long as it is registered.
#[test]
fn what_is_kept_of_a_request_does_not_keep_the_rest_of_its_payload() {
    let mut padded = client::close_request("me").to_vec();
    // Field 99: 1000 bytes of text.
    padded.extend([0x9a, 0x06, 0xe8, 0x07]);
    padded.resize(padded.len() + 1000, b'x');
    let payload = Bytes::from(padded);
    let range = payload.as_ptr_range();

    let Some(Request::CloseClient { client_id, .. }) = decode::close_client(payload.clone(), None)
    else {
        panic!("unknown fields are no reason to refuse a request");
    };

    assert_eq!(client_id, "me");
    assert!(!range.contains(&client_id.as_ptr()));
}
