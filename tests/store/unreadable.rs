//! Rows of messages that are damaged: by people, by imports, by a disk.

use std::sync::Arc;

use stanby::core::batch::{Batch, ChannelRow};
use stanby::core::ids::{ChannelId, ChannelName, ClientId, Epoch, Guid, LoadId, Sequence};
use stanby::core::load::{Load, LoadQuery, Loaded};
use stanby::core::message::Message;
use stanby::core::time::Timestamp;
use tokio_postgres::Client;

use super::fixture::{Fixture, migrated};
use super::random::Dice;

const CHANNEL: ChannelId = ChannelId(1);

/// Too large for the row, and nothing that could be compressed into it.
const BYTES: usize = 20_000;

/// Channel `orders` with five messages.
async fn five_messages(fixture: &Fixture) -> Client {
    let (client, writer) = fixture.writer().await;
    let mut dice = Dice(1);
    let messages = (1..=5).map(|sequence| {
        let message = Message {
            sequence: Sequence(sequence),
            published_at: Timestamp(1),
            client_id: ClientId::parse("alice".into()).unwrap(),
            guid: Guid::parse("g".into()).unwrap(),
            reply: "".into(),
            data: (0..BYTES / 8)
                .flat_map(|_| dice.roll().to_ne_bytes())
                .collect(),
        };
        (CHANNEL, Arc::new(message))
    });
    let batch = Batch {
        channels: [(CHANNEL, Some(orders(1)))].into(),
        messages: messages.collect(),
        ..Batch::default()
    };
    writer.apply(&client, &batch, Epoch(1)).await.unwrap();
    client
}

fn orders(first_sequence: u64) -> ChannelRow {
    ChannelRow {
        name: ChannelName::parse("orders".into()).unwrap(),
        created_at: Timestamp(1),
        deleting: false,
        first_sequence: Sequence(first_sequence),
        last_sequence: Sequence(5),
        last_published_at: Timestamp(1),
        message_count: 6 - first_sequence,
        byte_count: 1,
    }
}

/// What was read, what could not be, and how far.
async fn load(fixture: &Fixture, want: LoadQuery) -> (Vec<u64>, Vec<(u64, String)>, u64) {
    let load = Load {
        id: LoadId(1),
        channel: CHANNEL,
        query: want,
    };
    match fixture.store.load(&load).await.unwrap() {
        Loaded::Messages {
            messages,
            unreadable,
            through,
            ..
        } => (
            messages.iter().map(|message| message.sequence.0).collect(),
            unreadable
                .into_iter()
                .map(|row| (row.sequence.0, row.why))
                .collect(),
            through.0,
        ),
        other @ (Loaded::FirstSince { .. }
        | Loaded::Oldest { .. }
        | Loaded::Gone(_)
        | Loaded::Outbox(_)
        | Loaded::Policies(_)
        | Loaded::DeadLetters(_)
        | Loaded::Requests(_)) => {
            panic!("{other:?}")
        }
    }
}

fn range(count: usize, bytes: usize) -> LoadQuery {
    LoadQuery::Range {
        first: Sequence(1),
        last: Sequence(5),
        count,
        bytes,
    }
}

fn exactly(sequences: &[u64]) -> LoadQuery {
    LoadQuery::Exactly {
        sequences: sequences.iter().copied().map(Sequence).collect(),
        bytes: usize::MAX,
    }
}

#[tokio::test]
async fn a_row_that_no_server_wrote_is_told_beside_the_messages_around_it() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = five_messages(&fixture).await;
    let damage = "UPDATE messages SET guid = '' WHERE sequence = 2;
        UPDATE messages SET client_id = 'al ice' WHERE sequence = 5";
    client.batch_execute(damage).await.unwrap();
    let guid = || (2, "column guid is not a valid name or subject".to_owned());
    let client_id = || {
        (
            5,
            "column client_id is not a valid name or subject".to_owned(),
        )
    };

    let all = load(&fixture, range(100, usize::MAX)).await;
    assert_eq!(all, (vec![1, 3, 4], vec![guid(), client_id()], 5));
    let cut = load(&fixture, range(2, usize::MAX)).await;
    assert_eq!(cut, (vec![1], vec![guid()], 2));
    let these = load(&fixture, exactly(&[2, 3])).await;
    assert_eq!(these, (vec![3], vec![guid()], 3));
    assert_eq!(
        load(&fixture, exactly(&[5])).await,
        (vec![], vec![client_id()], 5)
    );
}

#[tokio::test]
async fn damage_that_postgres_finds_keeps_back_no_other_message() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = five_messages(&fixture).await;
    // The data of large rows stands in a table beside: of the second its begin gets lost, as on a bad disk.
    let damage = "CREATE EXTENSION pg_surgery;
        DO $$
        DECLARE
            beside text := (SELECT reltoastrelid::regclass FROM pg_class WHERE oid = 'messages'::regclass);
            place tid;
        BEGIN
            EXECUTE format('SELECT ctid FROM %s WHERE chunk_seq = 0 ORDER BY chunk_id OFFSET 1 LIMIT 1', beside)
                INTO place;
            PERFORM heap_force_kill(beside::regclass, ARRAY[place]);
        END $$";
    client.batch_execute(damage).await.unwrap();
    let lost = || vec![(2, "Postgres finds it damaged".to_owned())];

    let all = load(&fixture, range(100, usize::MAX)).await;
    assert_eq!(all, (vec![1, 3, 4, 5], lost(), 5));
    assert_eq!(
        load(&fixture, range(2, usize::MAX)).await,
        (vec![1], lost(), 2)
    );
    // Names and GUIDs count as well as the data.
    let cut = load(&fixture, range(100, 2 * BYTES + BYTES / 2)).await;
    assert_eq!(cut, (vec![1, 3], lost(), 3));
    assert_eq!(
        load(&fixture, exactly(&[1, 2, 4])).await,
        (vec![1, 4], lost(), 4)
    );
    assert_eq!(load(&fixture, exactly(&[2])).await, (vec![], lost(), 2));
}

#[tokio::test]
async fn what_was_passed_over_is_in_the_status_until_limits_drop_it() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (client, writer) = fixture.writer().await;
    let passed_over = |first: u64, sequence: u64, why: &str| Batch {
        channels: [(CHANNEL, Some(orders(first)))].into(),
        unreadable: [((CHANNEL, Sequence(sequence)), why.to_owned())].into(),
        ..Batch::default()
    };
    let shown = async || -> Vec<(String, i64, String)> {
        let report = fixture.store.report().await.unwrap();
        let rows = report.unreadable.into_iter();
        rows.map(|row| (row.channel, row.sequence, row.why))
            .collect()
    };
    let row = |sequence, why: &str| ("orders".to_owned(), sequence, why.to_owned());

    for batch in [
        passed_over(1, 2, "a"),
        passed_over(1, 2, "again"),
        passed_over(1, 4, "b"),
    ] {
        writer.apply(&client, &batch, Epoch(1)).await.unwrap();
    }
    assert_eq!(shown().await, [row(2, "a"), row(4, "b")]);

    let batch = passed_over(3, 5, "c");
    writer.apply(&client, &batch, Epoch(1)).await.unwrap();
    assert_eq!(shown().await, [row(4, "b"), row(5, "c")]);
    let batch = passed_over(3, 4, "once more, and the table is tidied");
    writer.apply(&client, &batch, Epoch(1)).await.unwrap();
    let rows = "SELECT count(*) FROM unreadable_messages";
    let rows: i64 = client.query_one_scalar(rows, &[]).await.unwrap();
    assert_eq!(rows, 2);
}
