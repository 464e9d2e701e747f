//! What the answers say.

use bytes::{Bytes, BytesMut};
use stanby::core::Request;
use stanby::core::ids::{ChannelName, ClientId, Guid, Sequence};
use stanby::core::message::Message;
use stanby::core::outbound::Reply;
use stanby::core::rejection::Rejection;
use stanby::core::time::Timestamp;
use stanby::protocol::{client, decode, encode, rejection};

use crate::support::subjects;

fn connected(protocol: i32) -> client::Connected {
    let reply = Reply::Connected {
        client_id: ClientId::parse("me".into()).expect("a valid ID"),
        protocol,
        ping_interval: -200,
        ping_max_out: 3,
    };
    let payload = encode::reply(&reply, &subjects(), &mut BytesMut::new());
    client::connect_response(payload).expect("an accepted connect")
}

/// Acceptance: 1.
#[test]
fn a_connected_client_learns_where_its_requests_go() {
    let expected = client::Connected {
        publish_prefix: "_STAN.pub.test-cluster".into(),
        subscribe: "_STAN.sub.test-cluster".into(),
        unsubscribe: "_STAN.unsub.test-cluster".into(),
        close_subscription: "_STAN.subclose.test-cluster".into(),
        close_client: "_STAN.close.test-cluster".into(),
        pings: "_STAN.discover.test-cluster.pings".into(),
        ping_interval: -200,
        ping_max_out: 3,
        protocol: 1,
    };

    assert_eq!(connected(1), expected);
    assert_eq!(connected(2), expected);
}

/// Acceptance: 2.
#[test]
fn a_client_of_protocol_0_is_not_told_to_ping() {
    let answer = connected(0);

    assert_eq!(
        (
            answer.pings.as_ref(),
            answer.ping_interval,
            answer.ping_max_out
        ),
        ("", 0, 0)
    );
    assert_eq!(answer.protocol, 1);
    assert_eq!(answer.publish_prefix, "_STAN.pub.test-cluster");
}

/// Acceptance: 38.
#[test]
fn a_long_guid_comes_back_as_it_was_sent() {
    let guid = "g".repeat(1000);
    let request = client::publish_request(client::Publish {
        client_id: "me",
        connection_id: b"C1",
        guid: &guid,
        channel: "foo",
        data: Bytes::new(),
    });

    let Some(Request::Publish { request, .. }) = decode::publish(request, None) else {
        panic!("it is refused");
    };
    let reply = Reply::Published(request.guid);
    let answer = encode::reply(&reply, &subjects(), &mut BytesMut::new());

    let ack = client::publish_ack(answer).expect("an ack");
    assert_eq!((&*ack.guid, ack.refusal), (&*guid, None));
}

/// Acceptance: 73.
#[test]
fn even_the_emptiest_message_is_delivered_as_some_bytes() {
    let message = Message {
        sequence: Sequence(1),
        published_at: Timestamp(0),
        client_id: ClientId::parse("me".into()).expect("a valid ID"),
        guid: Guid::parse("g".into()).expect("a valid guid"),
        reply: "".into(),
        data: Bytes::new(),
    };
    let channel = ChannelName::parse("a".into()).expect("a valid name");

    let payload = encode::delivery(&channel, &message, 0, &mut BytesMut::new());

    assert_eq!(client::delivery(payload).expect("a message").sequence, 1);
}

