//! The core's writes: the rows as they are to be after the commit, each at most once. Applying a batch is
//! one transaction on the leader session; rows are complete, so there is nothing to read first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::ids::{
    BatchNumber, ChannelId, ChannelName, ClientId, ConnectionId, DurableName, PositionId,
    QueueName, Sequence, Subject, SubscriptionId,
};
use super::message::Message;
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
    /// Of the dropped messages after this one the GUIDs are kept: a standby may remember their publishes. Those kept
    /// of batches that dropped none after it are forgotten.
    pub guids_kept_after: BTreeMap<ChannelId, Sequence>,
    pub clients: BTreeMap<ClientId, Option<ClientRow>>,
    /// Heartbeats of clients that are not in `clients`; they ride along and never cause a batch.
    pub heartbeats: BTreeMap<ClientId, Heartbeat>,
    pub positions: BTreeMap<PositionId, Option<PositionRow>>,
    /// Progress of positions that are not in `positions`.
    pub progress: BTreeMap<PositionId, Progress>,
    pub subscriptions: BTreeMap<SubscriptionId, Option<SubscriptionRow>>,
    /// Rows that a subscription passed over, for people; they ride along and never cause a batch.
    pub unreadable: BTreeMap<(ChannelId, Sequence), String>,
    /// What a failover of Postgres had lost, for people; it goes with the rows of the channels.
    pub lost: Vec<LostRange>,
}

/// Sequences that the tables lacked after Postgres had failed over, and what became of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRange {
    pub channel: ChannelId,
    pub name: ChannelName,
    pub first: Sequence,
    pub last: Sequence,
    pub fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Stored again under their sequences.
    Restored,
    /// Were acked, and cannot be had back.
    Lost,
    /// Passed over, and what they were given to was heard and is stored anew, under later sequences.
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
    /// Of the oldest message kept; `last_sequence` + 1 when there is none.
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
    }
}
