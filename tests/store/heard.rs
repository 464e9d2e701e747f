//! Which of the publishes that a standby heard are stored.

use std::collections::{BTreeMap, BTreeSet};

use stanby::core::ids::{ChannelId, Guid, Sequence};

use super::fixture::migrated;

fn guids(numbers: std::ops::Range<u32>) -> Vec<Guid> {
    let guid = |number| Guid::parse(format!("guid-{number}").into()).unwrap();
    numbers.map(guid).collect()
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
            "INSERT INTO messages
             SELECT channel, number, 0, 1, 'me', 'guid-' || number, '', ''
             FROM generate_series(1, 2) AS channel, generate_series(1, 30000) AS number",
        )
        .await
        .unwrap();
    let heard = BTreeMap::from([
        (ChannelId(1), (Sequence(0), guids(20_000..60_000))),
        (ChannelId(2), (Sequence(29_990), guids(1..30_001))),
        (ChannelId(3), (Sequence(0), guids(1..10))),
    ]);

    let stored = fixture.store.stored(&heard).await.unwrap();

    let first = guids(20_000..30_001)
        .into_iter()
        .map(|guid| (ChannelId(1), guid));
    let second = guids(29_991..30_001)
        .into_iter()
        .map(|guid| (ChannelId(2), guid));
    let expected: BTreeSet<_> = first.chain(second).collect();
    assert_eq!(stored.len(), expected.len());
    assert_eq!(BTreeSet::from_iter(stored), expected);
}
