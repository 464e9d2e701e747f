//! Clients that take and never ack, and requests whose weight is where nobody looks.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "only two kinds of requests are made others"
)]

mod counted;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use stanby::core::ids::{ConnectionId, Guid, Sequence};
use stanby::core::limits::{Heartbeats, Limits, Settings};
use stanby::core::request::{Ack, Connect, Publish, Publisher, StartPosition, Subscribe};
use stanby::core::snapshot::Snapshot;
use stanby::core::time::{Instant, Now, Timestamp};
use stanby::core::{Broker, Event, Outbound, Reply, Request};

use super::input::Input;
use super::pools;

const MEGABYTE: usize = 1 << 20;

const ACK_WAIT: Duration = Duration::from_secs(1);

pub(crate) fn at(millis: u64) -> Now {
    Now {
        monotonic: Instant::from_nanos(1_000_000 * millis),
        wall: Timestamp(1_000_000 * millis.cast_signed()),
    }
}

pub(crate) fn settings(limits: Limits) -> Settings {
    Settings {
        heartbeats: Heartbeats::default(),
        limits,
        ack_prefix: "ack".into(),
        partition: None,
        replace_durables: false,
    }
}

pub(crate) fn connect() -> Connect {
    let none = &mut Input::new(&[]);
    Connect {
        client_id: pools::client(none),
        connection_id: ConnectionId(Bytes::from_static(b"connection")),
        ..pools::connect(none)
    }
}

pub(crate) fn publish() -> Publish {
    Publish {
        publisher: Publisher::Connection(connect().connection_id),
        guid: Guid::parse("g".into()).expect("a valid guid"),
        channel: pools::channel(&mut Input::new(&[])),
        reply: "".into(),
        data: Bytes::new(),
    }
}

pub(crate) fn broker(limits: Limits) -> Broker {
    let mut broker = Broker::restore(Snapshot::default(), settings(limits), at(1));
    let (request, reply) = (connect(), None);
    broker.handle(Request::Connect { request, reply }, at(1));
    broker
}

/// Commits what there is; what leaves is returned.
pub(crate) fn settle(broker: &mut Broker, now: Now) -> Vec<Outbound> {
    let mut left = Vec::new();
    loop {
        let batch = broker.poll_batch();
        if let Some(batch) = &batch {
            broker.handle(Event::Committed(batch.number), now);
        }
        let before = left.len();
        left.extend(std::iter::from_fn(|| broker.poll_outbound()));
        if batch.is_none() && left.len() == before {
            return left;
        }
    }
}

/// Subscriptions that have all of the messages and ack none; their ack inboxes by inbox.
pub(crate) fn hoard(
    broker: &mut Broker,
    subscriptions: usize,
    messages: u32,
) -> BTreeMap<String, bytestring::ByteString> {
    let mut ack_inboxes = BTreeMap::new();
    for number in 0..subscriptions {
        let request = Subscribe {
            inbox: pools::subject(&format!("in.{number}")),
            durable_name: None,
            queue_group: None,
            start: StartPosition::NewOnly,
            max_in_flight: messages,
            ack_wait: ACK_WAIT,
            ack_token: number as u128,
            ..pools::subscribe(&mut Input::new(&[]))
        };
        let reply = Some(pools::subject("reply"));
        broker.handle(Request::Subscribe { request, reply }, at(1));
        for answer in settle(broker, at(1)) {
            if let Outbound::Reply {
                reply: Reply::Subscribed { ack_inbox },
                ..
            } = answer
            {
                ack_inboxes.insert(format!("in.{number}"), ack_inbox.to_text());
            }
        }
    }
    assert_eq!(ack_inboxes.len(), subscriptions);
    for _ in 0..messages {
        let (request, reply) = (publish(), None);
        broker.handle(Request::Publish { request, reply }, at(1));
    }
    let delivered = settle(broker, at(1)).len();
    assert_eq!(delivered, subscriptions * messages as usize);
    ack_inboxes
}

fn inbox_of(outbound: &Outbound) -> Option<(String, Sequence, u32)> {
    match outbound {
        Outbound::Deliver {
            inbox,
            message,
            redelivery_count,
            ..
        } => Some((inbox.to_string(), message.sequence, *redelivery_count)),
        Outbound::Reply { .. } | Outbound::Probe { .. } => None,
    }
}

