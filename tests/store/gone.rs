//! What the tables note of messages that are gone, and what a read tells of it.

use std::sync::Arc;

use stanby::core::batch::{Batch, ChannelRow, Counters, Trim};
use stanby::core::gone::{GoneNotes, GoneRange, Reason};
use stanby::core::ids::{ChannelId, ChannelName, ClientId, Epoch, Guid, LoadId, Sequence};
use stanby::core::load::{Hole, Load, LoadQuery, Loaded};
use stanby::core::message::{self, Message};
use stanby::core::ranges::Ranges;
use stanby::core::time::Timestamp;
use tokio_postgres::Client;

use super::fixture::{Fixture, migrated};

const CHANNEL: ChannelId = ChannelId(1);
const LAST: u64 = 9;

fn message(sequence: u64) -> Message {
    Message {
        sequence: Sequence(sequence),
        published_at: Timestamp(sequence.cast_signed() * 10),
        client_id: ClientId::parse("alice".into()).unwrap(),
        guid: Guid::parse("guid".into()).unwrap(),
        reply: "é".repeat(usize::try_from(sequence).unwrap()).into(),
        data: vec![b'x'; usize::try_from(sequence).unwrap() * 100].into(),
    }
}

fn orders(messages: u64) -> ChannelRow {
    let name = ChannelName::parse("orders".into()).unwrap();
    ChannelRow {
        byte_count: size(1..=LAST, &name),
        name,
        created_at: Timestamp(1),
        deleting: false,
        first_sequence: Sequence(1),
        last_sequence: Sequence(LAST),
        last_published_at: Timestamp(2),
        message_count: messages,
    }
}

fn size(sequences: impl IntoIterator<Item = u64>, name: &ChannelName) -> u64 {
    let sequences = sequences.into_iter();
    sequences.map(|sequence| message(sequence).size(name)).sum()
}

/// A channel with nine messages, and a session of somebody who is no server.
async fn nine_messages(fixture: &Fixture) -> Client {
    let (client, writer) = fixture.writer().await;
    let batch = Batch {
        counters: Some(Counters {
            channel: 1,
            subscription: 0,
        }),
        channels: [(CHANNEL, Some(orders(LAST)))].into(),
        messages: (1..=LAST)
            .map(|sequence| (CHANNEL, Arc::new(message(sequence))))
            .collect(),
        ..Batch::default()
    };
    writer.apply(&client, &batch, Epoch(1)).await.unwrap();
    fixture.client().await
}

/// First, last and bytes of each range.
async fn noted(fixture: &Fixture) -> Vec<(u64, u64, u64)> {
    let gone = fixture.store.snapshot().await.unwrap().gone;
    gone.iter()
        .map(|range| (range.first.0, range.last.0, range.bytes))
        .collect()
}

async fn texts(client: &Client, query: &str) -> Vec<String> {
    let rows = client.query(query, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn load(fixture: &Fixture, want: LoadQuery) -> Loaded {
    let load = Load {
        id: LoadId(1),
        channel: CHANNEL,
        query: want,
    };
    fixture.store.load(&load).await.unwrap()
}

fn ranges(ranges: &[(u64, u64)]) -> Ranges {
    let ranges = ranges.iter();
    ranges
        .map(|&(first, last)| (Sequence(first), Sequence(last)))
        .collect()
}

#[tokio::test]
async fn what_somebody_deletes_by_hand_is_noted_with_its_size() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = nine_messages(&fixture).await;
    let name = orders(0).name;
    let delete = async |which: &str| {
        let delete = format!("DELETE FROM messages WHERE {which}");
        client.batch_execute(&delete).await.unwrap();
    };

    delete("sequence IN (2, 3, 5)").await;
    let two = [(2, 3, size(2..=3, &name)), (5, 5, size(5..=5, &name))];
    assert_eq!(noted(&fixture).await, two);
    delete("false").await;
    delete("sequence = 4").await;
    let joined = [(2, 4, size(2..=4, &name)), (5, 5, size(5..=5, &name))];
    assert_eq!(noted(&fixture).await, joined);
    let who = "SELECT DISTINCT reason || ' ' || (noted_by = session_user) FROM gone_ranges";
    assert_eq!(texts(&client, who).await, ["deleted true"]);

    // A server accounts for what it drops by itself.
    let (session, writer) = fixture.writer().await;
    let trim = Batch {
        channels: [(
            CHANNEL,
            Some(ChannelRow {
                first_sequence: Sequence(2),
                ..orders(8)
            }),
        )]
        .into(),
        trims: [(
            CHANNEL,
            Trim {
                after: Sequence(0),
                through: Sequence(1),
            },
        )]
        .into(),
        ..Batch::default()
    };
    writer.apply(&session, &trim, Epoch(1)).await.unwrap();
    assert_eq!(noted(&fixture).await, joined);
    client.batch_execute("TRUNCATE messages").await.unwrap();
    let all = noted(&fixture).await;
    let total: u64 = all.iter().map(|(_, _, bytes)| bytes).sum();
    assert_eq!((all[0].0, all[0].1, total), (2, 9, orders(0).byte_count));
}

#[tokio::test]
async fn the_tables_know_the_size_of_a_message_as_the_server_does() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = fixture.client().await;
    let edges: Vec<i64> = (0..63)
        .flat_map(|bits| [(1_i64 << bits) - 1, 1 << bits])
        .chain([-1, i64::MIN, i64::MAX])
        .collect();
    for number in edges {
        let length = i32::try_from(number.clamp(0, 1 << 27)).unwrap();
        for (sequence, published_at, lengths) in [
            (number.max(0), 1, [1, 0, 0]),
            (1, number, [1, 2, 3]),
            (1, 0, [length, 0, length]),
            (7, 7, [5, length, 0]),
        ] {
            let found: i64 = client
                .query_one_scalar(
                    "SELECT message_size($1, $2, $3, $4, $5)",
                    &[
                        &sequence,
                        &published_at,
                        &lengths[0],
                        &lengths[1],
                        &lengths[2],
                    ],
                )
                .await
                .unwrap();
            let [channel, reply, data] = lengths.map(|length| usize::try_from(length).unwrap());
            let expected = message::encoded_size(
                Sequence(sequence.cast_unsigned()),
                Timestamp(published_at),
                channel,
                reply,
                data,
            );
            assert_eq!(found.cast_unsigned(), expected, "{number}");
        }
    }
}

