//! Progress and holders in pages: written by the core as it goes, read back, shown to people, and kept from servers that do
//! not know of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use stanby::core::batch::{HOLDERS_PAGE, Progress};
use stanby::core::ids::{
    ChannelName, ClientId, ConnectionId, Epoch, Guid, QueueName, Sequence, Subject,
};
use stanby::core::limits::{Heartbeats, Limits, Settings};
use stanby::core::request::{Ack, Connect, Publish, Publisher, StartPosition, Subscribe};
use stanby::core::snapshot::Snapshot;
use stanby::core::time::{Instant, Now, Timestamp};
use stanby::core::{Broker, Event, Outbound, Reply, Request};
use stanby::store::Writer;
use tokio_postgres::Client;

use super::fixture::{Fixture, migrated};
use super::random::Dice;
use super::support::memory_store::MemoryStore;

const MESSAGES: u64 = 3000;
const ALICE: &str = "alice";
const CHANNEL: &str = "orders";

/// A broker over both stores.
struct Life {
    fixture: Fixture,
    client: Client,
    writer: Writer,
    memory: MemoryStore,
    broker: Broker,
    elapsed: Duration,
    tokens: u128,
    ack_inboxes: BTreeMap<String, Subject>,
    /// Delivered and not acked, by inbox.
    held: BTreeMap<String, BTreeSet<Sequence>>,
    /// Batches with pages of acks, and those with a position that became one row again.
    paged: u64,
    cleared: u64,
}

fn subject(text: &str) -> Subject {
    Subject::parse(text.to_owned().into()).unwrap()
}

fn restored(rows: Snapshot, now: Now) -> Broker {
    let settings = Settings {
        heartbeats: Heartbeats::default(),
        limits: Limits::default(),
        replace_durables: false,
        ack_prefix: "ack".into(),
        partition: None,
    };
    Broker::restore(rows, settings, now)
}

impl Life {
    async fn begin(fixture: Fixture) -> Self {
        let (client, writer) = fixture.writer().await;
        let elapsed = Duration::from_secs(1);
        let mut life = Self {
            fixture,
            client,
            writer,
            memory: MemoryStore::default(),
            broker: restored(Snapshot::default(), now(elapsed)),
            elapsed,
            tokens: 0,
            ack_inboxes: BTreeMap::new(),
            held: BTreeMap::new(),
            paged: 0,
            cleared: 0,
        };
        let request = Connect {
            client_id: ClientId::parse(ALICE.into()).unwrap(),
            heartbeat_inbox: subject("hb"),
            protocol: 1,
            connection_id: ConnectionId(Bytes::from_static(b"c")),
            ping_interval: 5,
            ping_max_out: 3,
        };
        life.handle(Request::Connect {
            request,
            reply: None,
        });
        life
    }

    fn handle(&mut self, event: impl Into<Event>) {
        self.broker.handle(event, now(self.elapsed));
    }

    async fn subscribe(&mut self, inbox: &str, queue: &str, max_in_flight: u32) {
        self.tokens += 1;
        let request = Subscribe {
            client_id: ClientId::parse(ALICE.into()).unwrap(),
            channel: ChannelName::parse(CHANNEL.into()).unwrap(),
            inbox: subject(inbox),
            queue_group: QueueName::parse(queue.to_owned().into()),
            durable_name: None,
            max_in_flight,
            ack_wait: Duration::from_hours(1),
            start: StartPosition::First,
            ack_token: self.tokens,
        };
        let reply = Some(subject(inbox));
        self.handle(Request::Subscribe { request, reply });
        self.settle().await;
    }

    async fn publish(&mut self, count: u64) {
        for _ in 0..count {
            let request = Publish {
                publisher: Publisher::Client(ALICE.into()),
                guid: Guid::parse("g".into()).unwrap(),
                channel: ChannelName::parse(CHANNEL.into()).unwrap(),
                reply: "".into(),
                data: Bytes::new(),
            };
            self.handle(Request::Publish {
                request,
                reply: None,
            });
        }
        self.settle().await;
    }

    /// Of what the inbox holds.
    fn ack(&mut self, inbox: &str, sequence: Sequence) {
        self.held.get_mut(inbox).unwrap().remove(&sequence);
        let ack_inbox = self.ack_inboxes[inbox].to_text();
        self.handle(Request::Ack(Ack {
            ack_inbox,
            channel: CHANNEL.into(),
            sequence,
        }));
    }

    /// Some of what each of them holds, of which `of_ten` in ten, and what they get then.
    async fn ack_some(&mut self, dice: &mut Dice, of_ten: u64) {
        let held = self.held.iter();
        let held = held.flat_map(|(inbox, held)| held.iter().map(move |s| (inbox.clone(), *s)));
        for (inbox, sequence) in held.collect::<Vec<_>>() {
            if dice.chance(of_ten) {
                self.ack(&inbox, sequence);
            }
        }
        self.settle().await;
    }

