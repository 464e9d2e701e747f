//! Which of the publishes that a standby received are stored.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use stanby::config::Encryption;
use stanby::core::batch::{Batch, ChannelRow, ClientRow, Heartbeat, Trim};
use stanby::core::dedup::StoredPublish;
use stanby::core::ids::{
    BatchNumber, ChannelId, ChannelName, ClientId, ConnectionId, Epoch, Guid, Sequence, Subject,
};
use stanby::core::message::Message;
use stanby::core::replay::{SearchRange, Stored};
use stanby::core::takeover::FindPublishes;
use stanby::core::time::Timestamp;
use stanby::store::{self, Keyring};

use super::fixture::migrated;
use super::support::memory_store::MemoryStore;

fn guid(number: u64) -> Guid {
    Guid::parse(format!("guid-{number}").into()).unwrap()
}

fn guids(numbers: std::ops::Range<u64>) -> impl Iterator<Item = Guid> {
    numbers.map(guid)
}

fn of(channel: u64, numbers: std::ops::Range<u64>) -> impl Iterator<Item = (ChannelId, Guid)> {
    guids(numbers).map(move |guid| (ChannelId(channel), guid))
}

fn guids_of(stored: &Stored) -> impl Iterator<Item = (ChannelId, Guid)> {
    let kept = stored.kept.iter();
    kept.map(|(channel, publish)| (*channel, publish.guid.clone()))
}

/// Of what limits have dropped: what lies in those ranges, and what they have dropped within an hour.
fn find(
    ranges: BTreeMap<ChannelId, SearchRange>,
    guids: &BTreeSet<Guid>,
    others: usize,
) -> FindPublishes {
    FindPublishes {
        ranges,
        guids: guids.clone(),
        dropped_within: Duration::from_hours(1),
        others_max: others,
    }
}

fn range(after: u64, since: i64) -> SearchRange {
    SearchRange {
        after: Sequence(after),
        since: Timestamp(since),
        floor: Sequence::ZERO,
    }
}

/// So many that a comparison of each with each would take minutes; a statement has ten seconds. The tables are
/// new: Postgres knows nothing about them.
#[tokio::test]
async fn tens_of_thousands_of_publishes_are_looked_up_at_once() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = fixture.client().await;
    client
        .batch_execute(
            "INSERT INTO channels
             SELECT channel, 'c' || channel, 0, false, 1, 30000, 30000, 30000, 0
             FROM generate_series(1, 5) AS channel WHERE channel <> 4;
             INSERT INTO messages
             SELECT channel, number, number, 1, 'me', 'guid-' || number, '', ''
             FROM generate_series(1, 5) AS channel, generate_series(1, 30000) AS number
             WHERE channel <> 4",
        )
        .await
        .unwrap();
    let ranges = BTreeMap::from([
        (ChannelId(1), range(0, i64::MAX)),
        (ChannelId(2), range(29_990, i64::MAX)),
        // By number nothing, by time the last hundred.
        (ChannelId(3), range(30_000, 29_901)),
        (ChannelId(4), range(0, 0)),
        // By time all, but no more than the last five.
        (
            ChannelId(5),
            SearchRange {
                floor: Sequence(29_995),
                ..range(30_000, 0)
            },
        ),
    ]);
    let wanted: BTreeSet<Guid> = guids(20_000..60_000).collect();

    let none_else = find(ranges.clone(), &wanted, 0);
    let stored = fixture.store.stored(&none_else).await.unwrap();

    let expected = of(1, 20_000..30_001)
        .chain(of(2, 29_991..30_001))
        .chain(of(3, 29_901..30_001))
        .chain(of(5, 29_996..30_001));
    let kept: BTreeSet<_> = guids_of(&stored).collect();
    assert_eq!(kept, expected.collect());
    assert_eq!(kept.len(), stored.kept.len(), "each once");

    let others = fixture
        .store
        .stored(&find(ranges, &wanted, 7))
        .await
        .unwrap();
    assert_eq!(others.kept.len(), stored.kept.len() + 7);
}

pub(crate) fn channel(first: u64, last: u64) -> ChannelRow {
    ChannelRow {
        name: ChannelName::parse("orders".into()).unwrap(),
        created_at: Timestamp(1),
        deleting: false,
        first_sequence: Sequence(first),
        last_sequence: Sequence(last),
        last_published_at: Timestamp(1),
        message_count: last + 1 - first,
        byte_count: 0,
    }
}

