//! A Postgres that refuses what nobody waits for and what goes along with requests of clients: they are stored without it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use stanby::core::batch::Batch;
use stanby::core::guarded::Guarded;
use stanby::core::ids::{ChannelName, ClientId, ConnectionId, Epoch, Guid, Subject};
use stanby::core::limits::{Heartbeats, Limits, Settings};
use stanby::core::outbox::{OutboxId, OutboxRow};
use stanby::core::refusal::Refusal;
use stanby::core::request::{Connect, Publish, Publisher};
use stanby::core::time::{Instant, Now, Timestamp};
use stanby::core::{Broker, Event, Outbound, Reply, Request};

use crate::memory_store::MemoryStore;

/// What Postgres refuses of a batch: the part, and the state.
type Refuses = fn(&Batch) -> Option<(&'static str, &'static str)>;

struct World {
    broker: Guarded,
    store: MemoryStore,
    refuses: Refuses,
    now: Now,
    refusals: usize,
    answers: BTreeMap<String, Reply>,
    published: usize,
}

impl World {
    fn new() -> Self {
        let settings = Settings {
            heartbeats: Heartbeats::default(),
            limits: Limits {
                payload_bytes: 100,
                ..Limits::default()
            },
            ack_prefix: "ack".into(),
            partition: None,
            replace_durables: false,
        };
        let now = Now {
            monotonic: Instant::from_nanos(1),
            wall: Timestamp(1),
        };
        let store = MemoryStore::default();
        let broker = Broker::restore(store.snapshot(), settings, now);
        let mut world = Self {
            broker: Guarded::with_savepoints(broker),
            store,
            refuses: |_| None,
            now,
            refusals: 0,
            answers: BTreeMap::new(),
            published: 0,
        };
        let request = Connect {
            client_id: ClientId::parse("good".into()).expect("a valid client ID"),
            heartbeat_inbox: subject("hb.good"),
            protocol: 0,
            connection_id: ConnectionId::default(),
            ping_interval: 5,
            ping_max_out: 88,
        };
        let reply = Some(subject("connect.good"));
        let connect = Request::Connect { request, reply };
        world.broker.handle(connect, now);
        world.settle();
        world
    }

    fn publish(&mut self) {
        self.published += 1;
        let name = format!("publish.{}", self.published);
        let request = Publish {
            publisher: Publisher::Client("good".into()),
            guid: Guid::parse(name.clone().into()).expect("a valid GUID"),
            channel: ChannelName::parse("orders".into()).expect("a valid name"),
            reply: "".into(),
            data: Bytes::new(),
        };
        let reply = Some(subject(&name));
        let publish = Request::Publish { request, reply };
        self.broker.handle(publish, self.now);
    }

    fn publish_in_sql(&mut self, guid: &str, bytes: usize) {
        self.publish_row(None, guid, bytes);
    }

    fn publish_row(&mut self, due: Option<Timestamp>, guid: &str, bytes: usize) {
        let row = OutboxRow {
            id: OutboxId(0),
            guid: guid.to_owned().into(),
            channel: "sql".into(),
            reply: "".into(),
            publisher: "app".into(),
            data: Ok(vec![b'x'; bytes].into()),
        };
        self.store.publish_in_sql(vec![(due, row)]);
        self.broker.handle(Event::OutboxNoted, self.now);
    }

    /// Lets so much time pass, in steps in which timers go off.
    fn pass(&mut self, time: Duration) {
        let end = self.now.monotonic + time;
        while self.now.monotonic < end {
            let step = Duration::from_millis(20);
            self.now.monotonic = self.now.monotonic + step;
            let nanos = i64::try_from(step.as_nanos()).expect("it is short");
            self.now.wall = Timestamp(self.now.wall.0 + nanos);
            self.broker.handle_timeout(self.now);
            self.settle();
        }
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            while let Some(outbound) = self.broker.poll_outbound() {
                if let Outbound::Reply { to, reply } = outbound {
                    self.answers.insert(to.to_string(), reply);
                }
            }
            while let Some(load) = self.broker.poll_load() {
                let result = self.store.load(&load);
                let load = load.id;
                self.broker.handle(Event::Loaded { load, result }, self.now);
            }
            let Some(batch) = self.broker.poll_batch(self.now) else {
                if !self.broker.take_moved() {
                    return;
                }
                continue;
            };
            if let Some((part, sqlstate)) = (self.refuses)(&batch) {
                self.refusals += 1;
                let refusal = Refusal {
                    part,
                    sqlstate: sqlstate.to_owned(),
                    ..Refusal::default()
                };
                let refused = self.broker.refused(refusal, self.now);
                refused.expect("it can be taken back");
            } else {
                self.store.apply(&batch, Epoch(1));
                self.broker.committed(batch.number, self.now);
            }
        }
        panic!("it does not come to rest");
    }

    fn acked(&self) -> usize {
        let is_ack = |reply: &&Reply| matches!(reply, Reply::Published(_));
        self.answers.values().filter(is_ack).count()
    }

    fn outbox(&self) -> Vec<String> {
        self.store
            .outbox()
            .map(|row| row.guid.to_string())
            .collect()
    }
}

fn subject(text: &str) -> Subject {
    Subject::parse(text.to_owned().into()).expect("a valid subject")
}

