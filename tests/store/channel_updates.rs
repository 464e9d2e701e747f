//! Rows of `channels` that follow a second later: what the tables say meanwhile, and whoever comes then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stanby::core::batch::{Batch, ChannelRow, Counters, Trim};
use stanby::core::ids::{ChannelId, ChannelName, ClientId, Epoch, Guid, LoadId, Sequence};
use stanby::core::load::{Load, LoadQuery, Loaded};
use stanby::core::message::Message;
use stanby::core::time::Timestamp;
use stanby::leadership::Apply;
use stanby::store::{self, LeftForLater, ServerInfo, Writer};
use tokio_postgres::Client;

use super::fixture::{Fixture, PATIENCE, migrated, server_info};
use super::leadership::granted;
use super::support::wait::wait_until;

pub(crate) const TERM: Epoch = Epoch(1);

/// Channels as a server has them in memory.
#[derive(Clone, Default)]
pub(crate) struct Model(pub(crate) BTreeMap<ChannelId, ChannelRow>);

impl Model {
    pub(crate) fn of(channels: u64) -> (Self, Batch) {
        let mut model = Self::default();
        let mut batch = Batch::default();
        for id in 1..=channels {
            model.make(id, &mut batch);
        }
        (model, batch)
    }

    pub(crate) fn make(&mut self, id: u64, batch: &mut Batch) {
        let row = ChannelRow {
            name: ChannelName::parse(format!("c{id}").into()).unwrap(),
            created_at: Timestamp(1),
            deleting: false,
            first_sequence: Sequence(1),
            last_sequence: Sequence(0),
            last_published_at: Timestamp(0),
            message_count: 0,
            byte_count: 0,
        };
        batch.counters = Some(Counters {
            channel: id,
            subscription: 0,
        });
        batch.channels.insert(ChannelId(id), Some(row.clone()));
        self.0.insert(ChannelId(id), row);
    }

    /// One message, published at ten times its sequence.
    pub(crate) fn publish(&mut self, id: u64, batch: &mut Batch) {
        let id = ChannelId(id);
        let row = self.0.get_mut(&id).unwrap();
        row.last_sequence = row.last_sequence.next();
        row.last_published_at = Timestamp(row.last_sequence.0.cast_signed() * 10);
        row.message_count += 1;
        row.byte_count += 7 + id.0 % 5;
        let message = Message {
            sequence: row.last_sequence,
            published_at: row.last_published_at,
            client_id: ClientId::parse("alice".into()).unwrap(),
            guid: Guid::parse("guid".into()).unwrap(),
            reply: "".into(),
            data: "hello".into(),
        };
        batch.messages.push((id, Arc::new(message)));
        batch.channels.insert(id, Some(row.clone()));
    }

    /// As a limit drops the oldest message.
    pub(crate) fn drop_first(&mut self, id: u64, batch: &mut Batch) {
        let id = ChannelId(id);
        let row = self.0.get_mut(&id).unwrap();
        if row.message_count == 0 {
            return;
        }
        let trim = Trim {
            after: row.first_sequence.previous(),
            through: row.first_sequence,
        };
        row.first_sequence = row.first_sequence.next();
        row.message_count -= 1;
        row.byte_count -= 7 + id.0 % 5;
        batch.trims.insert(id, trim);
        batch.channels.insert(id, Some(row.clone()));
    }

    pub(crate) fn publish_to_all(&mut self) -> Batch {
        let mut batch = Batch::default();
        let ids: Vec<u64> = self.0.keys().map(|id| id.0).collect();
        for id in ids {
            self.publish(id, &mut batch);
        }
        batch
    }
}

pub(crate) async fn number(client: &Client, query: &str) -> i64 {
    client.query_one_scalar(query, &[]).await.unwrap()
}

/// What a server of the version before would read.
pub(crate) async fn table(client: &Client) -> BTreeMap<ChannelId, ChannelRow> {
    let query = "SELECT channel_id, name, created_at_ns, deleting, first_sequence, last_sequence, last_published_at_ns,
        message_count, byte_count FROM channels";
    let rows = client.query(query, &[]).await.unwrap();
    let rows = rows.iter().map(|row| {
        let number = |column: usize| row.get::<_, i64>(column).cast_unsigned();
        let channel = ChannelRow {
            name: ChannelName::parse(row.get::<_, String>(1).into()).unwrap(),
            created_at: Timestamp(row.get(2)),
            deleting: row.get(3),
            first_sequence: Sequence(number(4)),
            last_sequence: Sequence(number(5)),
            last_published_at: Timestamp(row.get(6)),
            message_count: number(7),
            byte_count: number(8),
        };
        (ChannelId(number(0)), channel)
    });
    rows.collect()
}

/// As a server of whatever version begins a term.
pub(crate) const CLAIM: &str = "UPDATE leadership SET epoch = epoch + 1, released_at = NULL";

