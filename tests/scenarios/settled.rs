//! Deliveries that wait for NATS while their messages are acked.

use std::time::Duration;

use bytes::Bytes;
use stanby::core::ids::{ChannelName, ClientId, ConnectionId, Epoch, Guid, Sequence, Subject};
use stanby::core::limits::{Heartbeats, Limits, Settings};
use stanby::core::request::{Ack, Connect, Publish, Publisher, StartPosition, Subscribe};
use stanby::core::time::{Instant, Now, Timestamp};
use stanby::core::{Broker, Event, Outbound, Reply};

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
    let client_id = ClientId::parse("worker".into()).expect("a valid client ID");
    let channel = ChannelName::parse("orders".into()).expect("a valid name");
    let request = Connect {
        client_id: client_id.clone(),
        heartbeat_inbox: subject("hb"),
        protocol: 0,
        connection_id: ConnectionId::default(),
        ping_interval: 5,
        ping_max_out: 88,
    };
    broker.handle(
        Event::Connect {
            request,
            reply: None,
        },
        at(0),
    );
    let request = Subscribe {
        client_id,
        channel: channel.clone(),
        inbox: subject("in"),
        queue_group: None,
        durable_name: None,
        max_in_flight: 10,
        ack_wait: ACK_WAIT,
        start: StartPosition::First,
        ack_token: 7,
    };
    let reply = Some(subject("subscribed"));
    broker.handle(Event::Subscribe { request, reply }, at(0));
    for number in 1..=2 {
        let request = Publish {
            publisher: Publisher::Client("worker".into()),
            guid: Guid::parse(format!("g{number}").into()).expect("a valid GUID"),
            channel: channel.clone(),
            reply: "".into(),
            data: Bytes::new(),
        };
        broker.handle(
            Event::Publish {
                request,
                reply: None,
            },
            at(0),
        );
    }
    let left = settle(&mut broker, &mut store);
    let ack_inbox = left.iter().find_map(|outbound| match outbound {
        Outbound::Reply {
            reply: Reply::Subscribed { ack_inbox },
            ..
        } => Some(ack_inbox.to_text()),
        Outbound::Reply { .. } | Outbound::Deliver { .. } | Outbound::Probe { .. } => None,
    });

    // Both are due, and NATS takes nothing until the first one is acked.
    broker.handle_timeout(at(1_001));
    let ack = Ack {
        ack_inbox: ack_inbox.expect("it is subscribed"),
        channel: "orders".into(),
        sequence: Sequence(1),
    };
    broker.handle(Event::Ack(ack), at(1_002));

    let redelivered: Vec<Sequence> = std::iter::from_fn(|| broker.poll_outbound())
        .filter_map(|outbound| match outbound {
            Outbound::Deliver { message, .. } => Some(message.sequence),
            Outbound::Reply { .. } | Outbound::Probe { .. } => None,
        })
        .collect();
    assert_eq!(redelivered, [Sequence(2)]);
}
