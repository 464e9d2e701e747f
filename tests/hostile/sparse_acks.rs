//! Clients that ack every second message, and what each further ack makes the server write: what it changed, whatever else is
//! in flight.

use std::collections::BTreeMap;

use bytestring::ByteString;
use stanby::core::batch::{
    AckedChange, Batch, ChannelRow, ClientRow, Counters, Heartbeat, PositionRow, Progress,
    SubscriptionRow,
};
use stanby::core::ids::{ChannelId, Epoch, PositionId, Sequence, SubscriptionId};
use stanby::core::limits::Limits;
use stanby::core::ranges::Ranges;
use stanby::core::request::Ack;
use stanby::core::snapshot::Snapshot;
use stanby::core::time::Timestamp;
use stanby::core::{Broker, Event, Request};

use super::hoards::{at, broker, connect, hoard, publish, settings};
use super::memory_store::MemoryStore;
use super::pools;

fn ack(broker: &mut Broker, ack_inbox: &ByteString, sequence: u64) {
    let ack = Ack {
        ack_inbox: ack_inbox.clone(),
        channel: publish().channel.to_string().into(),
        sequence: Sequence(sequence),
    };
    broker.handle(Request::Ack(ack), at(1));
}

/// What a batch writes of what is acked: ranges in rows, and pages.
#[derive(Debug, Default, PartialEq, Eq)]
struct Written {
    ranges: usize,
    pages: usize,
}

fn written(batch: &Batch) -> Written {
    let mut written = Written::default();
    for change in batch.progress.values() {
        match &change.acked {
            AckedChange::Row { above, .. } => written.ranges += above.len(),
            AckedChange::Pages { changed, gone, .. } => written.pages += changed.len() + gone.len(),
        }
    }
    written
}

/// Commits progress, which waits for company for a while.
fn flush(broker: &mut Broker) -> Written {
    broker.flush();
    let batch = broker.poll_batch().expect("progress was made");
    broker.handle(Event::Committed(batch.number), at(1));
    assert!(broker.poll_batch().is_none(), "one batch takes all of it");
    written(&batch)
}

#[test]
fn a_commit_writes_what_was_acked_whatever_else_is_in_flight() {
    const SUBSCRIPTIONS: usize = 100;
    let mut broker = broker(Limits::default());
    let ack_inboxes = hoard(&mut broker, SUBSCRIPTIONS, 1024);
    for ack_inbox in ack_inboxes.values() {
        for sequence in (2..1024).step_by(2) {
            ack(&mut broker, ack_inbox, sequence);
        }
    }
    let first = flush(&mut broker);
    assert_eq!(first.ranges, 0);
    assert_eq!(first.pages, SUBSCRIPTIONS);

    for sequence in (1001..1021).step_by(2) {
        for ack_inbox in ack_inboxes.values() {
            ack(&mut broker, ack_inbox, sequence);
        }
        let Written { ranges, pages } = flush(&mut broker);
        assert_eq!((ranges, pages), (0, SUBSCRIPTIONS), "a page each");
    }

    // Others' publishes write nothing of it.
    let (request, reply) = (publish(), None);
    broker.handle(Request::Publish { request, reply }, at(1));
    let batch = broker.poll_batch().expect("a publish is written");
    assert_eq!(written(&batch), Written::default());
    broker.handle(Event::Committed(batch.number), at(1));

    // In order they are narrow rows again, which tell everything.
    for ack_inbox in ack_inboxes.values() {
        for sequence in (1..1024).step_by(2) {
            ack(&mut broker, ack_inbox, sequence);
        }
    }
    assert_eq!(flush(&mut broker), Written::default());
    assert_eq!(broker.contradictions(), [""; 0]);
}

const RANGES: u64 = 100_000;

