//! Deliveries that wait for NATS while their messages are acked.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use stanby::core::ids::{ChannelName, ClientId, ConnectionId, Epoch, Guid, Sequence, Subject};
use stanby::core::limits::{Heartbeats, Limits, Settings};
use stanby::core::request::{Ack, Connect, Publish, Publisher, StartPosition, Subscribe};
use stanby::core::time::{Instant, Now, Timestamp};
use stanby::core::{Broker, Event, Outbound, Reply, Request};

use crate::memory_store::MemoryStore;

const ACK_WAIT: Duration = Duration::from_secs(1);

fn at(millis: u64) -> Now {
    Now {
        monotonic: Instant::from_nanos(1_000_000 * millis),
        wall: Timestamp(1_000_000 * millis.cast_signed()),
    }
}

fn subject(name: &str) -> Subject {
    Subject::parse(name.to_owned().into()).expect("a valid subject")
}

/// Commits all there is and gives what leaves.
fn settle(broker: &mut Broker, store: &mut MemoryStore) -> Vec<Outbound> {
    let mut left = Vec::new();
    loop {
        left.extend(std::iter::from_fn(|| broker.poll_outbound()));
        let Some(batch) = broker.poll_batch() else {
            return left;
        };
        store.apply(&batch, Epoch(1));
        broker.handle(Event::Committed(batch.number), at(0));
    }
}

/// Commits all there is; nothing leaves.
fn commit(broker: &mut Broker, store: &mut MemoryStore) {
    while let Some(batch) = broker.poll_batch() {
        store.apply(&batch, Epoch(1));
        broker.handle(Event::Committed(batch.number), at(0));
    }
}

fn publish(number: u64) -> Request {
    let request = Publish {
        publisher: Publisher::Client("worker".into()),
        guid: Guid::parse(format!("g{number}").into()).expect("a valid GUID"),
        channel: ChannelName::parse("orders".into()).expect("a valid name"),
        reply: "".into(),
        data: Bytes::new(),
    };
    Request::Publish {
        request,
        reply: None,
    }
}

/// A client that gets all of a channel, so many messages at once; where it acks.
fn subscribed(broker: &mut Broker, store: &mut MemoryStore, max_in_flight: u32) -> ByteString {
    let client_id = ClientId::parse("worker".into()).expect("a valid client ID");
    let request = Connect {
        client_id: client_id.clone(),
        heartbeat_inbox: subject("hb"),
        protocol: 0,
        connection_id: ConnectionId::default(),
        ping_interval: 5,
        ping_max_out: 88,
    };
    let reply = None;
    broker.handle(Request::Connect { request, reply }, at(0));
    let request = Subscribe {
        client_id,
        channel: ChannelName::parse("orders".into()).expect("a valid name"),
        inbox: subject("in"),
        queue_group: None,
        durable_name: None,
        max_in_flight,
        ack_wait: ACK_WAIT,
        start: StartPosition::First,
        ack_token: 7,
    };
    let reply = Some(subject("subscribed"));
    broker.handle(Request::Subscribe { request, reply }, at(0));
    let left = settle(broker, store);
    let mut ack_inboxes = left.iter().filter_map(|outbound| match outbound {
        Outbound::Reply {
            reply: Reply::Subscribed { ack_inbox },
            ..
        } => Some(ack_inbox.to_text()),
        Outbound::Reply { .. } | Outbound::Deliver { .. } | Outbound::Probe { .. } => None,
    });
    ack_inboxes.next().expect("it is subscribed")
}

#[test]
fn a_redelivery_that_waits_for_nats_does_not_leave_once_its_message_is_acked() {
    let settings = Settings {
        heartbeats: Heartbeats::default(),
        limits: Limits::default(),
        ack_prefix: "ack".into(),
        partition: None,
        replace_durables: false,
    };
    let mut store = MemoryStore::default();
    let mut broker = Broker::restore(store.snapshot(), settings, at(0));
    let ack_inbox = subscribed(&mut broker, &mut store, 10);
    for number in 1..=2 {
        broker.handle(publish(number), at(0));
    }
    settle(&mut broker, &mut store);

    // Both are due, and NATS takes nothing until the first one is acked.
    broker.handle_timeout(at(1_001));
    let ack = Ack {
        ack_inbox,
        channel: "orders".into(),
        sequence: Sequence(1),
    };
    broker.handle(Request::Ack(ack), at(1_002));

    let redelivered: Vec<Sequence> = std::iter::from_fn(|| broker.poll_outbound())
        .filter_map(|outbound| match outbound {
            Outbound::Deliver { message, .. } => Some(message.sequence),
            Outbound::Reply { .. } | Outbound::Probe { .. } => None,
        })
        .collect();
    assert_eq!(redelivered, [Sequence(2)]);
}

/// The standby's memory, or an application that acks in SQL, may know of an ack before its message is sent.
#[test]
fn an_early_ack_is_not_forgotten_while_nats_takes_nothing() {
    let settings = Settings {
        heartbeats: Heartbeats::default(),
        limits: Limits {
            window_bytes: 1,
            ..Limits::default()
        },
        ack_prefix: "ack".into(),
        partition: None,
        replace_durables: false,
    };
    let mut store = MemoryStore::default();
    let mut broker = Broker::restore(store.snapshot(), settings, at(0));
    let ack_inbox = subscribed(&mut broker, &mut store, 1);
    broker.handle(publish(1), at(0));
    broker.handle(publish(2), at(0));
    broker.handle(publish(3), at(0));
    commit(&mut broker, &mut store);
    let ack = |sequence| {
        Request::Ack(Ack {
            ack_inbox: ack_inbox.clone(),
            channel: "orders".into(),
            sequence: Sequence(sequence),
        })
    };

    // The first one waits for NATS; the second one has its turn when the first is acked.
    broker.handle(ack(2), at(1));
    broker.handle(ack(1), at(2));

    let mut sent = Vec::new();
    for outbound in settle(&mut broker, &mut store) {
        if let Outbound::Deliver { message, .. } = outbound {
            sent.push(message.sequence);
        }
    }
    assert!(!sent.contains(&Sequence(2)), "{sent:?}");
    assert!(sent.contains(&Sequence(3)), "{sent:?}");
}
