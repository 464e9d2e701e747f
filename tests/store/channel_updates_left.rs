//! Rows of `channels` that cannot be written when a term is claimed: they keep nobody from claiming it, and are written when they can be.

use stanby::core::batch::Batch;
use stanby::core::ids::{ChannelId, Epoch};
use stanby::store::{LeftForLater, Writer};
use tokio_postgres::Client;

use super::channel_updates::{CLAIM, Model, ROWS, TERM, behind, number, table};
use super::fixture::{Fixture, migrated};

const NEXT_TERM: Epoch = Epoch(2);

const REFUSES: &str = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN RAISE EXCEPTION 'channel 5 is under audit'; END$$;
    CREATE TRIGGER refuse BEFORE UPDATE ON channels FOR EACH ROW WHEN (OLD.channel_id = 5) EXECUTE FUNCTION refuse()";

const DROPS: &str = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
    CREATE TRIGGER refuse BEFORE UPDATE ON channels FOR EACH ROW WHEN (OLD.channel_id = 5) EXECUTE FUNCTION refuse()";

const HOLDS: &str = "BEGIN; SELECT FROM channels WHERE channel_id = 5 FOR UPDATE";

/// The next server's session: it knows of `channel_updates`, and has not claimed yet.
async fn next(fixture: &Fixture) -> (Client, Writer, Model) {
    let (client, writer, model) = behind(fixture).await;
    drop((client, writer));
    let (client, writer) = fixture.writer().await;
    (client, writer, model)
}

#[tokio::test]
async fn a_row_of_channels_that_cannot_be_written_keeps_no_server_from_its_term_and_is_written_later()
 {
    for (prevents, allows) in [
        (REFUSES, "DROP TRIGGER refuse ON channels"),
        (DROPS, "DROP TRIGGER refuse ON channels"),
        (HOLDS, "ROLLBACK"),
    ] {
        let Some(fixture) = migrated().await else {
            return;
        };
        let (client, mut writer, mut model) = next(&fixture).await;
        let other = fixture.client().await;
        other.batch_execute(prevents).await.unwrap();

        client.batch_execute(CLAIM).await.unwrap();

        assert_eq!(number(&client, ROWS).await, 1, "{prevents}");
        assert!(fixture.store.snapshot().await.unwrap().channels == model.0);
        let left = LeftForLater::read(&client, &fixture.url).await.unwrap();
        writer.write_channels_later(left);
        let mut batch = Batch::default();
        for id in (1..=100).filter(|id| id % 10 != 5) {
            model.publish(id, &mut batch);
        }
        writer.apply(&client, &batch, NEXT_TERM).await.unwrap();
        assert!(fixture.store.snapshot().await.unwrap().channels == model.0);
        for _ in 0..4 {
            writer.catch_up(&client, NEXT_TERM).await.ok();
            assert!(writer.catch_up_due().is_some(), "channel 5 waits");
            assert!(fixture.store.snapshot().await.unwrap().channels == model.0);
        }

        other.batch_execute(allows).await.unwrap();
        while writer.catch_up_due().is_some() {
            writer.catch_up(&client, NEXT_TERM).await.unwrap();
        }
        assert_eq!(number(&client, ROWS).await, 0);
        assert!(table(&client).await == model.0, "{prevents}");
    }
}

#[tokio::test]
async fn the_term_after_that_finds_what_two_terms_have_left() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (client, mut writer, mut model) = next(&fixture).await;
    client.batch_execute(REFUSES).await.unwrap();
    client.batch_execute(CLAIM).await.unwrap();
    let left = LeftForLater::read(&client, &fixture.url).await.unwrap();
    writer.write_channels_later(left);
    let mut batch = Batch::default();
    (1..=100)
        .filter(|&id| id != 5)
        .for_each(|id| model.publish(id, &mut batch));
    writer.apply(&client, &batch, NEXT_TERM).await.unwrap();
    drop((client, writer));

    let (client, _writer) = fixture.writer().await;
    let release = "UPDATE leadership SET released_at = clock_timestamp()";
    client.batch_execute(release).await.unwrap();
    client.batch_execute(CLAIM).await.unwrap();
    assert!(fixture.store.snapshot().await.unwrap().channels == model.0);
    client
        .batch_execute("DROP TRIGGER refuse ON channels")
        .await
        .unwrap();
    client.batch_execute(CLAIM).await.unwrap();
    assert_eq!(number(&client, ROWS).await, 0);
    assert!(table(&client).await == model.0);
}

/// It would go on with older sequences.
#[tokio::test]
async fn a_version_that_does_not_know_of_rows_left_for_later_gets_no_term() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (client, writer, model) = behind(&fixture).await;
    drop((client, writer));
    let other = fixture.client().await;
    other.batch_execute(DROPS).await.unwrap();
    let epoch = "SELECT epoch FROM leadership";
    let before = number(&other, epoch).await;
    for known in ["", "93"] {
        let sets = format!("SET stanby.schema_version = '{known}'");
        other.batch_execute(&sets).await.unwrap();
        let refused = other.batch_execute(CLAIM).await.unwrap_err();
        let refused = refused.as_db_error().unwrap().message().to_owned();
        assert_eq!(
            refused,
            "1 rows of channels are not written: a trigger, rule or policy on the table prevents that"
        );
    }
    assert_eq!(number(&other, epoch).await, before);
    assert!(fixture.store.snapshot().await.unwrap().channels == model.0);
    assert!(table(&other).await[&ChannelId(5)] != model.0[&ChannelId(5)]);
    let (client, _writer) = fixture.writer().await;
    client.batch_execute(CLAIM).await.unwrap();
    assert_eq!(number(&client, epoch).await, before + 1, "term {TERM:?}");
}
