//! Clients with more of something than anybody needs: subscriptions, members, messages in flight, early acks.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use stanby::core::ids::{
    ChannelName, ClientId, ConnectionId, DurableName, Guid, Sequence, Subject,
};
use stanby::core::limits::{ChannelLimits, Heartbeats, Limits, Settings};
use stanby::core::request::{Ack, Connect, Publish, Publisher, StartPosition, Subscribe};
use stanby::core::snapshot::Snapshot;
use stanby::core::time::{Instant, Now, Timestamp};
use stanby::core::{Broker, Event, Outbound, Reply, Request};

use super::input::Input;
use super::pools;

const CHANNEL: &str = "crowded";

fn at(millis: u64) -> Now {
    Now {
        monotonic: Instant::from_nanos(1_000_000 * millis),
        wall: Timestamp(1_000_000 * millis.cast_signed()),
    }
}

/// With a client, and no bound on what a channel may have.
fn broker(limits: Limits) -> Broker {
    let settings = Settings {
        heartbeats: Heartbeats::default(),
        limits: Limits {
            channel: ChannelLimits {
                subscriptions: None,
                ..ChannelLimits::default()
            },
            ..limits
        },
        ack_prefix: "ack".into(),
        partition: None,
        replace_durables: false,
    };
    let mut broker = Broker::restore(Snapshot::default(), settings, at(1));
    connect(&mut broker);
    settle(&mut broker);
    broker
}

fn client() -> ClientId {
    ClientId::parse("greedy".into()).expect("an ID")
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name.into()).expect("a name")
}

fn connect(broker: &mut Broker) {
    let request = Connect {
        client_id: client(),
        connection_id: ConnectionId(Bytes::from_static(b"connection")),
        ..pools::connect(&mut Input::new(&[]))
    };
    let reply = None;
    broker.handle(Request::Connect { request, reply }, at(1));
}

fn plain(number: usize) -> Subscribe {
    Subscribe {
        client_id: client(),
        channel: channel(CHANNEL),
        inbox: pools::subject(&format!("in.{number}")),
        durable_name: None,
        queue_group: None,
        max_in_flight: 100_000,
        ack_wait: Duration::from_secs(30),
        start: StartPosition::NewOnly,
        ack_token: number as u128,
    }
}

fn durable(number: usize) -> Subscribe {
    Subscribe {
        durable_name: DurableName::parse(format!("durable-{number}").into()),
        ..plain(number)
    }
}

fn subscribe(broker: &mut Broker, request: Subscribe) {
    let reply = Some(pools::subject("reply"));
    broker.handle(Request::Subscribe { request, reply }, at(1));
}

fn publish(broker: &mut Broker, count: usize) {
    for number in 0..count {
        let request = Publish {
            publisher: Publisher::Client(client().to_text()),
            guid: Guid::parse(format!("g-{number}").into()).expect("a GUID"),
            channel: channel(CHANNEL),
            reply: "".into(),
            data: Bytes::new(),
        };
        let reply = None;
        broker.handle(Request::Publish { request, reply }, at(1));
    }
}

fn ack(broker: &mut Broker, ack_inbox: &Subject, sequence: u64) {
    let ack = Ack {
        ack_inbox: ack_inbox.to_text(),
        channel: CHANNEL.into(),
        sequence: Sequence(sequence),
    };
    broker.handle(Request::Ack(ack), at(1));
}

/// Commits what there is; what leaves is returned, and how many subscriptions the largest batch wrote.
fn settle(broker: &mut Broker) -> (Vec<Outbound>, usize) {
    let (mut left, mut most) = (Vec::new(), 0);
    loop {
        let mut has_moved = false;
        if broker
            .next_timeout()
            .is_some_and(|due| due <= at(1).monotonic)
        {
            broker.handle_timeout(at(1));
            has_moved = true;
        }
        if let Some(batch) = broker.poll_batch() {
            most = most.max(batch.subscriptions.len());
            broker.handle(Event::Committed(batch.number), at(1));
            has_moved = true;
        }
        let before = left.len();
        left.extend(std::iter::from_fn(|| broker.poll_outbound()));
        if !has_moved && left.len() == before {
            assert_eq!(broker.contradictions(), Vec::<String>::new());
            return (left, most);
        }
    }
}

fn ack_inboxes(left: Vec<Outbound>) -> Vec<Subject> {
    let answers = left.into_iter().filter_map(|outbound| match outbound {
        Outbound::Reply {
            reply: Reply::Subscribed { ack_inbox },
            ..
        } => Some(ack_inbox),
        Outbound::Reply { .. } | Outbound::Deliver { .. } | Outbound::Probe { .. } => None,
    });
    answers.collect()
}

/// Messages by the inbox that they went to.
fn delivered(left: &[Outbound]) -> BTreeMap<&str, usize> {
    let mut delivered = BTreeMap::new();
    for outbound in left {
        if let Outbound::Deliver { inbox, .. } = outbound {
            *delivered.entry(inbox.as_str()).or_default() += 1;
        }
    }
    delivered
}

