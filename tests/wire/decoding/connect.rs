//! Requests to connect.

use bytes::Bytes;
use stanby::core::Request;
use stanby::core::ids::NAME_BYTES_MAX;
use stanby::core::outbound::Reply;
use stanby::core::rejection::Rejection;
use stanby::protocol::{decode, pb};

use super::{NOT_UTF8, refused};
use crate::support::{bytes, reply, subject};

pub(super) fn good_connect() -> pb::ConnectRequest {
    pb::ConnectRequest {
        client_id: Bytes::from_static(b"me"),
        heartbeat_inbox: Bytes::from_static(b"_INBOX.hb"),
        ..Default::default()
    }
}

/// Acceptance: 4.
#[test]
fn a_connect_needs_a_heartbeat_inbox_before_a_valid_client_id() {
    let mut request = pb::ConnectRequest {
        client_id: Bytes::from_static(b"a b"),
        ..good_connect()
    };
    let decoded = decode::connect(bytes(&request), reply());
    assert_eq!(
        decoded,
        refused(Reply::ConnectRefused(Rejection::InvalidClientId))
    );

    request.heartbeat_inbox = Bytes::new();
    let decoded = decode::connect(bytes(&request), reply());
    assert_eq!(
        decoded,
        refused(Reply::ConnectRefused(Rejection::InvalidConnectRequest))
    );
}

/// Clients of some languages mean milliseconds by it. Only they need to understand it: it comes back in the answer.
#[test]
fn a_ping_interval_below_zero_is_taken_as_it_is() {
    let request = pb::ConnectRequest {
        protocol: 1,
        ping_interval: -200,
        ping_max_out: 3,
        ..good_connect()
    };

    let Some(Request::Connect { request, .. }) = decode::connect(bytes(&request), reply()) else {
        panic!("it is refused");
    };

    assert_eq!((request.ping_interval, request.ping_max_out), (-200, 3));
}

/// Acceptance: 5.
#[test]
fn a_connect_is_refused_for_what_the_server_could_not_use() {
    for inbox in [
        &b"_INBOX.\r\nPUB x 0"[..],
        b"a b",
        b"_INBOX.>",
        b".a",
        NOT_UTF8,
    ] {
        let request = pb::ConnectRequest {
            heartbeat_inbox: Bytes::copy_from_slice(inbox),
            ..good_connect()
        };
        let decoded = decode::connect(bytes(&request), reply());
        let expected = refused(Reply::ConnectRefused(Rejection::InvalidConnectRequest));
        assert_eq!(decoded, expected, "{inbox:?}");
    }
    let request = pb::ConnectRequest {
        conn_id: vec![0; NAME_BYTES_MAX + 1].into(),
        ..good_connect()
    };
    let decoded = decode::connect(bytes(&request), reply());
    assert_eq!(
        decoded,
        refused(Reply::ConnectRefused(Rejection::InvalidConnectRequest))
    );

    for id in [
        Bytes::new(),
        Bytes::from_static(NOT_UTF8),
        vec![b'x'; NAME_BYTES_MAX + 1].into(),
    ] {
        let request = pb::ConnectRequest {
            client_id: id,
            ..good_connect()
        };
        let decoded = decode::connect(bytes(&request), reply());
        assert_eq!(
            decoded,
            refused(Reply::ConnectRefused(Rejection::InvalidClientId))
        );
    }
}

#[test]
fn inboxes_of_every_client_library_are_taken() {
    for inbox in [
        "_INBOX.x.y",
        "_HB.x",
        "0f8fad5b-d9cb-469f-a165-70867728950e",
    ] {
        let request = pb::ConnectRequest {
            heartbeat_inbox: Bytes::from_static(inbox.as_bytes()),
            ..good_connect()
        };
        assert!(
            matches!(
                decode::connect(bytes(&request), reply()),
                Some(Request::Connect { request, .. }) if request.heartbeat_inbox == subject(inbox)
            ),
            "{inbox}"
        );
    }
}