#[tokio::test]
async fn a_read_tells_what_of_its_holes_is_noted_and_nothing_of_the_others() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = nine_messages(&fixture).await;
    client
        .batch_execute(
            "DELETE FROM messages WHERE sequence IN (2, 3, 9);
             SET session_replication_role = replica; DELETE FROM messages WHERE sequence IN (4, 6, 7)",
        )
        .await
        .unwrap();
    let page = |first, last| LoadQuery::Range {
        first: Sequence(first),
        last: Sequence(last),
        count: 100,
        bytes: usize::MAX,
    };
    let gone = async |want: LoadQuery| match load(&fixture, want).await {
        Loaded::Messages { gone, .. } | Loaded::Oldest { gone, .. } => gone,
        other @ (Loaded::FirstSince { .. }
        | Loaded::Gone(_)
        | Loaded::Outbox(_)
        | Loaded::Policies(_)
        | Loaded::DeadLetters(_)
        | Loaded::Requests(_)) => {
            panic!("{other:?}")
        }
    };

    assert_eq!(gone(page(1, 9)).await, ranges(&[(2, 3), (9, 9)]));
    assert_eq!(gone(page(3, 8)).await, ranges(&[(3, 3)]));
    assert_eq!(gone(page(5, 7)).await, Ranges::default());
    let exactly = LoadQuery::Exactly {
        sequences: [3, 5, 6].map(Sequence).into(),
        bytes: usize::MAX,
    };
    assert_eq!(gone(exactly).await, ranges(&[(3, 3)]));
    let oldest = LoadQuery::Oldest {
        first: Sequence(1),
        count: 2,
    };
    assert_eq!(gone(oldest).await, ranges(&[(2, 3)]));
    let since = |time| load(&fixture, LoadQuery::FirstSince(Timestamp(time)));
    let hole = |first, last, gone: &[(u64, u64)]| {
        Some(Hole {
            first: Sequence(first),
            last: Sequence(last),
            gone: ranges(gone),
        })
    };
    let found = |first: u64, hole| Loaded::FirstSince {
        first: (first > 0).then_some(Sequence(first)),
        hole,
    };
    assert_eq!(since(10).await, found(1, None));
    assert_eq!(since(45).await, found(5, hole(2, 4, &[(2, 3)])));
    assert_eq!(since(75).await, found(8, hole(6, 7, &[])));
    assert_eq!(since(85).await, found(0, hole(9, 9, &[(9, 9)])));
}

#[tokio::test]
async fn holes_that_a_channel_never_counted_are_proven_by_counting() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = nine_messages(&fixture).await;
    let remove =
        "SET session_replication_role = replica; DELETE FROM messages WHERE sequence IN (4, 8, 9)";
    client.batch_execute(remove).await.unwrap();
    let counted = async |count: u64| {
        let count = format!("UPDATE channels SET message_count = {count}");
        client.batch_execute(&count).await.unwrap();
        let snapshot = fixture.store.snapshot().await.unwrap();
        snapshot.counted.get(&CHANNEL).cloned()
    };

    assert_eq!(counted(9).await, None);
    assert_eq!(counted(7).await, None, "one is missing that counts");
    assert_eq!(counted(6).await, Some(ranges(&[(4, 4), (8, 9)])));
}