    /// Until there is nothing to commit, to read and to send.
    async fn settle(&mut self) {
        let mut is_flushed = false;
        loop {
            let mut is_idle = true;
            while let Some(outbound) = self.broker.poll_outbound() {
                is_idle = false;
                self.receive(outbound);
            }
            while let Some(load) = self.broker.poll_load() {
                is_idle = false;
                let result = self.fixture.store.load(&load).await.unwrap();
                let load = load.id;
                self.handle(Event::Loaded { load, result });
            }
            if let Some(batch) = self.broker.poll_batch() {
                is_idle = false;
                let written = self.writer.apply(&self.client, &batch, Epoch(1)).await;
                written.unwrap_or_else(|error| panic!("{error}: {batch:#?}"));
                let before = self.memory.snapshot().pages.len();
                self.memory.apply(&batch, Epoch(1));
                let after = self.memory.snapshot().pages.len();
                self.paged += u64::from(after > 0);
                self.cleared += u64::from(after < before);
                self.handle(Event::Committed(batch.number));
            }
            if is_idle && is_flushed {
                return;
            }
            is_flushed = is_idle;
            self.elapsed += Duration::from_millis(60);
            self.broker.handle_timeout(now(self.elapsed));
        }
    }

    fn receive(&mut self, outbound: Outbound) {
        if let Outbound::Reply {
            to,
            reply: Reply::Subscribed { ack_inbox },
        } = &outbound
        {
            self.ack_inboxes.insert(to.to_string(), ack_inbox.clone());
            self.held.insert(to.to_string(), BTreeSet::new());
        }
        if let Outbound::Deliver { inbox, message, .. } = outbound {
            let held = self.held.get_mut(&inbox.to_string()).unwrap();
            held.insert(message.sequence);
        }
    }

    /// The tables are those of the memory store, the views show what they hold, and a term that begins with them holds
    /// the same.
    async fn check(&mut self) {
        let rows = self.fixture.store.snapshot().await.unwrap();
        assert_eq!(rows, self.memory.snapshot());
        assert_eq!(self.broker.contradictions(), [""; 0]);
        self.check_views(&rows).await;
        let mut again = restored(rows.clone(), now(self.elapsed));
        assert_eq!(again.contradictions(), [""; 0]);
        assert!(again.poll_batch().is_none(), "a takeover changes nothing");
    }

    async fn check_views(&self, rows: &Snapshot) {
        let query = "SELECT position_id, unacked FROM position_status ORDER BY 1";
        let unacked = self.numbers::<2>(query).await;
        let in_flight = rows.positions.iter();
        let in_flight =
            in_flight.map(|(id, row)| [id.0, in_flight_of(&row.progress).count() as u64]);
        assert_eq!(unacked, in_flight.collect::<Vec<_>>());

        let query =
            "SELECT position_id, first_sequence, last_sequence FROM acked_ranges ORDER BY 1, 2";
        let ranges = rows.positions.iter().flat_map(|(id, row)| {
            let ranges = row.progress.acked_above.iter();
            ranges.map(|(first, last)| [id.0, first.0, last.0])
        });
        assert_eq!(self.numbers::<3>(query).await, ranges.collect::<Vec<_>>());

        let query =
            "SELECT position_id, sequence, subscription_id FROM held_messages ORDER BY 1, 2";
        let mut held = Vec::new();
        for (id, row) in rows
            .positions
            .iter()
            .filter(|(_, row)| row.queue_group.is_some())
        {
            for sequence in in_flight_of(&row.progress) {
                let page = &rows.holders[id][&(sequence.0 / HOLDERS_PAGE)];
                let holder = page.iter().find(|(held, _)| *held == sequence);
                let (_, holder) = holder.unwrap_or_else(|| panic!("{sequence} has a holder"));
                held.push([id.0, sequence.0, holder.0]);
            }
        }
        assert_eq!(self.numbers::<3>(query).await, held);
    }

    async fn numbers<const N: usize>(&self, query: &str) -> Vec<[u64; N]> {
        let rows = self.client.query(query, &[]).await.unwrap();
        let number = |row: &tokio_postgres::Row, column| row.get::<_, i64>(column).cast_unsigned();
        rows.iter()
            .map(|row| std::array::from_fn(|column| number(row, column)))
            .collect()
    }

    /// The term ends, and another one begins with what is in the tables of Postgres.
    async fn take_over(&mut self) {
        let rows = self.fixture.store.snapshot().await.unwrap();
        self.broker = restored(rows, now(self.elapsed));
        self.settle().await;
    }
}

fn now(elapsed: Duration) -> Now {
    let nanos = u64::try_from(elapsed.as_nanos()).unwrap();
    Now {
        monotonic: Instant::from_nanos(nanos),
        wall: Timestamp(nanos.cast_signed()),
    }
}