#[test]
fn the_subscriptions_of_a_client_that_goes_are_closed_in_steps() {
    let mut broker = broker(Limits::default());
    for number in 0..10_000 {
        subscribe(&mut broker, plain(number));
    }
    settle(&mut broker);
    assert_eq!(broker.counts().subscriptions, 10_000);

    let (client_id, reply) = (client().to_text(), Some(pools::subject("closed")));
    broker.handle(Request::CloseClient { client_id, reply }, at(1));

    assert_eq!(broker.counts().clients, 0, "it is gone at once");
    assert!(broker.counts().subscriptions > 9_000, "and they are not");
    let (_, most) = settle(&mut broker);
    assert!(most < 2_500, "{most} in one batch");
    assert_eq!(broker.counts().subscriptions, 0);
}

#[test]
fn a_durable_that_waits_to_be_closed_is_there_for_the_next_connection() {
    let mut broker = broker(Limits::default());
    for number in 0..5_000 {
        subscribe(&mut broker, durable(number));
    }
    settle(&mut broker);

    let (client_id, reply) = (client().to_text(), None);
    broker.handle(Request::CloseClient { client_id, reply }, at(1));
    connect(&mut broker);
    for number in [0, 4_999] {
        let inbox = pools::subject(&format!("again.{number}"));
        subscribe(
            &mut broker,
            Subscribe {
                inbox,
                ..durable(number)
            },
        );
    }
    let (left, _) = settle(&mut broker);

    assert_eq!(ack_inboxes(left).len(), 2, "both are resumed");
    publish(&mut broker, 1);
    let (left, _) = settle(&mut broker);
    let delivered = delivered(&left);
    let expected = [("again.0", 1), ("again.4999", 1)];
    assert!(delivered.into_iter().eq(expected), "the others are offline");
}

#[test]
fn a_subscription_is_found_by_its_inbox_however_many_there_are() {
    let mut broker = broker(Limits::default());
    for number in 0..100 {
        subscribe(&mut broker, plain(number));
    }
    let (left, _) = settle(&mut broker);
    let first = ack_inboxes(left)[42].clone();

    // The answer got lost.
    subscribe(&mut broker, plain(42));
    let (left, _) = settle(&mut broker);
    assert_eq!(ack_inboxes(left), [first]);
    let request = stanby::core::request::Leave {
        client_id: client().to_text(),
        channel: channel(CHANNEL),
        inbox: "in.42".into(),
    };
    for left in [99, 99] {
        let (request, reply) = (request.clone(), None);
        broker.handle(Request::Unsubscribe { request, reply }, at(1));
        settle(&mut broker);
        assert_eq!(broker.counts().subscriptions, left);
    }
}

#[test]
fn what_all_subscriptions_have_in_flight_is_bounded_and_shared() {
    let limits = Limits {
        in_flight_in_all: 1_000,
        ..Limits::default()
    };
    let mut broker = broker(limits);
    subscribe(&mut broker, plain(0));
    let (left, _) = settle(&mut broker);
    let first = ack_inboxes(left).remove(0);
    publish(&mut broker, 5_000);
    let (left, _) = settle(&mut broker);
    assert_eq!(delivered(&left)["in.0"], 1_000, "there is room for it");

    // It holds all there is, and others have their share all the same.
    let late = Subscribe {
        start: StartPosition::First,
        ..plain(1)
    };
    subscribe(&mut broker, late);
    let (left, _) = settle(&mut broker);
    assert!(delivered(&left).into_iter().eq([("in.1", 500)]));
    let second = ack_inboxes(left).remove(0);
    publish(&mut broker, 100);
    let (left, _) = settle(&mut broker);
    assert_eq!(delivered(&left).len(), 0, "nobody acks");

    // The one that acks gets more, within its share.
    for sequence in 1..=200 {
        ack(&mut broker, &second, sequence);
    }
    let (left, _) = settle(&mut broker);
    assert!(delivered(&left).into_iter().eq([("in.1", 200)]));

    // In the end all that is acked makes room for whoever waits.
    let mut acked = [(first, 0), (second, 200)];
    for _ in 0..100 {
        for (ack_inbox, through) in &mut acked {
            for _ in 0..200 {
                *through += 1;
                ack(&mut broker, ack_inbox, *through);
            }
        }
        settle(&mut broker);
    }
    assert_eq!(broker.counts().traffic.acked_messages, 2 * 5_100);
}

