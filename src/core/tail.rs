//! The most recent messages of all channels, bounded in bytes as a whole. Subscribers that keep up are served
//! from here; those behind it are served from the store.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::ids::{ChannelId, Sequence};
use super::memory_size;
use super::message::Message;
use super::time::Timestamp;

#[derive(Clone, Debug)]
pub(super) struct Tail {
    /// Per channel dense and ascending; a channel without messages here has no entry.
    channels: BTreeMap<ChannelId, VecDeque<Arc<Message>>>,
    /// One entry per message, oldest first, and `stale` entries of messages that are forgotten.
    order: VecDeque<(ChannelId, Sequence)>,
    stale: usize,
    bytes: usize,
    bytes_max: usize,
}

impl Tail {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            channels: BTreeMap::new(),
            order: VecDeque::new(),
            stale: 0,
            bytes: 0,
            bytes_max,
        }
    }

    pub(super) fn push(&mut self, channel: ChannelId, message: Arc<Message>) {
        self.bytes += memory_size::message(&message);
        self.order.push_back((channel, message.sequence));
        self.channels.entry(channel).or_default().push_back(message);
        while self.bytes > self.bytes_max {
            let Some((channel, sequence)) = self.order.pop_front() else {
                break;
            };
            self.evict(channel, sequence);
        }
    }

    fn evict(&mut self, channel: ChannelId, sequence: Sequence) {
        if self.first(channel) != Some(sequence) {
            self.stale -= 1;
            return;
        }
        let Some(messages) = self.channels.get_mut(&channel) else {
            return;
        };
        if let Some(message) = messages.pop_front() {
            self.bytes -= memory_size::message(&message);
        }
        if messages.is_empty() {
            self.channels.remove(&channel);
        }
    }

    /// The first sequence of the channel that is here; everything after it is here too.
    pub(super) fn first(&self, channel: ChannelId) -> Option<Sequence> {
        Some(self.channels.get(&channel)?.front()?.sequence)
    }

    pub(super) fn get(&self, channel: ChannelId, sequence: Sequence) -> Option<&Arc<Message>> {
        let messages = self.channels.get(&channel)?;
        let offset = sequence.0.checked_sub(messages.front()?.sequence.0)?;
        messages.get(usize::try_from(offset).ok()?)
    }

    /// The first message here that is not older than `time`.
    pub(super) fn first_since(&self, channel: ChannelId, time: Timestamp) -> Option<&Arc<Message>> {
        let messages = self.channels.get(&channel)?;
        messages.get(messages.partition_point(|message| message.published_at < time))
    }

    pub(super) fn is_consistent(&self) -> bool {
        let messages = || self.channels.values().flatten();
        let bytes: usize = messages()
            .map(|message| memory_size::message(message))
            .sum();
        let live = self.order.len() - self.stale;
        bytes == self.bytes && messages().count() == live && self.stale <= live
    }

    pub(super) fn forget(&mut self, channel: ChannelId) {
        for message in self.channels.remove(&channel).into_iter().flatten() {
            self.bytes -= memory_size::message(&message);
            self.stale += 1;
        }
        // Not at once: thousands of channels may be deleted in one go.
        if self.stale > self.order.len() / 2 {
            let channels = &self.channels;
            self.order
                .retain(|(channel, _)| channels.contains_key(channel));
            self.stale = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{ClientId, Guid};

    fn message(sequence: u64, bytes: usize) -> Arc<Message> {
        Arc::new(Message {
            sequence: Sequence(sequence),
            published_at: Timestamp(sequence.cast_signed()),
            client_id: ClientId::parse("me".into()).expect("valid"),
            guid: Guid::parse("g".into()).expect("valid"),
            reply: "".into(),
            data: vec![0; bytes].into(),
        })
    }

    #[test]
    fn the_oldest_messages_of_all_channels_make_room() {
        let mut tail = Tail::new(3 * (memory_size::OVERHEAD_BYTES + 3 + 10));
        tail.push(ChannelId(1), message(7, 10));
        tail.push(ChannelId(2), message(1, 10));
        tail.push(ChannelId(1), message(8, 10));
        tail.push(ChannelId(2), message(2, 10));

        assert_eq!(tail.first(ChannelId(1)), Some(Sequence(8)));
        assert_eq!(tail.get(ChannelId(1), Sequence(7)), None);
        assert_eq!(tail.first(ChannelId(2)), Some(Sequence(1)));
        assert_eq!(
            tail.first_since(ChannelId(2), Timestamp(2))
                .map(|m| m.sequence),
            Some(Sequence(2))
        );
    }

    #[test]
    fn forgotten_channels_leave_little_behind() {
        let mut tail = Tail::new(usize::MAX);
        tail.push(ChannelId(1), message(1, 10));
        for id in 2..1000 {
            tail.push(ChannelId(id), message(1, 10));
            tail.forget(ChannelId(id));
            assert!(tail.order.len() <= 2 && tail.is_consistent(), "{tail:?}");
        }

        tail.bytes_max = 0;
        tail.push(ChannelId(1), message(2, 10));
        assert_eq!((tail.bytes, tail.order.len(), tail.stale), (0, 0, 0));
    }

    #[test]
    fn a_forgotten_channel_gives_its_bytes_back() {
        let mut tail = Tail::new(2 * (memory_size::OVERHEAD_BYTES + 3 + 10));
        tail.push(ChannelId(1), message(1, 10));
        tail.forget(ChannelId(1));
        tail.push(ChannelId(2), message(1, 10));
        tail.push(ChannelId(2), message(2, 10));

        assert_eq!(tail.first(ChannelId(2)), Some(Sequence(1)));
    }
}