fn in_flight_of(progress: &Progress) -> impl Iterator<Item = Sequence> + '_ {
    let sent = progress.acked_floor.0 + 1..=progress.last_sent.0;
    sent.map(Sequence)
        .filter(|sequence| !progress.acked_above.contains(*sequence))
}

#[tokio::test]
async fn progress_and_holders_come_back_as_the_core_wrote_them() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let mut dice = Dice(1);
    let mut life = Life::begin(fixture).await;
    life.subscribe("plain", "", 5000).await;
    life.subscribe("one", "workers", 700).await;
    life.subscribe("two", "workers", 300).await;
    life.subscribe("three", "workers", 1).await;
    for _ in 0..4 {
        life.publish(MESSAGES / 4).await;
        life.ack_some(&mut dice, 3).await;
        life.check().await;
    }
    life.take_over().await;
    life.check().await;
    life.ack_some(&mut dice, 5).await;
    life.check().await;
    assert!(life.paged > 0, "some of it was in pages");

    while life.held.values().any(|held| !held.is_empty()) {
        life.ack_some(&mut dice, 9).await;
        life.check().await;
    }
    assert!(life.cleared > 0, "what became little is one row again");
    let left =
        "SELECT (SELECT count(*) FROM position_acks), (SELECT count(*) FROM position_holders)";
    assert_eq!(life.numbers::<2>(left).await, [[0, 0]]);
}

const OLD_SERVER: &str = "SET stanby.schema_version = '19'";

#[tokio::test]
async fn an_older_server_is_kept_out_as_long_as_acks_are_in_pages() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let mut life = Life::begin(fixture).await;
    life.subscribe("plain", "", 5000).await;
    life.publish(400).await;
    let old = life.fixture.client().await;
    old.batch_execute(OLD_SERVER).await.unwrap();
    let begin_term = "UPDATE leadership SET epoch = epoch + 1";
    old.batch_execute(begin_term).await.unwrap();

    for sequence in (2..=400).step_by(2) {
        life.ack("plain", Sequence(sequence));
    }
    life.settle().await;
    let oldest = "SELECT oldest_server FROM schema_compatibility";
    assert_eq!(life.numbers::<1>(oldest).await, [[22]]);
    let error = old.batch_execute(begin_term).await.unwrap_err();
    let told = error.as_db_error().unwrap().message();
    assert!(told.contains("acks in pages"), "{told}");

    for sequence in (1..=400).step_by(2) {
        life.ack("plain", Sequence(sequence));
    }
    life.settle().await;
    assert_eq!(life.numbers::<1>(oldest).await, [[1]]);
    old.batch_execute(begin_term).await.unwrap();
}

#[tokio::test]
async fn pages_that_contradict_their_positions_are_named() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let mut life = Life::begin(fixture).await;
    life.subscribe("plain", "", 5000).await;
    life.publish(400).await;
    for sequence in (2..=400).step_by(2) {
        life.ack("plain", Sequence(sequence));
    }
    life.settle().await;
    for (breaks, mends, told) in [
        (
            "UPDATE position_acks SET bits = bits || '\\x00'",
            "UPDATE position_acks SET bits = substring(bits FOR 128)",
            "it is no page",
        ),
        (
            "UPDATE position_acks SET bits = set_bit(bits, 1000, 1)",
            "UPDATE position_acks SET bits = set_bit(bits, 1000, 0)",
            "it goes beyond last_sent",
        ),
        (
            "UPDATE positions SET acked_above = '{[2,3)}'",
            "UPDATE positions SET acked_above = '{}'",
            "has to be empty where there are pages",
        ),
    ] {
        life.client.batch_execute(breaks).await.unwrap();
        let error = life.fixture.store.snapshot().await.unwrap_err().to_string();
        assert!(error.contains("table position_acks, row"), "{error}");
        assert!(error.contains(told), "{error}");
        life.client.batch_execute(mends).await.unwrap();
        life.check().await;
    }
}

#[tokio::test]
async fn pages_of_positions_that_were_deleted_by_hand_go_at_the_next_takeover() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let mut life = Life::begin(fixture).await;
    life.subscribe("plain", "", 5000).await;
    life.subscribe("member", "workers", 5000).await;
    life.publish(400).await;
    for sequence in (2..=400).step_by(2) {
        life.ack("plain", Sequence(sequence));
    }
    life.settle().await;
    let pages =
        "SELECT (SELECT count(*) FROM position_acks), (SELECT count(*) FROM position_holders)";
    assert_eq!(life.numbers::<2>(pages).await, [[1, 4]]);
    let delete = "DELETE FROM subscriptions; DELETE FROM positions";
    life.client.batch_execute(delete).await.unwrap();

    life.take_over().await;

    assert_eq!(life.numbers::<2>(pages).await, [[0, 0]]);
}