fn message(sequence: u64) -> (ChannelId, Arc<Message>) {
    let message = Message {
        sequence: Sequence(sequence),
        published_at: Timestamp(1),
        client_id: ClientId::parse("alice".into()).unwrap(),
        guid: guid(sequence),
        reply: "".into(),
        data: "x".into(),
    };
    (ChannelId(1), Arc::new(message))
}

/// A batch that publishes up to `last` and drops up to `through`; `settled` says which were published long ago.
fn batch(
    number: u64,
    messages: std::ops::RangeInclusive<u64>,
    through: u64,
    settled: u64,
) -> Batch {
    let id = ChannelId(1);
    Batch {
        number: BatchNumber(number),
        channels: BTreeMap::from([(id, Some(channel(through + 1, *messages.end())))]),
        messages: messages.map(message).collect(),
        trims: BTreeMap::from([(
            id,
            Trim {
                after: Sequence::ZERO,
                through: Sequence(through),
            },
        )]),
        guids_kept_after: BTreeMap::from([(id, Sequence(settled))]),
        ..Batch::default()
    }
}

#[tokio::test]
async fn what_a_limit_dropped_within_a_standby_s_memory_is_known_and_then_forgotten() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (client, writer) = fixture.writer().await;
    let wanted: BTreeSet<Guid> = guids(1..100).collect();
    let mut memory = MemoryStore::default();
    let mut dropped = Vec::new();
    for batch in [
        batch(1, 1..=4, 2, 0),
        batch(2, 5..=9, 6, 3),
        batch(3, 10..=10, 9, 6),
        // All of it was published long ago.
        batch(4, 11..=11, 10, 10),
    ] {
        writer.apply(&client, &batch, Epoch(1)).await.unwrap();
        memory.apply(&batch, Epoch(1));
        let find = find(BTreeMap::new(), &wanted, 0);
        let stored = fixture.store.stored(&find).await.unwrap();
        assert_eq!(stored, memory.stored(&find));
        dropped.push(numbers(&stored));
    }

    // The first lot reaches to 2 and is forgotten when all up to 3 is old.
    assert_eq!(dropped, ["1 2", "4 5 6", "7 8 9", ""]);
}

/// Short and long, plain and encrypted, and dropped by a limit.
#[tokio::test]
async fn what_is_stored_tells_who_sent_it_and_what_it_says() {
    for key in [None, Some("0123456789abcdef".into())] {
        let encrypts = key.is_some();
        let Some(mut fixture) = migrated().await else {
            return;
        };
        let encryption = Encryption {
            key,
            ..Encryption::default()
        };
        let rounds = NonZeroU32::new(1).unwrap();
        let keyring = Keyring::with_iterations(&encryption, "c", rounds);
        fixture.store = fixture.store.clone().with_keys(keyring);
        let (client, mut writer) = fixture.writer().await;
        let advance = "UPDATE leadership SET epoch = 1";
        client.execute(advance, &[]).await.unwrap();
        let keys = fixture.store.keys_and_terms(&client).await.unwrap();
        let sealer = fixture.store.begin_term(&client, Epoch(1), keys).await;
        writer.seal_with(sealer.unwrap());
        let data = |sequence: u64| "x".repeat(if sequence == 2 { 5000 } else { 3 });
        let message = |sequence: u64| {
            let message = Message {
                reply: format!("re {sequence}").into(),
                data: data(sequence).into(),
                ..(*message(sequence).1).clone()
            };
            (ChannelId(1), Arc::new(message))
        };
        let batch = Batch {
            messages: (1..=4).map(message).collect(),
            ..batch(1, 1..=4, 0, 0)
        };
        writer.apply(&client, &batch, Epoch(1)).await.unwrap();
        let trim = self::batch(2, 5..=5, 1, 0);
        writer.apply(&client, &trim, Epoch(1)).await.unwrap();

        let wanted: BTreeSet<Guid> = guids(1..4).collect();
        let ranges = BTreeMap::from([(ChannelId(1), range(0, 0))]);
        let stored = fixture
            .store
            .stored(&find(ranges, &wanted, 1))
            .await
            .unwrap();

        let expected = |sequence: u64, is_known: bool| StoredPublish {
            guid: guid(sequence),
            client_id: ClientId::parse("alice".into()),
            content: is_known.then(|| {
                let reply = format!("re {sequence}");
                store::replay::digest(&reply, data(sequence).as_bytes())
            }),
        };
        let kept: Vec<_> = stored
            .kept
            .iter()
            .map(|(_, publish)| publish.clone())
            .collect();
        // What nobody asked for is told apart where that costs nothing.
        assert_eq!(
            kept,
            [expected(2, true), expected(3, true), expected(4, !encrypts)]
        );
        let dropped: Vec<_> = stored.dropped.iter().map(|(_, publish)| publish).collect();
        assert_eq!(dropped, [&expected(1, !encrypts)]);
    }
}

