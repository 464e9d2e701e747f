//! Which requests are refused, in which order, and what happens when nobody can be told.

mod connect;
mod subscribe;

use bytes::Bytes;
use bytestring::ByteString;
use stanby::core::Request;
use stanby::core::ids::{NAME_BYTES_MAX, Sequence};
use stanby::core::outbound::Reply;
use stanby::core::rejection::Rejection;
use stanby::core::request::Publisher;
use stanby::protocol::{decode, pb};

use crate::support::{ACK_TOKEN, REPLY, bytes, reply, subject};
use connect::good_connect;

const NOT_UTF8: &[u8] = b"\xff\xfe";

#[expect(
    clippy::unnecessary_wraps,
    reason = "it is compared with what a decoder returns"
)]
fn refused(answer: Reply) -> Option<Request> {
    Some(Request::Answered {
        answer,
        reply: subject(REPLY),
    })
}

fn good_publish() -> pb::PubMsg {
    pb::PubMsg {
        client_id: Bytes::from_static(b"me"),
        guid: Bytes::from_static(b"g1"),
        subject: Bytes::from_static(b"foo"),
        ..Default::default()
    }
}

fn good_leave() -> pb::UnsubscribeRequest {
    pb::UnsubscribeRequest {
        client_id: Bytes::from_static(b"me"),
        subject: Bytes::from_static(b"foo"),
        inbox: Bytes::from_static(b"_INBOX.2"),
        ..Default::default()
    }
}

/// Acceptance: 3, 25, 37.
#[test]
fn empty_payloads_are_requests_with_nothing_in_them() {
    let none = Bytes::new;

    assert_eq!(
        decode::connect(none(), reply()),
        refused(Reply::ConnectRefused(Rejection::InvalidConnectRequest))
    );
    assert_eq!(
        decode::publish(none(), reply()),
        refused(Reply::PublishRefused(
            Bytes::new(),
            Rejection::InvalidPublish
        ))
    );
    assert_eq!(
        decode::subscribe(none(), reply(), ACK_TOKEN),
        refused(Reply::SubscribeRefused(Rejection::ClientIdMissing))
    );
    assert_eq!(
        decode::unsubscribe(none(), reply()),
        refused(Reply::LeaveRefused(Rejection::UnknownChannel))
    );
    assert_eq!(
        decode::close_client(none(), reply()),
        Some(Request::CloseClient {
            client_id: "".into(),
            reply: Some(subject(REPLY))
        })
    );
    assert_eq!(decode::ping(none(), reply()), None);
    assert!(matches!(
        decode::ack(none(), "_INBOX.2".into()),
        Some(Request::Ack(ack)) if ack.sequence == Sequence::ZERO && ack.channel.is_empty()
    ));
}

/// Acceptance: 25.
#[test]
fn a_ping_without_a_connection_id_is_told_that_it_is_not_registered() {
    // A field that nobody knows, and nothing else.
    let ping = Bytes::from_static(b"\x12\x01x");
    assert_eq!(
        decode::ping(ping, reply()),
        refused(Reply::PingRefused(Rejection::ClientReplaced))
    );
    assert_eq!(decode::ping(Bytes::new(), reply()), None);
}

/// Acceptance: 37.
#[test]
fn a_refused_publish_gets_an_answer_with_its_guid_whatever_that_is() {
    let without = |guid: &'static [u8]| {
        let request = pb::PubMsg {
            guid: Bytes::from_static(guid),
            ..good_publish()
        };
        decode::publish(bytes(&request), reply())
    };
    for bad in [&b""[..], b"a\0b", NOT_UTF8] {
        assert_eq!(
            without(bad),
            refused(Reply::PublishRefused(
                Bytes::from_static(bad),
                Rejection::InvalidPublish
            )),
            "{bad:?}"
        );
    }

    let long = "g".repeat(NAME_BYTES_MAX + 1);
    let bad_requests = [
        pb::PubMsg {
            subject: Bytes::from_static(b"foo.*"),
            ..good_publish()
        },
        pb::PubMsg {
            subject: Bytes::new(),
            ..good_publish()
        },
        pb::PubMsg {
            subject: Bytes::from_static(NOT_UTF8),
            ..good_publish()
        },
        pb::PubMsg {
            client_id: Bytes::from_static(NOT_UTF8),
            ..good_publish()
        },
        pb::PubMsg {
            reply: Bytes::from_static(NOT_UTF8),
            ..good_publish()
        },
        pb::PubMsg {
            reply: Bytes::from_static(b"a\0b"),
            ..good_publish()
        },
    ];
    for request in bad_requests {
        assert_eq!(
            decode::publish(bytes(&request), reply()),
            refused(Reply::PublishRefused(
                "g1".into(),
                Rejection::InvalidPublish
            )),
            "{request:?}"
        );
    }
    let request = pb::PubMsg {
        guid: long.clone().into(),
        ..good_publish()
    };
    assert_eq!(
        decode::publish(bytes(&request), reply()),
        refused(Reply::PublishRefused(
            long.into(),
            Rejection::InvalidPublish
        ))
    );
}

