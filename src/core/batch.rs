//! The core's writes: the rows as they are to be after the commit, each at most once. Applying a batch is
//! one transaction on the leader session; rows are complete, so there is nothing to read first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::admin::{RequestChange, RequestId};
use super::channel_limits::Overrides;
use super::gone::GoneNotes;
use super::ids::{
    BatchNumber, ChannelId, ChannelName, ClientId, ConnectionId, DurableName, PositionId,
    QueueName, Sequence, Subject, SubscriptionId,
};
use super::message::Message;
use super::outbox::OutboxChange;
use super::policy::{Count, DeadLetter};
use super::ranges::Ranges;
use super::time::Timestamp;

/// Applied in the order of the fields. In the maps, `None` deletes the row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub number: BatchNumber,
    /// What `Limits::batch_bytes` bounds.
    pub bytes: usize,
    /// Highest numbers given out, when they changed.
    pub counters: Option<Counters>,
    pub channels: BTreeMap<ChannelId, Option<ChannelRow>>,
    /// Per channel in order of sequence, dense from the channel's last.
    pub messages: Vec<(ChannelId, Arc<Message>)>,
    /// Messages that are dropped. Never more than `Limits::trim_step` at once.
    pub trims: BTreeMap<ChannelId, Trim>,
    /// The GUIDs of the dropped messages after this one are kept: a standby may have kept their publishes. Those kept
    /// of batches that dropped none after it are forgotten.
    pub guids_kept_after: BTreeMap<ChannelId, Sequence>,
    pub clients: BTreeMap<ClientId, Option<ClientRow>>,
    /// Heartbeats of clients that are not in `clients`; they ride along and never cause a batch.
    pub heartbeats: BTreeMap<ClientId, Heartbeat>,
    pub positions: BTreeMap<PositionId, Option<PositionRow>>,
    /// Progress of positions that are not in `positions`.
    pub progress: BTreeMap<PositionId, ProgressChange>,
    /// By position and page: which members of a queue group hold what. They ride along with progress.
    pub holders: BTreeMap<(PositionId, u64), Option<PageHolders>>,
    pub subscriptions: BTreeMap<SubscriptionId, Option<SubscriptionRow>>,
    /// Rows that a subscription passed over, for people; they ride along and never cause a batch.
    pub unreadable: BTreeMap<(ChannelId, Sequence), String>,
    /// What a failover of Postgres had lost, for people; it goes with the rows of the channels.
    pub lost: Vec<LostRange>,
    /// What is known to be gone; it goes with the rows of the channels.
    pub gone: GoneNotes,
    /// Rows that this batch carries out.
    pub outbox: OutboxChange,
    /// How often messages in flight were delivered, where a policy counts. They ride along with progress.
    pub counts: BTreeMap<(PositionId, Sequence), Option<Count>>,
    /// By channel and sequence of the dead letter.
    pub dead_letters: Vec<(ChannelId, Sequence, DeadLetter)>,
    /// Dead letters that a request publishes again with this batch.
    pub redriven: BTreeMap<(ChannelId, Sequence), RequestId>,
    /// What limits drop with this batch though a durable has not acked it: it goes with the rows of the channels.
    pub dropped_unacked: BTreeMap<ChannelId, DroppedUnacked>,
    /// Messages that operators delete.
    pub deleted: Vec<Deleted>,
    /// Limits that operators have set for a channel.
    pub limits: BTreeMap<ChannelName, Option<Overrides>>,
    /// Whether positions are paused, of those for which that changes.
    pub paused: BTreeMap<PositionId, bool>,
    /// Positions that operators have moved: acks of before do not count any more. They go with progress.
    pub moved: BTreeSet<PositionId>,
    /// Requests of operators that this batch carries out, and those that it takes.
    pub requests: BTreeMap<RequestId, RequestChange>,
}

/// Messages of a channel that limits have dropped though a durable had not acked them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedUnacked {
    pub name: ChannelName,
    pub messages: u64,
    pub first: Sequence,
    pub last: Sequence,
}

/// Messages of a channel that an operator deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    pub channel: ChannelId,
    pub first: Sequence,
    pub last: Sequence,
    /// The GUIDs of messages after this one are kept.
    pub settled: Sequence,
}

/// Sequences that the tables lacked after Postgres had failed over, and what became of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRange {
    pub channel: ChannelId,
    pub name: ChannelName,
    pub first: Sequence,
    pub last: Sequence,
    pub outcome: RangeOutcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeOutcome {
    /// Stored again under their sequences.
    Restored,
    /// Were acked, and cannot be had back.
    Lost,
    /// Passed over, and what they were given to was received and is stored again, under later sequences.
    StoredAnew,
    /// May have been given to messages that were acked.
    Unknown,
}

