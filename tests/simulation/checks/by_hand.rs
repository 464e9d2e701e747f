//! What operators delete by hand: servers know nothing of it any more, and may store it again.

use std::sync::Arc;

use stanby::core::ids::{ChannelId, Sequence};
use stanby::core::message::Message;

use super::ledger::Checks;

impl Checks {
    pub(crate) fn deleted_by_operator(&mut self, channel: ChannelId, sequence: Sequence) {
        let Some(facts) = self.channels.get_mut(&channel) else {
            return;
        };
        facts.live.remove(&sequence);
        facts.by_hand.insert(sequence);
        facts.phantoms += 1;
        let message = facts.history.get(&sequence).zip(facts.name.as_ref());
        facts.phantom_bytes += message.map_or(0, |(message, name)| message.size(name));
    }

    /// The channel may have gone since, and another one of its name be there.
    pub(super) fn is_deleted_by_hand(&self, (channel, sequence): (ChannelId, Sequence)) -> bool {
        let facts = self.channels.get(&channel);
        facts.is_some_and(|facts| facts.by_hand.contains(&sequence))
    }

    /// A failover has lost the message. Where it had been stored a second time, because the first was deleted by hand, the
    /// failover may have lost that deletion, too: then it is stored as it was at first.
    pub(super) fn loses(&mut self, channel: ChannelId, message: &Arc<Message>) {
        let guid = &message.guid;
        if self.stored.get(guid) != Some(&(channel, message.sequence)) {
            return;
        }
        let all = self.channels.iter();
        let mut all = all.flat_map(|(&id, facts)| facts.history.values().map(move |it| (id, it)));
        let earlier = all.find(|(id, it)| {
            let key = (*id, it.sequence);
            it.guid == *guid
                && it.data == message.data
                && !self.failovers.lost.contains(&key)
                && !self.is_deleted_by_hand(key)
        });
        if let Some(key) = earlier.map(|(id, it)| (id, it.sequence)) {
            self.stored.insert(guid.clone(), key);
        } else {
            self.stored.remove(guid);
            self.failovers.lost_publishes.insert(guid.clone());
        }
    }
}