#[test]
fn what_is_due_goes_once_in_order_and_in_fair_turns() {
    let (subscriptions, messages) = (5, 10_000);
    let mut broker = broker(Limits::default());
    hoard(&mut broker, subscriptions, messages);

    broker.handle_timeout(at(1_500));
    let mut by_inbox: BTreeMap<String, Vec<Sequence>> = BTreeMap::new();
    while let Some(outbound) = broker.poll_outbound() {
        let (inbox, sequence, count) = inbox_of(&outbound).expect("only deliveries are due");
        assert_eq!(count, 1);
        by_inbox.entry(inbox).or_default().push(sequence);
        if by_inbox.values().map(Vec::len).sum::<usize>() == 5_000 {
            let most = by_inbox.values().map(Vec::len).max();
            let least = by_inbox.values().map(Vec::len).min();
            assert_eq!(by_inbox.len(), subscriptions, "all of them have had turns");
            assert!(
                most < least.map(|least| 2 * least),
                "{most:?} and {least:?}"
            );
        }
    }

    let all: Vec<Sequence> = (1..=u64::from(messages)).map(Sequence).collect();
    assert_eq!(by_inbox.len(), subscriptions);
    for sequences in by_inbox.values() {
        assert!(*sequences == all, "each once, in order");
    }
    assert_eq!(broker.contradictions(), Vec::<String>::new());
}

#[test]
fn an_answer_does_not_wait_for_what_is_due() {
    let mut broker = broker(Limits::default());
    hoard(&mut broker, 5, 20_000);

    broker.handle_timeout(at(1_500));
    assert!(broker.poll_outbound().as_ref().and_then(inbox_of).is_some());
    let connection_id = connect().connection_id;
    let reply = pools::subject("pong");
    broker.handle(
        Request::Ping {
            connection_id,
            reply,
        },
        at(1_500),
    );
    let next = broker.poll_outbound();
    assert!(
        matches!(
            next,
            Some(Outbound::Reply {
                reply: Reply::Pong,
                ..
            })
        ),
        "{next:?}"
    );
}

#[test]
fn what_is_acked_before_its_turn_is_not_delivered_again() {
    let limits = Limits::default();
    let window = limits.window_bytes;
    let mut broker = broker(limits);
    let ack_inboxes = hoard(&mut broker, 2, 20_000);

    broker.handle_timeout(at(1_500));
    for ack_inbox in ack_inboxes.values() {
        for sequence in (1..=20_000).map(Sequence) {
            let (ack_inbox, channel) = (ack_inbox.clone(), publish().channel.to_text());
            let ack = Ack {
                ack_inbox,
                channel,
                sequence,
            };
            broker.handle(Request::Ack(ack), at(1_500));
        }
    }
    let bytes: usize = settle(&mut broker, at(1_500))
        .iter()
        .map(Outbound::memory_size)
        .sum();
    assert!(bytes < window + 1_000, "{bytes} bytes were handed out");
}

#[test]
fn timers_that_are_due_at_once_are_taken_in_turns() {
    let mut broker = Broker::restore(
        Snapshot::default(),
        settings(Limits {
            connects_per_second: None,
            ..Limits::default()
        }),
        at(1),
    );
    for number in 0..5_000 {
        let text = format!("client-{number}");
        let request = Connect {
            client_id: stanby::core::ids::ClientId::parse(text.clone().into()).expect("an ID"),
            connection_id: ConnectionId(text.into()),
            ..connect()
        };
        let reply = None;
        broker.handle(Request::Connect { request, reply }, at(1));
    }
    settle(&mut broker, at(1));

    let later = at(60_000);
    let mut turns = 0;
    let mut probes = 0;
    while broker
        .next_timeout()
        .is_some_and(|due| due <= later.monotonic)
    {
        broker.handle_timeout(later);
        let sent = std::iter::from_fn(|| broker.poll_outbound()).count();
        assert!(sent <= 1_024, "{sent} in one turn");
        probes += sent;
        turns += 1;
    }
    assert_eq!((probes, turns), (5_000, 5));
}

#[test]
fn the_time_of_a_probe_counts_from_when_it_leaves() {
    let mut broker = broker(Limits::default());
    settle(&mut broker, at(1));

    // It is asked for, and does not leave for ten times as long as a client has to answer.
    broker.handle_timeout(at(31_000));
    for second in 32..131 {
        broker.handle_timeout(at(second * 1_000));
    }
    assert_eq!(broker.counts().clients, 1);
    broker.look(at(131_000));
    assert!(matches!(broker.poll_answer(), Some(Outbound::Probe { .. })));
    let due = broker.next_timeout().expect("the answer is waited for");
    assert_eq!(due.since(at(131_000).monotonic), Duration::from_secs(10));
}