/// Positions of which every second message is acked, as a server of an earlier version left them.
fn of_an_earlier_version(positions: u64) -> Batch {
    let client = connect();
    let client_row = ClientRow {
        connection_id: client.connection_id,
        heartbeat_inbox: client.heartbeat_inbox,
        protocol: 1,
        ping_interval: 5,
        ping_max_out: 3,
        connected_at: Timestamp(1),
        heartbeat: Heartbeat::default(),
    };
    let channel = ChannelRow {
        name: publish().channel,
        created_at: Timestamp(1),
        deleting: false,
        first_sequence: Sequence(1),
        last_sequence: Sequence(2 * RANGES),
        last_published_at: Timestamp(1),
        message_count: 2 * RANGES,
        byte_count: 2 * RANGES,
    };
    let mut acked_above = Ranges::default();
    for number in 1..=RANGES {
        acked_above.push(Sequence(2 * number), Sequence(2 * number));
    }
    let position = PositionRow {
        channel: ChannelId(1),
        durable_name: None,
        queue_group: None,
        progress: Progress {
            last_sent: Sequence(2 * RANGES),
            acked_floor: Sequence(0),
            acked_above,
        },
    };
    let subscription = |number: u64| SubscriptionRow {
        position: PositionId(number),
        client_id: client.client_id.clone(),
        inbox: pools::subject("in.1"),
        ack_inbox: pools::subject(&format!("ack.{number}")),
        max_in_flight: 200_000,
        ack_wait: std::time::Duration::from_secs(30),
        online: true,
        since: Timestamp(1),
    };
    let numbers = || 1..=positions;
    let rows = |number| (PositionId(number), Some(position.clone()));
    let members = |number| (SubscriptionId(number), Some(subscription(number)));
    Batch {
        counters: Some(Counters {
            channel: 1,
            subscription: positions,
        }),
        channels: BTreeMap::from([(ChannelId(1), Some(channel))]),
        clients: BTreeMap::from([(client.client_id.clone(), Some(client_row))]),
        positions: numbers().map(rows).collect(),
        subscriptions: numbers().map(members).collect(),
        ..Batch::default()
    }
}

#[test]
fn many_ranges_of_an_earlier_term_are_read_and_not_written_again() {
    const POSITIONS: u64 = 16;
    let mut store = MemoryStore::default();
    store.apply(&of_an_earlier_version(POSITIONS), Epoch(1));
    let found = store.snapshot();
    let restored = |rows: Snapshot| Broker::restore(rows, settings(Limits::default()), at(1));
    let ack_all = |broker: &mut Broker, sequence| {
        for number in 1..=POSITIONS {
            ack(broker, &format!("ack.{number}").into(), sequence);
        }
    };
    let mut commit = |broker: &mut Broker| {
        broker.flush();
        let batch = broker.poll_batch().expect("progress was made");
        store.apply(&batch, Epoch(1));
        broker.handle(Event::Committed(batch.number), at(1));
        (written(&batch), store.snapshot())
    };
    let pages = |pages: u64| Written {
        ranges: 0,
        pages: usize::try_from(POSITIONS * pages).expect("a few"),
    };

    let mut first = restored(found);
    ack_all(&mut first, 101);
    // Once they get into pages.
    assert_eq!(commit(&mut first).0, pages(2 * RANGES / 1024 + 1));
    ack_all(&mut first, 150_001);
    let (later, rows) = commit(&mut first);
    assert_eq!(later, pages(1));

    let progress = |rows: &Snapshot| -> Vec<Progress> {
        let rows = rows.positions.values();
        rows.map(|row| row.progress.clone()).collect()
    };
    let before = progress(&rows);
    let mut second = restored(rows);
    assert_eq!(second.contradictions(), [""; 0]);
    ack_all(&mut second, 150_003);
    let (later, rows) = commit(&mut second);
    assert_eq!(later, pages(1));
    for (before, after) in before.into_iter().zip(progress(&rows)) {
        let mut expected = before.acked_above;
        expected.insert(Sequence(150_003), Sequence(150_003));
        assert_eq!(after.acked_above, expected);
    }
}
