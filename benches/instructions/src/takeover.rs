//! A term begins with a position of which every second message is acked.

use std::time::Duration;

use crate::core::Broker;
use crate::core::batch::{
    ACKS_PAGE, ACKS_PAGE_BYTES, AckedPage, ChannelRow, PositionRow, Progress,
};
use crate::core::ids::{ChannelId, ChannelName, DurableName, PositionId, QueueName, Sequence};
use crate::core::limits::{Heartbeats, Limits, Settings};
use crate::core::snapshot::Snapshot;
use crate::core::time::{Instant, Now, Timestamp};

/// With so many ranges above the floor.
pub fn restore(ranges: usize) {
    let pages = (2 * ranges as u64).div_ceil(ACKS_PAGE);
    let last = Sequence(pages * ACKS_PAGE - 1);
    let mut snapshot = Snapshot::default();
    let channel = ChannelRow {
        name: ChannelName::parse("orders".into()).expect("it is a channel"),
        created_at: Timestamp(1),
        deleting: false,
        first_sequence: Sequence(1),
        last_sequence: last,
        last_published_at: Timestamp(1),
        message_count: last.0,
        byte_count: last.0,
    };
    snapshot.channels.insert(ChannelId(1), channel);
    let mut position = PositionRow {
        channel: ChannelId(1),
        durable_name: DurableName::parse("books".into()),
        queue_group: QueueName::parse("workers".into()),
        progress: Progress {
            last_sent: last,
            ..Progress::default()
        },
    };
    for page in 0..pages {
        let row = AckedPage {
            page,
            pages: 1,
            bits: Some([0b0101_0101; ACKS_PAGE_BYTES].into()),
        };
        for (first, last) in row.ranges() {
            position.progress.acked_above.push(first, last);
        }
        let known = snapshot.pages.entry(PositionId(1)).or_default();
        known.insert(row.page, row.pages);
    }
    snapshot.positions.insert(PositionId(1), position);
    let settings = Settings {
        heartbeats: Heartbeats::default(),
        limits: Limits::default(),
        replace_durables: false,
        ack_prefix: "ack".into(),
        partition: None,
    };
    let now = Now {
        monotonic: Instant::default() + Duration::from_secs(1),
        wall: Timestamp(1),
    };
    let broker = Broker::restore(snapshot, settings, now);
    assert_eq!(broker.counts().subscriptions, 1);
}