/// Acceptance: 19.
#[test]
fn a_publish_names_its_client_by_connection_id_if_it_has_one() {
    let publisher = |request: &pb::PubMsg| match decode::publish(bytes(request), None) {
        Some(Request::Publish {
            request,
            reply: None,
        }) => request.publisher,
        other => panic!("{other:?}"),
    };

    assert_eq!(publisher(&good_publish()), Publisher::Client("me".into()));
    let by_connection = pb::PubMsg {
        conn_id: Bytes::from_static(b"C1"),
        client_id: Bytes::from_static(NOT_UTF8),
        sha256: Bytes::from_static(b"ignored"),
        ..good_publish()
    };
    assert!(matches!(publisher(&by_connection), Publisher::Connection(id) if id.0 == "C1"));
}

#[test]
fn messages_between_old_servers_are_not_answered() {
    let stray = pb::CtrlMsg {
        msg_type: 3,
        server_id: Bytes::from_static(b"server"),
        ..Default::default()
    };

    assert_eq!(decode::publish(bytes(&stray), reply()), None);
}

#[test]
fn an_ack_of_a_sequence_that_no_message_can_have_is_dropped() {
    let ack = |sequence| {
        let sent = pb::Ack {
            subject: Bytes::from_static(b"foo"),
            sequence,
        };
        decode::ack(bytes(&sent), "_INBOX.2".into())
    };

    assert!(ack(i64::MAX.unsigned_abs()).is_some());
    assert_eq!(ack(u64::MAX), None);
}

#[test]
fn a_leave_request_that_cannot_name_a_channel_names_an_unknown_one() {
    let leave = |request: &pb::UnsubscribeRequest| decode::unsubscribe(bytes(request), reply());

    let bad_channel = pb::UnsubscribeRequest {
        subject: Bytes::from_static(b"foo.>"),
        ..good_leave()
    };
    assert_eq!(
        leave(&bad_channel),
        refused(Reply::LeaveRefused(Rejection::UnknownChannel))
    );
    let bad_client = pb::UnsubscribeRequest {
        client_id: Bytes::from_static(NOT_UTF8),
        ..good_leave()
    };
    assert_eq!(
        leave(&bad_client),
        refused(Reply::LeaveRefused(Rejection::InvalidLeave))
    );
    let bad_inbox = pb::UnsubscribeRequest {
        inbox: Bytes::from_static(NOT_UTF8),
        ..good_leave()
    };
    assert_eq!(
        leave(&bad_inbox),
        refused(Reply::LeaveRefused(Rejection::InvalidLeave))
    );
}

/// Acceptance: 30.
#[test]
fn a_close_by_a_name_that_is_no_text_is_refused() {
    let request = pb::CloseRequest {
        client_id: Bytes::from_static(NOT_UTF8),
    };

    let decoded = decode::close_client(bytes(&request), reply());

    assert_eq!(
        decoded,
        refused(Reply::CloseRefused(Rejection::InvalidClose))
    );
}

/// Acceptance: 60.
#[test]
fn a_request_without_a_usable_reply_is_carried_out_and_not_answered() {
    for reply in [
        None,
        Some(ByteString::from("a b")),
        Some("".into()),
        Some("a.>".into()),
    ] {
        assert!(matches!(
            decode::publish(bytes(&good_publish()), reply.clone()),
            Some(Request::Publish { reply: None, .. })
        ));
        assert!(matches!(
            decode::connect(bytes(&good_connect()), reply.clone()),
            Some(Request::Connect { reply: None, .. })
        ));
        assert!(matches!(
            decode::close_subscription(bytes(&good_leave()), reply.clone()),
            Some(Request::CloseSubscription { reply: None, .. })
        ));
        let ping = pb::Ping {
            conn_id: Bytes::from_static(b"C1"),
        };
        assert_eq!(decode::ping(bytes(&ping), reply.clone()), None);
        assert_eq!(decode::publish(Bytes::new(), reply.clone()), None);
        assert_eq!(decode::subscribe(Bytes::new(), reply, ACK_TOKEN), None);
    }
}

#[test]
fn fields_that_the_server_does_not_know_are_skipped() {
    let mut payload = bytes(&good_publish()).to_vec();
    // Field 99, text "new".
    payload.extend_from_slice(&[0x9a, 0x06, 0x03, b'n', b'e', b'w']);

    assert!(matches!(
        decode::publish(payload.into(), reply()),
        Some(Request::Publish { .. })
    ));
}