pub(crate) const ROWS: &str = "SELECT count(*) FROM channel_updates";

/// A hundred channels with a row each and two messages, of which the rows know one.
pub(crate) async fn behind(fixture: &Fixture) -> (Client, Writer, Model) {
    let (client, mut writer) = fixture.writer().await;
    writer.write_channels_later(LeftForLater::default());
    let (mut model, batch) = Model::of(100);
    writer.apply(&client, &batch, TERM).await.unwrap();
    let before = model.clone();
    let batch = model.publish_to_all();
    writer.apply(&client, &batch, TERM).await.unwrap();
    assert!(table(&client).await == before.0, "rows were written");
    while writer.catch_up_due().is_some() {
        writer.catch_up(&client, TERM).await.unwrap();
    }
    assert!(table(&client).await == model.0, "rows were not written");
    let batch = model.publish_to_all();
    writer.apply(&client, &batch, TERM).await.unwrap();
    (client, writer, model)
}

#[tokio::test]
async fn a_batch_of_many_channels_appends_one_row_and_touches_none_of_channels() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (client, writer, mut model) = behind(&fixture).await;
    let versions = "SELECT md5(string_agg(channel_id || ' ' || xmin || ' ' || ctid, ',' ORDER BY channel_id)) FROM channels";
    let before: String = client.query_one_scalar(versions, &[]).await.unwrap();

    let batch = model.publish_to_all();
    writer.apply(&client, &batch, TERM).await.unwrap();

    let after: String = client.query_one_scalar(versions, &[]).await.unwrap();
    assert_eq!(before, after);
    assert_eq!(number(&client, ROWS).await, 2);
    assert!(fixture.store.snapshot().await.unwrap().channels == model.0);

    // A few are written at once, and the takeover after that finds no older values.
    let mut few = Batch::default();
    model.publish(7, &mut few);
    model.drop_first(8, &mut few);
    writer.apply(&client, &few, TERM).await.unwrap();
    let rows = table(&client).await;
    assert!(
        [7, 8]
            .map(ChannelId)
            .iter()
            .all(|id| rows[id] == model.0[id])
    );
    client.batch_execute(CLAIM).await.unwrap();
    assert!(table(&client).await == model.0);
    assert_eq!(number(&client, ROWS).await, 0);
}

#[tokio::test]
async fn whoever_claims_a_term_after_a_crash_finds_each_channel_as_it_was() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (client, writer, model) = behind(&fixture).await;
    drop((client, writer));

    let other = fixture.client().await;
    assert!(table(&other).await != model.0);
    other.batch_execute(CLAIM).await.unwrap();
    assert!(table(&other).await == model.0);
}

/// As docs/backup.md has an operator do after a restore, where the dump was taken in between.
#[tokio::test]
async fn sequences_that_an_operator_skips_stay_skipped() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (client, writer, model) = behind(&fixture).await;
    drop((client, writer));
    let other = fixture.client().await;
    other
        .batch_execute("UPDATE channels SET last_sequence = last_sequence + 1000000")
        .await
        .unwrap();

    other.batch_execute(CLAIM).await.unwrap();

    let rows = table(&other).await;
    for (id, row) in &model.0 {
        let skipped = ChannelRow {
            last_sequence: Sequence(1_000_001),
            ..row.clone()
        };
        assert_eq!(rows[id], skipped);
    }
}

#[tokio::test]
async fn an_orderly_end_leaves_nothing_for_later() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (client, _writer, model) = behind(&fixture).await;
    let release = "UPDATE leadership SET released_at = clock_timestamp()";
    client.batch_execute(release).await.unwrap();
    assert!(table(&client).await == model.0);
}

struct Later(Writer);

impl Apply for Later {
    type Batch = Batch;
    type Error = store::Error;

    async fn apply(
        &mut self,
        client: &Client,
        batch: &Batch,
        epoch: Epoch,
    ) -> Result<(), store::Error> {
        self.0.apply(client, batch, epoch).await
    }

    fn catch_up_due(&self) -> Option<stanby::core::time::Instant> {
        self.0.catch_up_due()
    }

    async fn catch_up(&mut self, client: &Client, epoch: Epoch) -> Result<(), store::Error> {
        self.0.catch_up(client, epoch).await
    }
}

#[tokio::test]
async fn channels_are_written_within_a_moment_when_nothing_more_is_published() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let granted = granted(&fixture, "first", Duration::from_mins(1)).await;
    let client = granted.client();
    ServerInfo::read_or_create(client, &fixture.url, &server_info("test-cluster"))
        .await
        .unwrap();
    let mut writer = Writer::prepare(client, &fixture.url).await.unwrap();
    writer.write_channels_later(LeftForLater::default());
    let mut leader = granted.start(Later(writer));
    let (mut model, batch) = Model::of(3_000);
    leader.submit(batch).unwrap();
    leader.committed().await.unwrap();
    leader.submit(model.publish_to_all()).unwrap();
    leader.committed().await.unwrap();

    let other = fixture.client().await;
    wait_until(PATIENCE, || async {
        match number(&other, ROWS).await {
            0 => Ok(()),
            rows => Err(format!("{rows} rows are left")),
        }
    })
    .await;
    assert!(table(&other).await == model.0);
    leader.release().await;
}

