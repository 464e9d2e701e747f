//! What was stored and ended lately, as a takeover asks for it.

use std::collections::BTreeSet;
use std::time::Duration;

use stanby::core::batch::Trim;
use stanby::core::dedup::StoredPublish;
use stanby::core::ids::{ChannelId, ChannelName, Sequence, Subject};
use stanby::core::message::Message;
use stanby::core::replay::Stored;
use stanby::core::takeover::FindPublishes;
use stanby::store::replay::digest;

use super::MemoryStore;

/// What a batch dropped of a channel, as far as it was young.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dropped {
    at: Duration,
    channel: ChannelName,
    publishes: Vec<StoredPublish>,
}

impl MemoryStore {
    pub(super) fn trim(&mut self, channel: ChannelId, trim: Trim, settled: Option<Sequence>) {
        let Trim { after, through } = trim;
        let kept = self.messages.split_off(&(channel, Sequence::ZERO));
        let (gone, kept): (Vec<_>, Vec<_>) = kept.into_iter().partition(|&((c, sequence), _)| {
            c == channel && sequence > after && sequence <= through
        });
        self.messages.extend(kept);
        let Some(settled) = settled else { return };
        self.dropped
            .retain(|&(c, through), _| c != channel || through > settled);
        let mut young = gone.iter().filter(|((_, s), _)| *s > settled).peekable();
        if young.peek().is_none() {
            return;
        }
        let publishes: Vec<StoredPublish> = young.map(|(_, (_, m))| publish(m)).collect();
        let last = gone.last().map_or(through, |((_, last), _)| *last);
        let name = self.rows.channels[&channel].name.clone();
        let dropped = Dropped {
            at: self.clock,
            channel: name,
            publishes,
        };
        self.dropped.insert((channel, last), dropped);
    }

    /// What a takeover is told of the publishes that were heard, and of all others there.
    pub(crate) fn stored(&self, wanted: &FindPublishes) -> Stored {
        let mut stored = Stored::default();
        for (&channel, range) in &wanted.ranges {
            let messages = self.messages.range((channel, Sequence::ZERO)..);
            let messages = messages.take_while(|&(&(c, _), _)| c == channel);
            let recent = messages
                .filter(|(_, (_, m))| m.sequence > range.after || m.published_at >= range.since)
                .filter(|(_, (_, m))| m.sequence > range.floor);
            stored
                .kept
                .extend(recent.map(|(_, (_, m))| (channel, publish(m))));
        }
        for (&(channel, through), dropped) in &self.dropped {
            let range = wanted.ranges.get(&channel);
            let is_in_place = range.is_some_and(|range| through > range.after);
            let is_young = self.clock.saturating_sub(dropped.at) <= wanted.dropped_within
                && range.is_none_or(|range| through > range.floor);
            if is_in_place || is_young {
                let publishes = dropped.publishes.iter();
                let publishes = publishes.map(|publish| (dropped.channel.clone(), publish.clone()));
                stored.dropped.extend(publishes);
            }
        }
        stored
    }

    /// Those of the connections that have ended.
    pub(crate) fn closed_connections<'a>(
        &self,
        connections: impl Iterator<Item = &'a Subject>,
    ) -> BTreeSet<Subject> {
        let ended = connections.filter(|inbox| self.closed.contains(*inbox));
        ended.cloned().collect()
    }
}

fn publish(message: &Message) -> StoredPublish {
    StoredPublish {
        guid: message.guid.clone(),
        client_id: Some(message.client_id.clone()),
        content: Some(digest(&message.reply, &message.data)),
    }
}
