//! What is kept counts every field against its bound.

use std::time::Duration;

use stanby::core::ids::{ConnectionId, Guid, Sequence};
use stanby::core::limits::Limits;
use stanby::core::request::{Ack, Connect, Leave, Publish, Publisher, StartPosition, Subscribe};
use stanby::core::request_journal::RequestJournal;
use stanby::core::shadow::{Shadow, ShadowLimits};
use stanby::core::{Reply, Request};

use super::{MEGABYTE, at, broker, connect, publish, settle};
use crate::input::Input;
use crate::pools;

fn long(bytes: usize) -> bytestring::ByteString {
    "x".repeat(bytes).into()
}

/// Requests with a megabyte in one field each, wherever a client can put one.
fn heavy() -> Vec<(&'static str, Request)> {
    let reply = None;
    let publishes = [
        (
            "reply of a publish",
            Publish {
                reply: long(MEGABYTE),
                ..publish()
            },
        ),
        (
            "guid of a publish",
            Publish {
                guid: Guid::parse(long(MEGABYTE)).expect("not empty"),
                ..publish()
            },
        ),
        (
            "data of a publish",
            Publish {
                data: vec![0; MEGABYTE].into(),
                ..publish()
            },
        ),
        (
            "connection of a publish",
            Publish {
                publisher: Publisher::Connection(ConnectionId(vec![0; MEGABYTE].into())),
                ..publish()
            },
        ),
        (
            "client of a publish",
            Publish {
                publisher: Publisher::Client(long(MEGABYTE)),
                ..publish()
            },
        ),
    ];
    let leave = |client_id: usize, inbox: usize| Leave {
        client_id: long(client_id),
        channel: publish().channel,
        inbox: long(inbox),
    };
    let mut heavy: Vec<(&'static str, Request)> = publishes
        .into_iter()
        .map(|(what, request)| {
            (
                what,
                Request::Publish {
                    request,
                    reply: None,
                },
            )
        })
        .collect();
    heavy.extend([
        (
            "connection of a connect",
            Request::Connect {
                request: Connect {
                    connection_id: ConnectionId(vec![0; MEGABYTE].into()),
                    ..connect()
                },
                reply,
            },
        ),
        (
            "client of an unsubscribe",
            Request::Unsubscribe {
                request: leave(MEGABYTE, 1),
                reply: None,
            },
        ),
        (
            "inbox of a close",
            Request::CloseSubscription {
                request: leave(1, MEGABYTE),
                reply: None,
            },
        ),
        (
            "client of a close",
            Request::CloseClient {
                client_id: long(MEGABYTE),
                reply: None,
            },
        ),
        (
            "connection of a ping",
            Request::Ping {
                connection_id: ConnectionId(vec![0; MEGABYTE].into()),
                reply: pools::subject("pong"),
            },
        ),
        (
            "channel of an ack",
            Request::Ack(Ack {
                ack_inbox: "a".into(),
                channel: long(MEGABYTE),
                sequence: Sequence(1),
            }),
        ),
        (
            "guid of a refusal",
            Request::Answered {
                answer: Reply::PublishRefused(
                    long(MEGABYTE).into_bytes(),
                    stanby::core::rejection::Rejection::InvalidPublish,
                ),
                reply: pools::subject("refused"),
            },
        ),
        (
            "guid of a stored publish",
            Request::AlreadyStored {
                request: Publish {
                    guid: Guid::parse(long(MEGABYTE)).expect("not empty"),
                    ..publish()
                },
                reply: pools::subject("stored"),
            },
        ),
    ]);
    heavy
}

fn ten_megabytes() -> ShadowLimits {
    ShadowLimits {
        age: Duration::from_secs(30),
        needed: Duration::from_secs(30),
        bytes: 10 * MEGABYTE,
    }
}

#[test]
fn a_standbys_memory_counts_every_field() {
    for (what, event) in heavy() {
        let mut shadow = Shadow::new(Some(ten_megabytes()));
        shadow.record(std::iter::repeat_n(event, 20), at(1).monotonic);
        assert_eq!(shadow.take().received.len(), 9, "{what}");
    }
}

#[test]
fn what_an_active_keeps_for_a_standby_counts_every_field() {
    for (what, event) in heavy() {
        if matches!(event, Request::Ping { .. }) {
            // Clients ping again by themselves.
            continue;
        }
        let mut journal = RequestJournal::new(Some(ten_megabytes()));
        for _ in 0..20 {
            journal.take_in(&event, at(1).monotonic);
        }
        assert_eq!(journal.leave().count(), 9, "{what}");
    }
}

#[test]
fn a_batch_and_the_answers_that_wait_count_every_field() {
    for (what, event) in heavy() {
        let mut broker = broker(Limits::default());
        settle(&mut broker, at(1));
        let mut taken = 0;
        while broker.has_capacity() && taken < 100 {
            let event = match event.clone() {
                // Those that are refused or stored already are answered to somebody.
                Request::Publish { request, .. } => Request::Publish {
                    request,
                    reply: Some(pools::subject("reply")),
                },
                Request::Connect { request, .. } => Request::Connect {
                    request: Connect {
                        client_id: stanby::core::ids::ClientId::parse(
                            format!("client-{taken}").into(),
                        )
                        .expect("an ID"),
                        ..request
                    },
                    reply: None,
                },
                other => other,
            };
            broker.handle(event, at(1));
            taken += 1;
        }
        let leaves_nothing = matches!(
            event,
            Request::Ack(_)
                | Request::Ping { .. }
                | Request::CloseClient { .. }
                | Request::Unsubscribe { .. }
                | Request::CloseSubscription { .. }
        ) || matches!(what, "connection of a publish" | "client of a publish");
        if !leaves_nothing {
            assert!(taken <= 17, "{taken} with a megabyte as {what}");
        }
    }
}

#[test]
fn the_tail_counts_what_is_not_data() {
    let mut broker = broker(Limits {
        tail_bytes: 10 * MEGABYTE,
        ..Limits::default()
    });
    for _ in 0..20 {
        let request = Publish {
            reply: long(MEGABYTE),
            ..publish()
        };
        let reply = None;
        broker.handle(Request::Publish { request, reply }, at(1));
        settle(&mut broker, at(1));
    }
    let request = Subscribe {
        durable_name: None,
        queue_group: None,
        start: StartPosition::Sequence(Sequence(11)),
        ..pools::subscribe(&mut Input::new(&[]))
    };
    let reply = None;
    broker.handle(Request::Subscribe { request, reply }, at(1));
    settle(&mut broker, at(1));
    assert!(
        broker.poll_load().is_some(),
        "the eleventh of twenty is not in memory any more"
    );
}
