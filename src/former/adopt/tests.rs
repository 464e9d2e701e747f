use std::time::Duration;

use super::*;
use crate::core::ids::{ConnectionId, Subject};
use crate::core::ranges::Ranges;

const CHANNEL: ChannelId = ChannelId(4);
const NOW: Timestamp = Timestamp(1000);

fn client(id: &str) -> Client {
    Client {
        id: ClientId::parse(id.into()).unwrap(),
        heartbeat_inbox: Subject::parse("hb".into()).unwrap(),
        connection_id: ConnectionId("C".into()),
        protocol: 1,
        ping_interval: 5,
        ping_max_out: 3,
    }
}

fn subscription(id: u64, client: &str, kind: Kind, last: u64, pending: &[u64]) -> Subscription {
    let owner = (!client.is_empty()).then(|| Owner {
        client_id: ClientId::parse(client.into()).unwrap(),
        inbox: Subject::parse("inbox".into()).unwrap(),
        ack_inbox: Subject::parse(format!("acks.{id}").into()).unwrap(),
        max_in_flight: 10,
        ack_wait: Duration::from_secs(30),
    });
    Subscription {
        id: SubscriptionId(id),
        channel: CHANNEL,
        kind,
        owner,
        is_closed: false,
        pending: Pending {
            last_sent: last,
            sequences: pending.iter().copied().collect(),
        },
    }
}

fn durable() -> Kind {
    Kind::Durable(DurableName::parse("d".into()).unwrap())
}

fn group() -> Kind {
    let name = DurableName::parse("d".into()).unwrap();
    Kind::DurableQueue(name, QueueName::parse("q".into()).unwrap())
}

fn queue() -> Kind {
    Kind::Queue(QueueName::parse("q".into()).unwrap())
}

/// With messages 3 to 9 and `alice` connected.
fn adopted(subscriptions: Vec<Subscription>) -> Adopted {
    let totals = Totals {
        first: Sequence(3),
        last: Sequence(9),
        count: 7,
        bytes: 70,
        last_published_at: Timestamp(77),
        raised_times: 0,
    };
    let channel = Channel {
        name: ChannelName::parse("orders".into()).unwrap(),
        max_sequence: 0,
        totals,
    };
    let former = Former {
        clients: vec![client("alice")],
        channels: BTreeMap::from([(CHANNEL, channel)]),
        subscriptions,
        last_channel: 6,
        last_subscription: 50,
        sent_counts: true,
    };
    adopt(former, NOW)
}

/// Last sent, floor and ranges.
type Position = (u64, u64, Vec<(u64, u64)>);

/// The only position, and its members with whether they are online.
fn only(adopted: &Adopted) -> (Position, Vec<(u64, bool)>) {
    let positions: Vec<_> = adopted.snapshot.positions.values().collect();
    let [position] = positions[..] else {
        panic!("{positions:?}");
    };
    let progress = &position.progress;
    let above = progress.acked_above.iter().map(|(from, to)| (from.0, to.0));
    let subscriptions = adopted.snapshot.subscriptions.iter();
    (
        (
            progress.last_sent.0,
            progress.acked_floor.0,
            above.collect(),
        ),
        subscriptions.map(|(id, row)| (id.0, row.online)).collect(),
    )
}

#[test]
fn a_channel_and_its_clients_are_what_the_tables_say() {
    let adopted = adopted(vec![]);

    let row = &adopted.snapshot.channels[&CHANNEL];
    assert_eq!((row.first_sequence.0, row.last_sequence.0), (3, 9));
    assert_eq!((row.message_count, row.byte_count), (7, 70));
    assert_eq!(row.last_published_at, Timestamp(77));
    let row = &adopted.snapshot.clients["alice"];
    assert_eq!((&row.connection_id.0[..], row.ping_max_out), (&b"C"[..], 3));
    assert_eq!(row.heartbeat.last_at, NOW);
    let counters = Counters {
        channel: 6,
        subscription: 50,
    };
    assert_eq!(adopted.snapshot.counters, counters);
    assert_eq!(adopted.notes, [""; 0]);
}

