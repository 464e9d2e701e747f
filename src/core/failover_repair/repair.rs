//! Puts back what the tables lack, with the first batch of the term.

use std::sync::Arc;

use super::{Gap, Gaps};
use crate::core::batch::{ChannelRow, LostRange, RangeOutcome};
use crate::core::broker::Broker;
use crate::core::ids::{ChannelId, Sequence};
use crate::core::notice::Notice;
use crate::core::time::Timestamp;

impl Broker {
    /// Puts back what can be had, and passes over the rest, with the first batch of the term. To be called before
    /// anything else is handled. Tells what becomes of each sequence that was lacking.
    pub fn repair(&mut self, gaps: Gaps) -> Vec<LostRange> {
        let mut outcomes = gaps.given_up;
        for range in &outcomes {
            self.counters.channel = self.counters.channel.max(range.channel.0);
            self.commits.put_counters(self.counters);
        }
        for (id, gap) in gaps.channels {
            let ranges = gap.ranges(id);
            self.repair_channel(id, gap);
            let gone = ranges
                .iter()
                .filter(|range| range.outcome != RangeOutcome::Restored);
            for range in gone {
                self.pass_over_lost(id, range.first, range.last);
            }
            outcomes.extend(ranges);
        }
        self.commits.report_lost(&outcomes);
        outcomes
    }

    fn repair_channel(&mut self, id: ChannelId, gap: Gap) {
        if self.channels.get(id).is_none() {
            // The name may belong to a channel whose deletion got lost too.
            if let Some(older) = self.channels.find(gap.name.as_str()) {
                self.delete_channel(older, Notice::ChannelInactive(gap.name.clone()));
            }
            self.counters.channel = self.counters.channel.max(id.0);
            self.commits.put_counters(self.counters);
            self.insert_channel(
                id,
                ChannelRow {
                    name: gap.name,
                    created_at: self.now.wall,
                    deleting: false,
                    first_sequence: Sequence(1),
                    last_sequence: Sequence::ZERO,
                    last_published_at: Timestamp::default(),
                    message_count: 0,
                    byte_count: 0,
                },
            );
        }
        let channel = self
            .channels
            .get_mut(id)
            .expect("it was there, or was just created");
        let row = &mut channel.row;
        let first = gap.messages.keys().next().copied();
        if row.message_count == 0 {
            row.first_sequence = first.unwrap_or(gap.possible.next());
        }
        row.last_sequence = gap.possible;
        self.commits.touch_channel(id);
        for mut message in gap.messages.into_values() {
            if message.published_at < row.last_published_at {
                // A term that knew less has stored later ones under lower sequences.
                Arc::make_mut(&mut message).published_at = row.last_published_at;
            }
            row.message_count += 1;
            row.byte_count += message.size(&row.name);
            row.last_published_at = message.published_at;
            self.commits.forget_outbox_row(message.guid.clone());
            // Not into the tail, which has no holes: they are read from the store.
            self.commits.append(id, message);
        }
    }
}