fn numbers(stored: &Stored) -> String {
    let guids = stored.dropped.iter().map(|(channel, publish)| {
        assert_eq!(channel.as_str(), "orders");
        publish.guid.as_str().trim_start_matches("guid-")
    });
    guids.collect::<Vec<_>>().join(" ")
}

fn client(inbox: &str) -> ClientRow {
    ClientRow {
        connection_id: ConnectionId("c".into()),
        heartbeat_inbox: Subject::parse(inbox.to_owned().into()).unwrap(),
        protocol: 1,
        ping_interval: 5,
        ping_max_out: 88,
        connected_at: Timestamp(1),
        heartbeat: Heartbeat::default(),
    }
}

#[tokio::test]
async fn connections_that_were_closed_or_replaced_are_known_for_a_while() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (session, writer) = fixture.writer().await;
    let mut memory = MemoryStore::default();
    let alice = || ClientId::parse("alice".into()).unwrap();
    let bob = || ClientId::parse("bob".into()).unwrap();
    let inboxes = ["hb.alice.1", "hb.alice.2", "hb.bob", "hb.carol"];
    let subjects = inboxes.map(|inbox| Subject::parse(inbox.into()).unwrap());
    let wanted = inboxes.map(String::from);
    let known = async || fixture.store.closed_connections(&wanted).await.unwrap();
    for (number, clients, closed) in [
        (
            1,
            vec![
                (alice(), Some(client("hb.alice.1"))),
                (bob(), Some(client("hb.bob"))),
            ],
            vec![],
        ),
        // A row that is written again is no other connection.
        (2, vec![(bob(), Some(client("hb.bob")))], vec![]),
        (
            3,
            vec![(alice(), Some(client("hb.alice.2")))],
            vec!["hb.alice.1"],
        ),
        (4, vec![(bob(), None)], vec!["hb.alice.1", "hb.bob"]),
    ] {
        let batch = Batch {
            number: BatchNumber(number),
            clients: clients.into_iter().collect(),
            ..Batch::default()
        };
        writer.apply(&session, &batch, Epoch(1)).await.unwrap();
        memory.apply(&batch, Epoch(1));

        let found = known().await;
        assert_eq!(found, memory.closed_connections(subjects.iter()));
        assert_eq!(
            found.iter().map(Subject::as_str).collect::<Vec<_>>(),
            closed
        );
    }

    session
        .batch_execute("UPDATE closed_connections SET closed_at = now() - interval '11 minutes'")
        .await
        .unwrap();
    let batch = Batch {
        number: BatchNumber(5),
        clients: BTreeMap::from([(alice(), None)]),
        ..Batch::default()
    };
    writer.apply(&session, &batch, Epoch(1)).await.unwrap();
    let found = known().await;
    assert_eq!(
        found.iter().map(Subject::as_str).collect::<Vec<_>>(),
        ["hb.alice.2"]
    );
}

#[tokio::test]
async fn what_no_later_trim_forgot_is_forgotten_by_a_takeover() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (client, writer) = fixture.writer().await;
    for first in [1, 5] {
        let batch = batch(first, first..=first + 3, first + 2, 0);
        writer.apply(&client, &batch, Epoch(1)).await.unwrap();
    }
    client
        .batch_execute(
            "UPDATE dropped_guids SET dropped_at = now() - interval '61 minutes' WHERE through = 3",
        )
        .await
        .unwrap();

    store::replay::forget_dropped(&client, &fixture.url)
        .await
        .unwrap();

    let rows = client.query("SELECT through FROM dropped_guids", &[]).await;
    let left: Vec<i64> = rows.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(left, [7]);
}