#[test]
fn a_durable_is_online_when_its_client_is_there_and_has_not_closed_it() {
    let online = subscription(7, "alice", durable(), 8, &[2, 5, 8]);
    assert_eq!(
        only(&adopted(vec![online.clone()])),
        ((8, 4, vec![(6, 7)]), vec![(7, true)])
    );
    let closed = Subscription {
        is_closed: true,
        ..online
    };
    assert_eq!(only(&adopted(vec![closed])).1, [(7, false)]);
    // As older servers left it.
    let gone = subscription(7, "bob", durable(), 8, &[]);
    assert_eq!(
        only(&adopted(vec![gone])),
        ((8, 8, vec![]), vec![(7, false)])
    );
}

#[test]
fn members_of_a_queue_share_the_furthest_position_and_all_that_is_pending() {
    for kind in [queue(), group()] {
        let members = vec![
            subscription(7, "alice", kind.clone(), 6, &[4]),
            subscription(8, "alice", kind.clone(), 9, &[7, 9]),
        ];
        let adopted = adopted(members);
        let expected = ((9, 3, vec![(5, 6), (8, 8)]), vec![(7, true), (8, true)]);
        assert_eq!(only(&adopted), expected);
        assert_eq!(adopted.snapshot.counters.subscription, 51);
    }
}

#[test]
fn a_durable_group_without_members_keeps_its_position() {
    let shadow = adopted(vec![subscription(7, "", group(), 6, &[5])]);
    assert_eq!(only(&shadow), ((6, 4, vec![(6, 6)]), vec![]));
    assert_eq!(shadow.notes, [""; 0]);
    // Its last member's client is not known any more.
    let ghost = adopted(vec![subscription(7, "bob", group(), 6, &[5])]);
    assert_eq!(only(&ghost), ((6, 4, vec![(6, 6)]), vec![]));
    assert!(ghost.notes[0].starts_with("1 subscription was left out"));
    let beside = adopted(vec![
        subscription(7, "bob", group(), 8, &[5, 8]),
        subscription(8, "alice", group(), 7, &[6]),
    ]);
    assert_eq!(only(&beside), ((7, 5, vec![(7, 7)]), vec![(8, true)]));
}

#[test]
fn what_is_not_durable_goes_with_its_client() {
    let left = adopted(vec![
        subscription(7, "bob", Kind::Plain, 6, &[5]),
        subscription(8, "bob", queue(), 6, &[5]),
    ]);
    assert!(left.snapshot.positions.is_empty());
    assert!(left.notes[0].starts_with("2 subscriptions were left out"));
    let kept = adopted(vec![subscription(7, "alice", Kind::Plain, 6, &[])]);
    assert_eq!(only(&kept), ((6, 6, vec![]), vec![(7, true)]));
}

#[test]
fn of_two_durables_of_one_name_the_newer_one_counts() {
    let two = adopted(vec![
        subscription(7, "alice", durable(), 9, &[3]),
        subscription(8, "alice", durable(), 5, &[4]),
    ]);
    assert_eq!(only(&two), ((5, 3, vec![(5, 5)]), vec![(8, true)]));
    assert!(two.notes[0].starts_with("1 durable was left out"));
}

#[test]
fn sequences_go_on_after_the_highest_that_anything_tells_of() {
    let ahead = adopted(vec![subscription(7, "alice", durable(), 20, &[])]);
    let row = &ahead.snapshot.channels[&CHANNEL];
    assert_eq!((row.first_sequence.0, row.last_sequence.0), (3, 20));

    let empty = Channel {
        name: ChannelName::parse("empty".into()).unwrap(),
        max_sequence: 15,
        totals: Totals::default(),
    };
    let former = Former {
        channels: BTreeMap::from([(CHANNEL, empty)]),
        subscriptions: vec![subscription(7, "alice", durable(), 12, &[12])],
        ..Former::default()
    };
    let adopted = adopt(former, NOW);
    let row = &adopted.snapshot.channels[&CHANNEL];
    assert_eq!((row.first_sequence.0, row.last_sequence.0), (16, 15));
    // What was in flight does not exist any more.
    let progress = &adopted.snapshot.positions.values().next().unwrap().progress;
    assert_eq!(progress.acked_floor, Sequence(12));
    assert_eq!(progress.acked_above, Ranges::default());
}