/// Acceptance: 5, 12, 17, 29, 37, 43, 44, 47, 48, 57, 61, 91, 105.
#[test]
fn refusals_have_the_texts_that_clients_compare() {
    let name = |text: &str| ChannelName::parse(text.to_owned().into()).unwrap();
    let texts = [
        (
            Rejection::InvalidConnectRequest,
            "stan: invalid connection request",
        ),
        (
            Rejection::InvalidClientId,
            "stan: invalid clientID: only alphanumeric and `-` or `_` characters allowed",
        ),
        (
            Rejection::ClientRegistered,
            "stan: clientID already registered",
        ),
        (Rejection::InvalidPublish, "stan: invalid publish request"),
        (
            Rejection::InvalidSubscribe,
            "stan: invalid subscription request",
        ),
        (Rejection::ClientIdMissing, "stan: clientID missing"),
        (
            Rejection::InvalidAckWait,
            "stan: invalid ack wait time, should be >= 1s",
        ),
        (
            Rejection::InvalidMaxInFlight,
            "stan: invalid MaxInflight, should be >= 1",
        ),
        (
            Rejection::InvalidStartPosition,
            "stan: invalid start position",
        ),
        (Rejection::InvalidChannel, "stan: invalid subject"),
        (Rejection::UnknownClient, "stan: unknown clientID"),
        (
            Rejection::InvalidDurableName,
            "stan: durable name of a durable queue subscriber can't contain the character ':'",
        ),
        (
            Rejection::DuplicateDurable,
            "stan: duplicate durable registration",
        ),
        (Rejection::InvalidLeave, "stan: invalid unsubscribe request"),
        (Rejection::UnknownChannel, "stan: unknown channel"),
        (Rejection::UnknownSubscription, "stan: invalid subscription"),
        (Rejection::InvalidClose, "stan: invalid close request"),
        (
            Rejection::ClientReplaced,
            "client has been replaced or is no longer registered",
        ),
        (
            Rejection::TooManyConnects,
            "stan: too many clients connect at once, try again in a second",
        ),
        (Rejection::TooManyClients, "stan: too many clients"),
        (Rejection::TooManyChannels, "too many channels"),
        (
            Rejection::TooManySubscriptions,
            "too many subscriptions per channel",
        ),
        (
            Rejection::CaseClash {
                name: name("FOO"),
                existing: name("foo"),
            },
            "rejecting channel \"FOO\" because channel \"foo\" alreay exists (different cases not \
             allowed)",
        ),
    ];
    for (rejection, text) in texts {
        assert_eq!(rejection::text(&rejection), text, "{rejection:?}");
    }
}

#[test]
fn every_kind_of_answer_carries_its_refusal_where_clients_read_it() {
    let text = "stan: unknown clientID".to_owned();
    let refused = Err(client::Error::Refused(text.clone()));
    let encoded = |reply| encode::reply(&reply, &subjects(), &mut BytesMut::new());
    let reason = || Rejection::UnknownClient;

    let connect = client::connect_response(encoded(Reply::ConnectRefused(reason())));
    assert_eq!(connect, Err(client::Error::Refused(text.clone())));
    let subscribe = client::subscribe_response(encoded(Reply::SubscribeRefused(reason())));
    assert_eq!(subscribe, Err(client::Error::Refused(text.clone())));
    assert_eq!(
        client::leave_response(encoded(Reply::LeaveRefused(reason()))),
        refused
    );
    assert_eq!(
        client::close_response(encoded(Reply::CloseRefused(reason()))),
        refused
    );
    assert_eq!(
        client::ping_response(encoded(Reply::PingRefused(reason()))),
        refused
    );
    let publish =
        client::publish_ack(encoded(Reply::PublishRefused(Bytes::new(), reason()))).unwrap();
    assert_eq!((publish.guid.as_ref(), publish.refusal), ("", Some(text)));
}

#[test]
fn payloads_cut_from_one_buffer_do_not_change_each_other() {
    let mut buffer = BytesMut::with_capacity(64);
    let guids: Vec<String> = (0..100).map(|number| format!("guid-{number}")).collect();

    let payloads: Vec<Bytes> = guids
        .iter()
        .map(|guid| {
            let guid = stanby::core::ids::Guid::parse(guid.clone().into()).unwrap();
            encode::reply(&Reply::Published(guid), &subjects(), &mut buffer)
        })
        .collect();

    let read: Vec<String> = payloads
        .into_iter()
        .map(|payload| client::publish_ack(payload).unwrap().guid.to_string())
        .collect();
    assert_eq!(read, guids);
}
