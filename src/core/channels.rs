//! The channels by number and by name, with what is known of each without looking at its messages.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::batch::ChannelRow;
use super::gone::Gone;
use super::guid_window::GuidWindow;
use super::ids::{
    ChannelId, ChannelName, ClientId, DurableName, PositionId, QueueName, Sequence, Subject,
    SubscriptionId,
};
use super::limits::ChannelLimits;
use super::load::Oldest;
use super::policy::Full;
use super::time::Instant;

#[derive(Clone, Debug)]
pub(super) struct Channel {
    pub(super) row: ChannelRow,
    pub(super) limits: ChannelLimits,
    /// The last sequence that is committed; what lies above it may not be delivered yet.
    pub(super) committed: Sequence,
    pub(super) groups: BTreeSet<PositionId>,
    pub(super) keyed: BTreeMap<GroupKey, PositionId>,
    /// Where the online members of its groups are delivered to.
    pub(super) inboxes: BTreeSet<(Subject, PositionId, SubscriptionId)>,
    /// Sizes and times of the oldest messages, as far as they were read from the store.
    pub(super) oldest: VecDeque<Oldest>,
    /// A read for `oldest` found nothing from the first message to this one.
    pub(super) hidden_through: Sequence,
    /// An operator has it emptied.
    pub(super) emptying: Option<Emptying>,
    /// What is gone though no limit dropped it.
    pub(super) gone: Gone,
    /// A read for `oldest` is under way; it saw at least what was committed when it was asked for.
    pub(super) reading_oldest: Option<Sequence>,
    /// The last publish, or when the last subscription left.
    pub(super) last_activity: Instant,
    /// It has been logged that a limit drops messages here.
    pub(super) limit_noticed: bool,
    /// Messages dropped by the batch being gathered.
    pub(super) trimmed: u64,
    pub(super) guid_window: GuidWindow,
    /// Every durable has acked what lies up to here; some may have acked more.
    pub(super) acked_by_all: Sequence,
    /// What becomes of publishes when it is full.
    pub(super) full: Full,
    /// It has been logged in this term that a limit drops what a durable has not acked.
    pub(super) drop_noticed: bool,
    /// A durable that had not when this was last looked at.
    pub(super) slowest: Option<PositionId>,
}

/// The oldest messages of a channel go, whatever its limits allow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Emptying {
    pub(super) through: Sequence,
    /// What has gone so far.
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl Emptying {
    pub(super) fn is_done(&self, channel: &Channel) -> bool {
        channel.row.message_count == 0 || channel.row.first_sequence > self.through
    }
}

/// What makes two subscriptions share a position. A tuple per kind, because joined texts can be ambiguous.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum GroupKey {
    Durable(ClientId, DurableName),
    Queue(QueueName),
    DurableQueue(QueueName, DurableName),
}

impl Channel {
    pub(super) fn new(row: ChannelRow, limits: ChannelLimits, now: Instant) -> Self {
        Self {
            guid_window: GuidWindow::new(row.last_sequence, now),
            committed: row.last_sequence,
            row,
            limits,
            groups: BTreeSet::new(),
            keyed: BTreeMap::new(),
            inboxes: BTreeSet::new(),
            oldest: VecDeque::new(),
            reading_oldest: None,
            hidden_through: Sequence::ZERO,
            emptying: None,
            gone: Gone::default(),
            last_activity: now,
            limit_noticed: false,
            trimmed: 0,
            acked_by_all: Sequence::ZERO,
            slowest: None,
            full: Full::default(),
            drop_noticed: false,
        }
    }

    /// The last message whose publish no standby keeps.
    pub(super) fn settled(&mut self, now: Instant, window: Duration) -> Sequence {
        let last = self.row.last_sequence;
        self.guid_window
            .settled(last, self.last_activity, now, window)
    }

    /// Messages that it holds of these.
    pub(super) fn count(&self, first: Sequence, last: Sequence) -> u64 {
        let first = first.max(self.row.first_sequence);
        let last = last.min(self.row.last_sequence);
        let all = (last.0 + 1).saturating_sub(first.0);
        all.saturating_sub(self.gone.count_within(first, last))
    }

    /// Whether it holds this one, as far as that is known.
    pub(super) fn holds(&self, sequence: Sequence) -> bool {
        sequence >= self.row.first_sequence && !self.gone.contains(sequence)
    }

    /// Online members that are delivered to this inbox.
    pub(super) fn at_inbox<'a>(
        &'a self,
        inbox: &'a Subject,
    ) -> impl Iterator<Item = (PositionId, SubscriptionId)> + 'a {
        let first = (
            inbox.clone(),
            PositionId::default(),
            SubscriptionId::default(),
        );
        let from = self.inboxes.range(first..);
        let same = from.take_while(move |(other, ..)| other == inbox);
        same.map(|&(_, position, id)| (position, id))
    }

    /// The first sequence that is there, as start positions see it: 0 when there never was one.
    pub(super) fn first(&self) -> Sequence {
        if self.row.last_sequence == Sequence::ZERO {
            Sequence::ZERO
        } else {
            self.row.first_sequence
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Channels {
    channels: BTreeMap<ChannelId, Channel>,
    names: BTreeMap<ChannelName, ChannelId>,
    /// Names that differ only in case from an existing one are refused.
    folded_names: BTreeMap<String, ChannelId>,
}

impl Channels {
    pub(super) fn len(&self) -> usize {
        self.channels.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ChannelId, &Channel)> {
        self.channels.iter().map(|(&id, channel)| (id, channel))
    }

    pub(super) fn names(&self) -> &BTreeMap<ChannelName, ChannelId> {
        &self.names
    }

    pub(super) fn find(&self, name: &str) -> Option<ChannelId> {
        self.names.get(name).copied()
    }

    /// The channel whose name equals this one but for the case of its letters.
    pub(super) fn find_folded(&self, name: &ChannelName) -> Option<&ChannelName> {
        let id = self.folded_names.get(&name.folded())?;
        Some(&self.channels.get(id)?.row.name)
    }

    pub(super) fn get(&self, id: ChannelId) -> Option<&Channel> {
        self.channels.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ChannelId) -> Option<&mut Channel> {
        self.channels.get_mut(&id)
    }

    pub(super) fn insert(&mut self, id: ChannelId, channel: Channel) {
        self.names.insert(channel.row.name.clone(), id);
        self.folded_names.insert(channel.row.name.folded(), id);
        self.channels.insert(id, channel);
    }

    pub(super) fn remove(&mut self, id: ChannelId) -> Option<Channel> {
        let channel = self.channels.remove(&id)?;
        self.names.remove(&channel.row.name);
        self.folded_names.remove(&channel.row.name.folded());
        Some(channel)
    }
}