#[test]
fn a_refusal_in_sql_that_cannot_be_stored_is_put_off_and_refuses_nobody_else() {
    let mut world = World::new();
    // As a trigger on outbox_refused that fails.
    world.refuses = |batch| {
        let refuses = !batch.outbox.refused.is_empty();
        refuses.then_some(("outbox", "P0001"))
    };
    world.publish_in_sql("too large", 101);
    world.publish_in_sql("good", 1);
    for _ in 0..20 {
        world.publish();
        world.pass(Duration::from_millis(100));
    }
    assert_eq!(world.acked(), 20);
    assert_eq!(world.outbox(), ["too large"]);
    let refusals = world.refusals;
    assert!(refusals < 10, "it is not tried again and again: {refusals}");

    world.refuses = |_| None;
    world.pass(Duration::from_secs(45));
    assert!(world.outbox().is_empty());
    assert_eq!(world.store.outbox_refused.len(), 1);
}

#[test]
fn a_row_of_the_outbox_that_somebody_has_locked_stays_and_is_published_later() {
    let mut world = World::new();
    world.refuses = |batch| {
        let takes = !batch.outbox.taken.is_empty() || !batch.outbox.refused.is_empty();
        takes.then_some(("outbox", "55P03"))
    };
    world.publish_in_sql("locked", 1);
    for _ in 0..20 {
        world.publish();
        world.pass(Duration::from_millis(100));
    }
    assert_eq!(world.acked(), 20);
    assert_eq!(world.outbox(), ["locked"]);
    assert!(world.refusals < 10, "{}", world.refusals);

    world.refuses = |_| None;
    world.pass(Duration::from_secs(45));
    assert!(world.outbox().is_empty(), "it was published");
    assert!(world.store.outbox_refused.is_empty());
}

#[test]
fn a_refusal_that_waits_for_its_batch_and_cannot_be_stored_is_put_off() {
    let mut world = World::new();
    // Its message cannot be stored, and then neither can it be moved.
    world.refuses = |batch| {
        let mut messages = batch.messages.iter();
        if messages.any(|(_, message)| message.client_id.as_str() == "app") {
            return Some(("messages", "P0001"));
        }
        let refuses = !batch.outbox.refused.is_empty();
        refuses.then_some(("outbox", "P0001"))
    };
    world.publish_in_sql("bad", 1);
    for _ in 0..20 {
        world.publish();
        world.pass(Duration::from_millis(100));
    }
    assert_eq!(world.acked(), 20);
    assert_eq!(world.outbox(), ["bad"]);
    assert!(world.refusals < 10, "{}", world.refusals);
}

#[test]
fn one_locked_row_of_the_outbox_holds_up_no_other_for_long() {
    let mut world = World::new();
    world.refuses = |batch| {
        let is_locked = batch.outbox.taken.contains(&OutboxId(3));
        is_locked.then_some(("outbox", "55P03"))
    };
    for number in 1..=8 {
        world.publish_in_sql(&number.to_string(), 1);
    }
    world.pass(Duration::from_mins(3));
    assert_eq!(world.outbox(), ["3"]);
    assert!(world.store.outbox_refused.is_empty());
}

#[test]
fn rows_that_are_due_and_locked_leave_room_for_others_in_a_page() {
    let mut world = World::new();
    world.refuses = |batch| {
        let mut taken = batch.outbox.taken.iter();
        taken.any(|id| id.0 <= 4200).then_some(("outbox", "55P03"))
    };
    for number in 1..=4200 {
        world.publish_row(Some(Timestamp(0)), &number.to_string(), 1);
    }
    world.pass(Duration::from_secs(1));
    world.publish_in_sql("now", 1);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.outbox().len(), 4200, "the other one was published");
}

#[test]
fn acks_in_sql_that_cannot_be_taken_out_are_no_reason_to_refuse_publishes() {
    let mut world = World::new();
    world.refuses = |batch| {
        let acks = batch.outbox.acked.len() + batch.outbox.acks_dropped.len();
        (acks > 0).then_some(("acks in SQL", "P0001"))
    };
    let position = stanby::core::ids::PositionId(77);
    let verdict = stanby::core::sql_acks::Verdict::Acked;
    // Of a subscription that there is no more: its row is to go.
    world
        .store
        .ack_in_sql(position, stanby::core::ids::Sequence(1), verdict);
    world.publish_in_sql("good", 1);
    world.publish();
    world.pass(Duration::from_secs(5));
    assert_eq!(world.acked(), 1);
    assert!(world.store.outbox_refused.is_empty());
    world.refuses = |_| None;
    world.pass(Duration::from_mins(1));
    assert!(world.outbox().is_empty(), "it was published");
}

#[test]
fn while_as_many_rows_are_put_off_as_may_be_acks_in_sql_go_on() {
    let mut world = World::new();
    world.refuses = |batch| {
        let is_locked = !batch.outbox.taken.is_empty();
        is_locked.then_some(("outbox", "55P03"))
    };
    for number in 0..9000 {
        world.publish_in_sql(&number.to_string(), 1);
    }
    world.pass(Duration::from_secs(1));
    let refusals = world.refusals;
    let position = stanby::core::ids::PositionId(77);
    let verdict = stanby::core::sql_acks::Verdict::Acked;
    world
        .store
        .ack_in_sql(position, stanby::core::ids::Sequence(1), verdict);
    world.pass(Duration::from_secs(1));
    assert!(
        world.store.snapshot().sql_acks.is_empty(),
        "it was carried out"
    );
    assert_eq!(world.refusals, refusals, "no row is tried meanwhile");
    assert_eq!(world.outbox().len(), 9000);
}
