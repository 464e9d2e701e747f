//! Postgres and the memory store are the same store: the same batches give the same rows, the same loads the same
//! answers.

use std::time::Duration;

use stanby::core::ids::{ChannelId, Epoch, Sequence};

use super::fixture::migrated;
use super::random::{Dice, batch, load};
use super::support::memory_store::MemoryStore;

const SEEDS: u64 = 12;
const BATCHES: u64 = 25;
const LOADS: u64 = 12;
const AN_HOUR: Duration = Duration::from_hours(1);

/// Acceptance: 7.
#[tokio::test]
async fn random_batches_and_loads_give_the_same_as_the_memory_store() {
    let seeds = match std::env::var("STANBY_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..SEEDS).collect(),
    };
    let (mut answers, mut messages) = (0, 0);
    for seed in seeds {
        let Some(fixture) = migrated().await else {
            return;
        };
        let (client, writer) = fixture.writer().await;
        // Not a server's.
        let by_hand = fixture.client().await;
        let mut dice = Dice(seed);
        let mut memory = MemoryStore::default();
        for number in 1..=BATCHES {
            let context = format!("STANBY_SEED={seed}, batch {number}");
            let epoch = Epoch(1 + number / 10);
            let batch = batch(&mut dice, &memory.snapshot(), number);
            writer
                .apply(&client, &batch, epoch)
                .await
                .unwrap_or_else(|error| {
                    panic!("{context}: {error}: {batch:#?}");
                });
            memory.apply(&batch, epoch);
            messages += batch.messages.len();
            if let Some((channel, message)) = batch.messages.first()
                && dice.chance(4)
            {
                punch_hole(&by_hand, *channel, message.sequence).await;
                memory.delete_message(*channel, message.sequence);
            }

            let mut rows = fixture.store.snapshot().await.unwrap();
            // Here the time passes.
            for age in rows.moved.values_mut() {
                assert!(*age < AN_HOUR, "{context}: {age:?}");
                *age = Duration::ZERO;
            }
            assert_eq!(rows, memory.snapshot(), "{context}: {batch:#?}");
            for number in 0..LOADS {
                let load = load(&mut dice, &rows, number);
                let loaded = fixture.store.load(&load).await.unwrap();
                assert_eq!(loaded, memory.load(&load), "{context}: {load:?}");
                answers += 1;
            }
        }
        let stored = client
            .query(
                "SELECT channel_id, sequence, epoch FROM messages ORDER BY 1, 2",
                &[],
            )
            .await
            .unwrap();
        let stored: Vec<(i64, i64, i64)> = stored
            .iter()
            .map(|row| (row.get(0), row.get(1), row.get(2)))
            .collect();
        let expected: Vec<(i64, i64, i64)> = memory
            .messages()
            .map(|(channel, epoch, message)| (channel.0, message.sequence.0, epoch.0))
            .map(|(channel, sequence, epoch)| {
                (
                    channel.cast_signed(),
                    sequence.cast_signed(),
                    epoch.cast_signed(),
                )
            })
            .collect();
        assert_eq!(stored, expected, "STANBY_SEED={seed}");
    }
    assert!(
        answers > 0 && messages > 0,
        "the random batches had nothing in them"
    );
}

async fn punch_hole(client: &tokio_postgres::Client, channel: ChannelId, sequence: Sequence) {
    let (channel, sequence) = (channel.0.cast_signed(), sequence.0.cast_signed());
    client
        .execute(
            "DELETE FROM messages WHERE channel_id = $1 AND sequence = $2",
            &[&channel, &sequence],
        )
        .await
        .unwrap();
}
