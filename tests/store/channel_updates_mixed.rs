//! Rows of `channels` that follow a second later: mixed with those that do not, ten thousand of them, and the room that they take.

use stanby::core::batch::Batch;
use stanby::core::ids::ChannelId;
use stanby::store::LeftForLater;

use super::channel_updates::{CLAIM, Model, ROWS, TERM, number, table};
use super::fixture::{PATIENCE, migrated};
use super::random::Dice;
use super::support::wait::wait_until;

/// With the settings of the leader session, which has ways to join switched off.
#[tokio::test]
async fn a_claim_writes_ten_thousand_channels_that_are_behind_without_going_through_all_for_each() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (client, _writer) = fixture.writer().await;
    client
        .batch_execute(
            "INSERT INTO channels SELECT n, 'c' || n, 1, false, 1, 0, 0, 0, 0 FROM generate_series(1, 10000) n;
             INSERT INTO channel_updates
             SELECT 1, u, array_agg(n), array_agg(1), array_agg(u), array_agg(u), array_agg(u), array_agg(u)
             FROM generate_series(1, 20) u, generate_series(1, 10000) n WHERE (n + u) % 4 = 0 GROUP BY u",
        )
        .await
        .unwrap();
    // The session of the leader has ways to join switched off: the function has settings of its own.
    let function = "SELECT prosrc, array_to_string(proconfig, ',') FROM pg_proc WHERE proname = 'write_channel_updates'";
    let row = client.query_one(function, &[]).await.unwrap();
    let (source, settings): (String, String) = (row.get(0), row.get(1));
    for way in [
        "enable_seqscan=on",
        "enable_hashjoin=on",
        "enable_mergejoin=on",
    ] {
        assert!(settings.contains(way), "{settings}");
    }
    let update = &source[source.find("UPDATE channels").unwrap()..];
    let update = update.split(';').next().unwrap();
    client
        .batch_execute("BEGIN; SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on")
        .await
        .unwrap();
    let plan = client.query(&format!("EXPLAIN {update}"), &[]).await;
    let plan: Vec<String> = plan.unwrap().iter().map(|row| row.get(0)).collect();
    client.batch_execute("COMMIT").await.unwrap();
    let plan = plan.join("\n");
    let goes_through_all = plan.contains("Nested Loop") && plan.contains("Seq Scan on channels");
    assert!(!goes_through_all, "{plan}");

    client.batch_execute(CLAIM).await.unwrap();
    assert_eq!(number(&client, ROWS).await, 0);
    let behind = number(
        &client,
        "SELECT count(*) FROM channels WHERE last_sequence NOT BETWEEN 17 AND 20",
    )
    .await;
    assert_eq!(behind, 0);
}

#[tokio::test]
async fn rows_that_are_gone_leave_their_room_to_new_ones() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let client = fixture.client().await;
    client
        .batch_execute("ALTER TABLE channel_updates SET (autovacuum_enabled = false, toast.autovacuum_enabled = false)")
        .await
        .unwrap();
    let mut sizes = Vec::new();
    for _ in 0..4 {
        client
            .batch_execute(
                "INSERT INTO channel_updates SELECT 1, u, a, a, a, a, a, a
                 FROM generate_series(1, 200) u, (SELECT array_agg(n) AS a FROM generate_series(1::bigint, 2000) n) it;
                 DELETE FROM channel_updates",
            )
            .await
            .unwrap();
        // Postgres counts dead rows a moment later.
        wait_until(PATIENCE, || async {
            let is_done = fixture.store.vacuum_channel_updates().await.unwrap();
            is_done.then_some(()).ok_or("no vacuum is due".to_owned())
        })
        .await;
        sizes.push(number(&client, "SELECT pg_total_relation_size('channel_updates')").await);
    }
    let (first, last) = (sizes[0], sizes[3]);
    assert!(last < first * 2, "{sizes:?}");
}

/// Against channels in memory, after each step; and a claim at any of them finds the same.
#[tokio::test]
async fn any_mixture_of_batches_leaves_what_a_server_knows() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let (client, mut writer) = fixture.writer().await;
    writer.write_channels_later(LeftForLater::default());
    let other = fixture.client().await;
    let mut dice = Dice(16);
    // More than are written at once.
    let (mut model, batch) = Model::of(2_300);
    let mut newest = 2_300;
    writer.apply(&client, &batch, TERM).await.unwrap();
    let (mut appended, mut refused) = (0, 0);
    for step in 0..120 {
        let before = model.clone();
        let mut batch = Batch::default();
        let ids: Vec<u64> = model
            .0
            .iter()
            .filter(|(_, row)| !row.deleting)
            .map(|(id, _)| id.0)
            .collect();
        let kind = dice.below(10);
        let one_in = match kind {
            0..=3 => 1 + dice.below(3),
            4..=5 => 30,
            _ => 500,
        };
        for id in ids {
            if dice.below(one_in) == 0 {
                model.publish(id, &mut batch);
            }
            if dice.below(one_in * 40) == 0 {
                model.drop_first(id, &mut batch);
            }
            if kind == 9 && dice.below(1_000) == 0 {
                let row = model.0.get_mut(&ChannelId(id)).unwrap();
                row.deleting = true;
                batch.channels.insert(ChannelId(id), Some(row.clone()));
            } else if kind == 8 && dice.below(1_000) == 0 {
                batch.messages.retain(|(channel, _)| channel.0 != id);
                batch.channels.insert(ChannelId(id), None);
                batch.trims.remove(&ChannelId(id));
                model.0.remove(&ChannelId(id));
            }
        }
        if dice.chance(2) {
            newest += 1;
            model.make(newest, &mut batch);
        }
        if dice.chance(2) && !batch.messages.is_empty() {
            // Postgres refuses all of it.
            batch.messages.push(batch.messages[0].clone());
            writer.apply(&client, &batch, TERM).await.unwrap_err();
            model = before;
            refused += 1;
        } else {
            writer.apply(&client, &batch, TERM).await.unwrap();
        }
        if dice.chance(4) && writer.catch_up_due().is_some() {
            writer.catch_up(&client, TERM).await.unwrap();
        }
        appended += i64::from(number(&other, ROWS).await > 0);
        assert!(
            fixture.store.snapshot().await.unwrap().channels == model.0,
            "after step {step}"
        );
        if dice.chance(3) {
            other
                .batch_execute(&format!("BEGIN; {CLAIM}"))
                .await
                .unwrap();
            assert!(table(&other).await == model.0, "claimed after step {step}");
            other.batch_execute("ROLLBACK").await.unwrap();
        }
    }
    while writer.catch_up_due().is_some() {
        writer.catch_up(&client, TERM).await.unwrap();
    }
    assert!(table(&client).await == model.0);
    assert_eq!(number(&client, ROWS).await, 0);
    assert!(appended > 30 && refused > 5, "{appended} {refused}");
}
