//! What limits have dropped stays in a slice until all of it goes, and no record says where the channel began. So limits
//! are applied again to what the files hold, as the former server does at each start.

use super::index::Entry;
use super::slice::Extent;
use crate::core::limits::ChannelLimits;
use crate::core::time::Timestamp;

/// Takes the entries of a channel from the oldest on, until one is kept.
#[derive(Clone, Copy, Debug)]
pub struct Dropping {
    left: Extent,
    messages: u64,
    bytes: u64,
    /// Messages of this time and before are dropped.
    too_old: i64,
}

impl Dropping {
    /// `None` when the limits drop nothing, whatever the entries are.
    pub fn new(all: Extent, limits: &ChannelLimits, now: Timestamp) -> Option<Self> {
        let messages = limits.messages.unwrap_or(u64::MAX);
        let bytes = limits.bytes.unwrap_or(u64::MAX);
        let too_old = limits.age.map_or(i64::MIN, |age| {
            let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
            now.0.saturating_sub(age)
        });
        let drops = all.count > messages || all.bytes > bytes || too_old > i64::MIN;
        drops.then_some(Self {
            left: all,
            messages,
            bytes,
            too_old,
        })
    }

    /// Whether the oldest message that is left goes. The first that stays ends it.
    pub fn drops(&mut self, oldest: &Entry) -> bool {
        let is_too_much = self.left.count > self.messages || self.left.bytes > self.bytes;
        // Where there are too many or too large ones, the last stays. Age spares none.
        let goes = is_too_much && self.left.count > 1 || oldest.timestamp <= self.too_old;
        if goes {
            self.left.count = self.left.count.saturating_sub(1);
            self.left.bytes = self.left.bytes.saturating_sub(oldest.counted_bytes());
        }
        goes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// How many of ten messages of 100 bytes each, a second apart, are dropped at second 11.
    fn dropped(messages: Option<u64>, bytes: Option<u64>, age: Option<u64>) -> usize {
        let entries: Vec<Entry> = (1..=10)
            .map(|sequence: u64| Entry {
                sequence,
                at: 0,
                timestamp: sequence.cast_signed() * 1_000_000_000,
                size: 60,
            })
            .collect();
        let mut all = Extent::default();
        for entry in &entries {
            all.add(entry);
        }
        let limits = ChannelLimits {
            messages,
            bytes,
            age: age.map(Duration::from_secs),
            ..ChannelLimits::default()
        };
        let Some(mut dropping) = Dropping::new(all, &limits, Timestamp(11_000_000_000)) else {
            return 0;
        };
        entries
            .iter()
            .take_while(|entry| dropping.drops(entry))
            .count()
    }

    #[test]
    fn limits_drop_from_the_oldest_on_and_only_age_drops_the_last() {
        assert_eq!(dropped(None, None, None), 0);
        assert_eq!(dropped(Some(10), Some(1000), None), 0);
        assert_eq!(dropped(Some(7), None, None), 3);
        assert_eq!(dropped(None, Some(799), None), 3);
        assert_eq!(dropped(Some(7), Some(450), None), 6);
        assert_eq!(dropped(None, Some(1), None), 9);
        assert_eq!(dropped(None, None, Some(4)), 7);
        assert_eq!(dropped(Some(9), None, Some(1)), 10);
    }
}