#[tokio::test]
async fn an_operator_says_what_is_gone_and_a_reader_may_not() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = nine_messages(&fixture).await;
    let remove = "DELETE FROM messages WHERE sequence = 2;
        SET session_replication_role = replica; DELETE FROM messages WHERE sequence IN (3, 4, 9)";
    client.batch_execute(remove).await.unwrap();
    let say = async |arguments: &str| -> Result<i64, String> {
        let say = format!("SELECT messages_are_gone({arguments})");
        let said = client.query_one_scalar(&say, &[]).await;
        said.map_err(|error| error.as_db_error().unwrap().message().to_owned())
    };

    assert_eq!(say("'orders', 1, 5").await, Ok(2));
    assert_eq!(say("'orders', 0, 9223372036854775807").await, Ok(1));
    assert_eq!(say("'orders', 1, 9").await, Ok(0));
    assert_eq!(say("'orders', 10, 99").await, Ok(0));
    let first_and_last: Vec<_> = noted(&fixture).await;
    let first_and_last: Vec<_> = first_and_last.iter().map(|(f, l, _)| (*f, *l)).collect();
    assert_eq!(first_and_last, [(2, 2), (3, 4), (9, 9)]);
    let nobody = say("'nothing', 1, 5").await;
    assert_eq!(nobody, Err("there is no channel nothing".to_owned()));
    let twisted = say("'orders', 5, 1").await.unwrap_err();
    assert!(twisted.contains("comes after"), "{twisted}");

    let role = format!("reader_of_{}", fixture.database.name);
    let reader = format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA \"stan by\"\"x\" TO {role};
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA \"stan by\"\"x\" TO {role}; SELECT grant_to_readers();
         SET ROLE {role}"
    );
    client.batch_execute(&reader).await.unwrap();
    assert_eq!(
        texts(&client, "SELECT reason FROM gone_messages")
            .await
            .len(),
        3
    );
    let refused = say("'orders', 1, 9").await.unwrap_err();
    assert!(refused.contains("permission denied"), "{refused}");
}

#[tokio::test]
async fn what_a_batch_changes_of_the_notes_is_written_in_order() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = nine_messages(&fixture).await;
    let delete = "DELETE FROM messages WHERE sequence IN (2, 3, 5, 8, 9)";
    client.batch_execute(delete).await.unwrap();
    let bytes = noted(&fixture).await[0].2;
    let (session, writer) = fixture.writer().await;
    let batch = Batch {
        channels: [(CHANNEL, Some(orders(4)))].into(),
        gone: GoneNotes {
            forgotten_after: [(CHANNEL, Sequence(8))].into(),
            settled: [((CHANNEL, Sequence(2)), bytes)].into(),
            added: vec![(CHANNEL, Sequence(6), Sequence(7), Reason::Counted)],
        },
        ..Batch::default()
    };
    writer.apply(&session, &batch, Epoch(1)).await.unwrap();

    let gone = fixture.store.snapshot().await.unwrap().gone;
    let shown = gone.iter().map(|range: &GoneRange| {
        let is_settled = range.settled == range.bytes;
        (range.first.0, range.last.0, is_settled)
    });
    let shown: Vec<_> = shown.collect();
    assert_eq!(
        shown,
        [(2, 3, true), (5, 5, false), (6, 7, true), (8, 8, false)]
    );
    let Loaded::Gone(unsettled) = load(&fixture, LoadQuery::Gone).await else {
        panic!("what is gone was asked for")
    };
    let unsettled: Vec<u64> = unsettled.iter().map(|range| range.first.0).collect();
    assert_eq!(unsettled, [5, 8]);

    // What limits have dropped is of no interest any more.
    let batch = Batch {
        channels: [(
            CHANNEL,
            Some(ChannelRow {
                first_sequence: Sequence(7),
                ..orders(2)
            }),
        )]
        .into(),
        gone: GoneNotes {
            settled: [((CHANNEL, Sequence(8)), 1)].into(),
            ..GoneNotes::default()
        },
        ..Batch::default()
    };
    writer.apply(&session, &batch, Epoch(1)).await.unwrap();
    let left: Vec<u64> = noted(&fixture).await.iter().map(|range| range.0).collect();
    assert_eq!(left, [6, 8]);
}

#[tokio::test]
async fn an_upgrade_notes_what_was_missing_before() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = nine_messages(&fixture).await;
    let before = "DROP VIEW gone_messages; DROP TABLE gone_ranges;
        DROP TRIGGER note_deleted ON messages; DROP TRIGGER note_truncated ON messages;
        DROP FUNCTION messages_are_gone, note_truncated, note_deleted, note_missing, note_gone, message_size, varint_size;
        DELETE FROM schema_versions WHERE version = 21;
        DELETE FROM messages WHERE sequence IN (1, 2, 5, 9)";
    client.batch_execute(before).await.unwrap();

    fixture.store.migrate().await.unwrap();

    let name = orders(0).name;
    let bytes = size([1, 2, 5, 9], &name);
    assert_eq!(noted(&fixture).await, [(1, 2, 0), (5, 5, 0), (9, 9, bytes)]);
    let reasons = texts(&client, "SELECT DISTINCT reason FROM gone_ranges").await;
    assert_eq!(reasons, ["upgrade"]);
}