#[test]
fn a_client_that_leaves_makes_room_for_what_others_may_have_in_flight() {
    let limits = Limits {
        in_flight_in_all: 1_000,
        ..Limits::default()
    };
    let mut broker = broker(limits);
    subscribe(&mut broker, plain(0));
    subscribe(&mut broker, plain(1));
    settle(&mut broker);
    publish(&mut broker, 5_000);
    let (left, _) = settle(&mut broker);
    let held = delivered(&left);
    let in_all: usize = held.values().sum();
    assert!(
        (1_000..=1_500).contains(&in_all),
        "room and a share: {held:?}"
    );

    let request = stanby::core::request::Leave {
        client_id: client().to_text(),
        channel: channel(CHANNEL),
        inbox: "in.0".into(),
    };
    let reply = None;
    broker.handle(Request::Unsubscribe { request, reply }, at(1));
    let (left, _) = settle(&mut broker);

    assert_eq!(delivered(&left)["in.1"] + held["in.1"], 1_000);
}

#[test]
fn early_acks_of_all_subscriptions_are_bounded() {
    let limits = Limits {
        in_flight_in_all: 10,
        early_acks_in_all: 3_000,
        ..Limits::default()
    };
    let mut broker = broker(limits);
    for number in 0..5 {
        subscribe(&mut broker, plain(number));
    }
    let (left, _) = settle(&mut broker);
    let ack_inboxes = ack_inboxes(left);
    publish(&mut broker, 10_000);
    settle(&mut broker);

    for ack_inbox in &ack_inboxes {
        for sequence in 100..=2_099 {
            ack(&mut broker, ack_inbox, sequence);
        }
    }
    for ack_inbox in &ack_inboxes {
        for sequence in 1..=99 {
            ack(&mut broker, ack_inbox, sequence);
        }
    }
    let (left, _) = settle(&mut broker);

    // The first fills it, the others have what everybody has; what is forgotten comes.
    let came: usize = delivered(&left).values().sum();
    assert!(came > 0);
    assert_eq!(broker.contradictions(), Vec::<String>::new());
}

#[test]
fn a_message_costs_more_of_a_turn_where_many_members_might_get_it() {
    let mut broker = broker(Limits::default());
    for number in 0..2_000 {
        let queue_group = stanby::core::ids::QueueName::parse("crowd".into());
        let request = Subscribe {
            queue_group,
            ..plain(number)
        };
        subscribe(&mut broker, request);
    }
    settle(&mut broker);
    publish(&mut broker, 5_000);
    let batch = broker.poll_batch().expect("messages to store");
    broker.handle(Event::Committed(batch.number), at(1));

    let (mut delivered, mut most) = (0, 0);
    loop {
        let before = broker.steps();
        let delivery = broker.poll_delivery();
        most = most.max(broker.steps() - before);
        delivered += usize::from(delivery.is_some());
        if delivery.is_none() && !broker.has_turns() {
            break;
        }
    }

    assert_eq!(delivered, 5_000);
    assert!(
        broker.steps() > 30 * 5_000,
        "each costs more: {}",
        broker.steps()
    );
    assert!(most < 10_000, "{most} steps at once");
}

#[test]
fn what_subscriptions_are_called_has_a_bound_in_all() {
    let limits = Limits {
        subscriptions_bytes: 100_000,
        ..Limits::default()
    };
    let mut broker = broker(limits);
    for number in 0..1_000 {
        subscribe(&mut broker, durable(number));
    }
    let (left, _) = settle(&mut broker);
    let taken = ack_inboxes(left).len();
    assert!((50..100).contains(&taken), "{taken}");

    // What there is can be resumed, and what goes makes room.
    let (client_id, reply) = (client().to_text(), None);
    broker.handle(Request::CloseClient { client_id, reply }, at(1));
    connect(&mut broker);
    subscribe(&mut broker, durable(0));
    let (left, _) = settle(&mut broker);
    assert_eq!(ack_inboxes(left).len(), 1);
    let request = stanby::core::request::Leave {
        client_id: client().to_text(),
        channel: channel(CHANNEL),
        inbox: "in.0".into(),
    };
    let reply = None;
    broker.handle(Request::Unsubscribe { request, reply }, at(1));
    subscribe(&mut broker, plain(5_000));
    let (left, _) = settle(&mut broker);
    assert_eq!(ack_inboxes(left).len(), 1);
}

#[test]
fn what_clients_are_called_has_a_bound_in_all() {
    let limits = Limits {
        clients_bytes: 100_000,
        connects_per_second: None,
        ..Limits::default()
    };
    let mut broker = broker(limits);
    for number in 0..1_000 {
        let id = format!("client-{number}");
        let request = Connect {
            connection_id: ConnectionId(id.clone().into()),
            client_id: ClientId::parse(id.into()).expect("an ID"),
            ..pools::connect(&mut Input::new(&[]))
        };
        let reply = None;
        broker.handle(Request::Connect { request, reply }, at(1));
    }
    let taken = broker.counts().clients;
    assert!((200..500).contains(&taken), "{taken}");

    let (client_id, reply) = (client().to_text(), None);
    broker.handle(Request::CloseClient { client_id, reply }, at(1));
    settle(&mut broker);
    connect(&mut broker);
    settle(&mut broker);
    assert_eq!(broker.counts().clients, taken, "what goes makes room");
}
