//! Floods of one kind of request: where the broker says that it has no more room.

use stanby::core::ids::Sequence;
use stanby::core::limits::{Heartbeats, Limits, Settings};
use stanby::core::load::{LoadQuery, Loaded};
use stanby::core::request::{Connect, Publish, Publisher, StartPosition, Subscribe};
use stanby::core::snapshot::Snapshot;
use stanby::core::time::{Now, Timestamp};
use stanby::core::{Broker, Event, Request};

use super::input::Input;
use super::pools;

const NOW: Now = Now {
    monotonic: stanby::core::time::Instant::from_nanos(1),
    wall: Timestamp(1_000),
};

fn commit(broker: &mut Broker) {
    while let Some(batch) = broker.poll_batch() {
        broker.handle(Event::Committed(batch.number), NOW);
    }
    while broker.poll_outbound().is_some() {}
}

#[test]
fn subscribes_that_wait_for_the_store_are_bounded() {
    let settings = Settings {
        heartbeats: Heartbeats::default(),
        limits: Limits {
            batch_messages: 100,
            tail_bytes: 0,
            loads: 2,
            ..Limits::default()
        },
        ack_prefix: "ack".into(),
        partition: None,
        replace_durables: false,
    };
    let mut broker = Broker::restore(Snapshot::default(), settings, NOW);
    let none = &mut Input::new(&[]);
    let request = Connect {
        client_id: pools::client(none),
        ..pools::connect(none)
    };
    let reply = None;
    broker.handle(Request::Connect { request, reply }, NOW);
    let request = Publish {
        publisher: Publisher::Client("a".into()),
        guid: stanby::core::ids::Guid::parse("g".into()).expect("a valid guid"),
        channel: pools::channel(none),
        reply: "".into(),
        data: bytes::Bytes::new(),
    };
    let reply = None;
    broker.handle(Request::Publish { request, reply }, NOW);
    commit(&mut broker);

    let mut accepted = 0;
    while broker.has_capacity() && accepted < 1_000 {
        let request = Subscribe {
            inbox: pools::subject(&format!("in.{accepted}")),
            durable_name: None,
            queue_group: None,
            start: StartPosition::TimeDelta(500),
            ..pools::subscribe(none)
        };
        let reply = None;
        broker.handle(Request::Subscribe { request, reply }, NOW);
        accepted += 1;
    }
    assert_eq!(accepted, 100);

    let (mut starts, mut pages) = (0, 0);
    while let Some(load) = broker.poll_load() {
        let result = match &load.query {
            LoadQuery::FirstSince(_) => Loaded::FirstSince {
                first: Some(Sequence(1)),
                hole: None,
            },
            LoadQuery::Range { last, .. } => Loaded::Messages {
                messages: Vec::new(),
                unreadable: Vec::new(),
                through: *last,
                gone: [(Sequence(1), *last)].into_iter().collect(),
            },
            // What their bytes were.
            LoadQuery::Gone => Loaded::Gone(Vec::new()),
            LoadQuery::Exactly { .. }
            | LoadQuery::Oldest { .. }
            | LoadQuery::Policies
            | LoadQuery::DeadLetters { .. }
            | LoadQuery::Outbox { .. }
            | LoadQuery::Requests { .. } => {
                panic!("nobody needs {load:?}")
            }
        };
        starts += usize::from(matches!(load.query, LoadQuery::FirstSince(_)));
        pages += usize::from(matches!(load.query, LoadQuery::Range { .. }));
        let load = load.id;
        broker.handle(Event::Loaded { load, result }, NOW);
        commit(&mut broker);
    }
    assert_eq!(starts, 100);
    // What one page has told, the others need not read.
    assert!((1..=100).contains(&pages), "{pages}");
    assert!(broker.has_capacity());
    assert_eq!(broker.counts().subscriptions, 100);
}