#[tokio::test]
async fn a_row_that_somebody_holds_holds_up_nobody_and_what_waits_stays_small() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (client, writer, mut model) = behind(&fixture).await;
    let holder = fixture.client().await;
    holder
        .batch_execute("BEGIN; SELECT FROM channels WHERE channel_id = 5 FOR UPDATE")
        .await
        .unwrap();

    for _ in 0..5 {
        let batch = model.publish_to_all();
        writer.apply(&client, &batch, TERM).await.unwrap();
        writer.catch_up(&client, TERM).await.unwrap_err();
        writer.catch_up(&client, TERM).await.unwrap();
        assert_eq!(number(&client, ROWS).await, 1, "all that is late, once");
        assert!(fixture.store.snapshot().await.unwrap().channels == model.0);
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
    writer.catch_up(&client, TERM).await.unwrap();

    assert_eq!(number(&client, ROWS).await, 0);
    assert!(table(&client).await == model.0);
    assert_eq!(writer.catch_up_due(), None);
}

#[tokio::test]
async fn a_row_that_somebody_deleted_is_put_back() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (client, writer, mut model) = behind(&fixture).await;
    let other = fixture.client().await;
    other
        .batch_execute("DELETE FROM channels WHERE channel_id = 5")
        .await
        .unwrap();

    let batch = model.publish_to_all();
    writer.apply(&client, &batch, TERM).await.unwrap();
    writer.catch_up(&client, TERM).await.unwrap();

    assert!(table(&client).await == model.0);
}

#[tokio::test]
async fn what_is_asked_in_sql_knows_messages_that_channels_does_not_tell_of_yet() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (client, _writer, model) = behind(&fixture).await;
    let other = fixture.client().await;
    let stored = "SELECT last_sequence FROM channels WHERE channel_id = 5";
    assert_eq!(number(&other, stored).await, 1);
    other
        .batch_execute(
            "INSERT INTO positions VALUES (1, 5, 'd', NULL, 0, 0, '{}');
             INSERT INTO subscriptions (subscription_id, position_id, client_id, inbox, ack_inbox, max_in_flight, ack_wait_ns, online, since_ns)
             VALUES (1, 1, 'c', 'i', 'a', 1, 1, true, 1)",
        )
        .await
        .unwrap();
    let sent = "SELECT string_agg((ack_state(1, n)).was_sent::text, ' ' ORDER BY n) FROM generate_series(1, 3) n";
    let was_sent: String = other.query_one_scalar(sent, &[]).await.unwrap();
    assert_eq!(was_sent, "true true false");
    assert_eq!(number(&other, "SELECT newest_sequence(5)").await, 2);
    assert_eq!(
        number(&other, "SELECT first_sequence_since(5, 15)").await,
        2
    );
    assert_eq!(
        number(
            &other,
            "SELECT sequence_at(5, '1970-01-01 00:00:00.00000001Z'::timestamptz)"
        )
        .await,
        1
    );

    let marks = fixture.store.high_water_marks().await.unwrap();
    assert_eq!(
        marks.channels[&ChannelId(5)].last,
        model.0[&ChannelId(5)].last_sequence
    );

    // Deleted by hand: it is noted, and an ack of it is still one of a message that was sent.
    other
        .batch_execute("DELETE FROM messages WHERE channel_id = 5 AND sequence = 2")
        .await
        .unwrap();
    let noted = "SELECT count(*) FROM gone_ranges WHERE channel_id = 5 AND first_sequence = 2 AND last_sequence = 2";
    assert_eq!(number(&other, noted).await, 1);
    let was_sent: String = other.query_one_scalar(sent, &[]).await.unwrap();
    assert_eq!(was_sent, "true true false");
    let load = Load {
        id: LoadId(1),
        channel: ChannelId(5),
        query: LoadQuery::FirstSince(Timestamp(15)),
    };
    let Loaded::FirstSince {
        first: None,
        hole: Some(hole),
    } = fixture.store.load(&load).await.unwrap()
    else {
        panic!("the message is gone, and its place is told");
    };
    assert_eq!((hole.first, hole.last), (Sequence(2), Sequence(2)));
    assert_eq!(hole.gone.iter().next(), Some((Sequence(2), Sequence(2))));

    other.batch_execute("TRUNCATE messages").await.unwrap();
    let noted = "SELECT count(*) FROM gone_ranges WHERE first_sequence = 1 AND last_sequence = 2 AND reason = 'truncated'";
    assert_eq!(number(&other, noted).await, 100);
    drop(client);
}