/// The last number given out of each kind. They only grow, so that no number is used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub channel: u64,
    /// Subscriptions and positions share one.
    pub subscription: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRow {
    pub name: ChannelName,
    pub created_at: Timestamp,
    /// Deleted for clients; its messages are being dropped in steps.
    pub deleting: bool,
    /// The sequence of the oldest message kept; `last_sequence` + 1 when there is none.
    pub first_sequence: Sequence,
    pub last_sequence: Sequence,
    /// Publish time of the last message; zero before the first.
    pub last_published_at: Timestamp,
    pub message_count: u64,
    pub byte_count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRow {
    pub connection_id: ConnectionId,
    pub heartbeat_inbox: Subject,
    pub protocol: i32,
    pub ping_interval: i32,
    pub ping_max_out: i32,
    pub connected_at: Timestamp,
    pub heartbeat: Heartbeat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// When the client last answered, or connected.
    pub last_at: Timestamp,
    pub missed: u32,
}

/// What a subscription, or the members of a queue group together, have received and acked. Outlives them when
/// `durable_name` is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionRow {
    pub channel: ChannelId,
    pub durable_name: Option<DurableName>,
    pub queue_group: Option<QueueName>,
    pub progress: Progress,
}

/// In flight are the sequences in `acked_floor + 1 ..= last_sent` that are not in `acked_above`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub last_sent: Sequence,
    /// Everything up to here is acked (or was never wanted).
    pub acked_floor: Sequence,
    /// Acked above the floor; every range starts above `acked_floor + 1` and ends at or below `last_sent`.
    pub acked_above: Ranges,
}

/// What a batch changes of a position's progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgressChange {
    pub last_sent: Sequence,
    pub acked_floor: Sequence,
    pub acked: AckedChange,
}

/// What it changes of what is acked above the floor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AckedChange {
    /// This is all of it.
    Row {
        above: Ranges,
        /// The position had pages, which count no more.
        clears: bool,
    },
    /// All of it is in pages.
    Pages {
        /// Those that the position had count no more.
        clears: bool,
        changed: Vec<AckedPage>,
        /// First pages of rows that lie below the floor.
        gone: Vec<u64>,
    },
}

/// The size of the bits of a page of acks.
pub const ACKS_PAGE_BYTES: usize = 128;

/// Sequences of a page of acks.
pub const ACKS_PAGE: u64 = 8 * ACKS_PAGE_BYTES as u64;

/// Which of the sequences from `page` times [`ACKS_PAGE`] on are acked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AckedPage {
    pub page: u64,
    /// How many pages it covers, this one included; 1 with `bits`.
    pub pages: u64,
    /// One per sequence, the lowest of the first byte first. `None`: all are acked.
    pub bits: Option<Box<[u8]>>,
}

/// Sequences of a page of holders.
pub const HOLDERS_PAGE: u64 = 128;

/// Which subscription holds which sequence of a page, ascending. It means nothing where the sequence is not in flight.
pub type PageHolders = Vec<(Sequence, SubscriptionId)>;

impl AckedPage {
    /// What it says is acked, in ascending order.
    pub fn ranges(&self) -> Ranges {
        let first = self.page.saturating_mul(ACKS_PAGE);
        let end = first.saturating_add(self.pages.saturating_mul(ACKS_PAGE));
        let mut ranges = Ranges::default();
        let Some(bits) = &self.bits else {
            ranges.push(Sequence(first), Sequence(end - 1));
            return ranges;
        };
        for (byte, bits) in (first..end).step_by(8).zip(bits) {
            for bit in (0..8).filter(|bit| bits & (1 << bit) != 0) {
                ranges.push(Sequence(byte + bit), Sequence(byte + bit));
            }
        }
        ranges
    }
}

impl ProgressChange {
    /// Makes of the progress before what it is afterwards.
    pub fn apply(&self, progress: &mut Progress) {
        progress.last_sent = self.last_sent;
        progress.acked_floor = self.acked_floor;
        match &self.acked {
            AckedChange::Row { above, .. } => progress.acked_above = above.clone(),
            AckedChange::Pages {
                clears, changed, ..
            } => {
                if *clears {
                    progress.acked_above = Ranges::default();
                }
                for (first, last) in changed.iter().flat_map(AckedPage::ranges) {
                    progress.acked_above.insert(first, last);
                }
                progress.acked_above.remove_through(self.acked_floor);
            }
        }
    }
}

impl From<Progress> for ProgressChange {
    fn from(progress: Progress) -> Self {
        Self {
            last_sent: progress.last_sent,
            acked_floor: progress.acked_floor,
            acked: AckedChange::Row {
                above: progress.acked_above,
                clears: false,
            },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionRow {
    pub position: PositionId,
    /// The owner; for an offline durable the last one.
    pub client_id: ClientId,
    pub inbox: Subject,
    pub ack_inbox: Subject,
    pub max_in_flight: u32,
    pub ack_wait: Duration,
    /// False for a durable without a client. Members of queue groups are online or gone.
    pub online: bool,
    /// When it was created or last resumed or closed.
    pub since: Timestamp,
}

/// The oldest messages of a channel, to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    /// All up to here were dropped before in this term; zero when it has not dropped any. Without it each trim would
    /// pass over the index entries that the ones before have left to be vacuumed.
    pub after: Sequence,
    pub through: Sequence,
}

impl Batch {
    /// True when nothing in it needs a commit of its own.
    pub fn is_empty(&self) -> bool {
        self.counters.is_none()
            && self.channels.is_empty()
            && self.messages.is_empty()
            && self.trims.is_empty()
            && self.clients.is_empty()
            && self.positions.is_empty()
            && self.subscriptions.is_empty()
            && self.outbox.is_empty()
            && self.requests.is_empty()
            && self.paused.is_empty()
    }
}
