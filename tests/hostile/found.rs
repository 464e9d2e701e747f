//! What hostile events have found, told in as few of them as show it.

use std::time::Duration;

use bytes::Bytes;
use stanby::core::batch::Batch;
use stanby::core::ids::{Epoch, Guid, Sequence};
use stanby::core::limits::{ChannelLimits, Heartbeats, Limits, Settings};
use stanby::core::load::{Load, LoadQuery};
use stanby::core::request::{Connect, Publish, Publisher, StartPosition, Subscribe};
use stanby::core::time::{Instant, Now, Timestamp};
use stanby::core::{Broker, Event, Request};

use super::input::Input;
use super::memory_store::MemoryStore;
use super::pools;

/// A broker with its store, which keeps nothing in memory and three messages of a channel.
struct World {
    broker: Broker,
    store: MemoryStore,
    now: Now,
}

fn settings() -> Settings {
    Settings {
        heartbeats: Heartbeats::default(),
        limits: Limits {
            tail_bytes: 0,
            channel: ChannelLimits {
                messages: Some(3),
                ..ChannelLimits::default()
            },
            ..Limits::default()
        },
        ack_prefix: "ack".into(),
        partition: None,
        replace_durables: false,
    }
}

impl World {
    fn new() -> Self {
        let now = Now {
            monotonic: Instant::from_nanos(1),
            wall: Timestamp(1),
        };
        let store = MemoryStore::default();
        let broker = Broker::restore(store.snapshot(), settings(), now);
        Self { broker, store, now }
    }

    fn handle(&mut self, event: impl Into<Event>) {
        self.broker.handle(event, self.now);
    }

    /// Commits and reads until there is nothing to do.
    fn settle(&mut self) {
        loop {
            while self.broker.poll_outbound().is_some() {}
            if let Some(batch) = self.broker.poll_batch() {
                self.store.apply(&batch, Epoch(1));
                self.handle(Event::Committed(batch.number));
            } else if let Some(load) = self.broker.poll_load() {
                let result = self.store.load(&load);
                let load = load.id;
                self.handle(Event::Loaded { load, result });
            } else {
                return;
            }
        }
    }

    fn connect(&mut self) {
        let request = Connect {
            client_id: pools::client(&mut Input::new(&[])),
            ..pools::connect(&mut Input::new(&[]))
        };
        let reply = None;
        self.handle(Request::Connect { request, reply });
        self.settle();
    }

    fn subscribe(&mut self, max_in_flight: u32) {
        let request = Subscribe {
            max_in_flight,
            start: StartPosition::First,
            ack_wait: Duration::from_secs(1),
            ..pools::subscribe(&mut Input::new(&[]))
        };
        let reply = None;
        self.handle(Request::Subscribe { request, reply });
        self.settle();
    }

    fn publish(&mut self, guid: &'static str) {
        let request = Publish {
            publisher: Publisher::Client("a".into()),
            guid: Guid::parse(guid.into()).expect("a valid guid"),
            channel: pools::channel(&mut Input::new(&[])),
            reply: "".into(),
            data: Bytes::new(),
        };
        let reply = None;
        self.handle(Request::Publish { request, reply });
        self.settle();
    }

    fn pass(&mut self, duration: Duration) {
        self.now.monotonic = self.now.monotonic + duration;
        self.broker.handle_timeout(self.now);
    }

    fn loads(&mut self) -> Vec<Load> {
        std::iter::from_fn(|| self.broker.poll_load()).collect()
    }
}

#[test]
fn room_that_a_limit_makes_is_used_before_a_redelivery_has_been_read() {
    let mut world = World::new();
    world.connect();
    world.subscribe(2);
    // The limit takes the first; the subscription holds it and the second, and has no room.
    for guid in ["1", "2", "3", "4"] {
        world.publish(guid);
    }

    world.pass(Duration::from_secs(2));

    let loads = world.loads();
    let asks_for = |wanted: fn(&LoadQuery) -> bool| loads.iter().any(|load| wanted(&load.query));
    assert!(
        asks_for(
            |want| matches!(want, LoadQuery::Exactly { sequences, .. } if *sequences == [Sequence(2)])
        ),
        "{loads:?}"
    );
    assert!(
        asks_for(|want| matches!(want, LoadQuery::Range { first, .. } if *first == Sequence(3))),
        "{loads:?}"
    );
}

#[test]
fn a_durable_whose_client_is_gone_from_the_tables_is_offline_there_too() {
    let mut world = World::new();
    world.connect();
    let request = Subscribe {
        durable_name: stanby::core::ids::DurableName::parse("d".into()),
        ..pools::subscribe(&mut Input::new(&[]))
    };
    let reply = None;
    world.handle(Request::Subscribe { request, reply });
    world.settle();
    let client = pools::client(&mut Input::new(&[]));
    let mut removed = Batch::default();
    removed.clients.insert(client, None);
    world.store.apply(&removed, Epoch(1));

    world.broker = Broker::restore(world.store.snapshot(), settings(), world.now);
    world.settle();

    let rows = world.store.snapshot().subscriptions;
    assert_eq!(
        rows.values().map(|row| row.online).collect::<Vec<_>>(),
        [false]
    );
}
