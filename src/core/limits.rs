//! Every bound and interval that the core's decisions depend on, with NATS Streaming's defaults.

use std::time::Duration;

use bytestring::ByteString;

pub use super::channel_limits::{ChannelLimits, ChannelPattern, Overrides, PerChannel};
use super::ids::ChannelName;
use super::partition::Partition;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub heartbeats: Heartbeats,
    pub limits: Limits,
    /// A second subscription to an active durable ends the first one instead of being refused.
    pub replace_durables: bool,
    /// Ack inboxes are `<prefix>.<subscription id>.<token>`.
    pub ack_prefix: ByteString,
    /// Where other groups of servers serve the other channels; `None`: all channels are this group's.
    pub partition: Option<Partition>,
}

/// How clients are checked for being alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeats {
    /// From an answered (or missed) heartbeat to the next one.
    pub interval: Duration,
    /// Time that a client has to answer one.
    pub timeout: Duration,
    /// A client is closed when it has missed more than so many in a row.
    pub fail_count: u32,
    /// Time that a registered client has to answer when another one connects under its ID.
    pub duplicate_timeout: Duration,
}

/// After a pause that is longer the process was frozen, or kept silent during a slow commit, or NATS was late: that clients have not
/// answered says nothing about them yet.
const PAUSE_MAX: Duration = Duration::from_millis(400);

/// A process that is not frozen may be away for so long on a busy machine.
const PAUSE_MIN: Duration = Duration::from_millis(20);

impl Heartbeats {
    /// [`PAUSE_MAX`], or less where clients have less time to answer.
    pub fn pause_max(&self) -> Duration {
        let shortest = self.timeout.min(self.duplicate_timeout);
        (shortest * 4 / 5).clamp(PAUSE_MIN, PAUSE_MAX)
    }
}

impl Default for Heartbeats {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
            fail_count: 10,
            duplicate_timeout: Duration::from_millis(500),
        }
    }
}

/// `None` means unlimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub clients: Option<usize>,
    pub channels: Option<usize>,
    /// New clients per second, and ten times as many at once.
    pub connects_per_second: Option<u32>,
    /// Messages that a member of a subscription may have unacked, whatever it asks for.
    pub in_flight: Option<u32>,
    /// Messages that all subscriptions together may have unacked before those that have more than their share wait.
    pub in_flight_in_all: usize,
    /// Bytes that clients may take up with what they are called and where they listen; with more, none is taken.
    pub clients_bytes: usize,
    /// The same of subscriptions; those that are resumed are there already.
    pub subscriptions_bytes: usize,
    /// Acks that all subscriptions together may have sent before their messages were delivered in this term.
    pub early_acks_in_all: usize,
    /// Limits of channels without an entry in `per_channel`.
    pub channel: ChannelLimits,
    pub per_channel: PerChannel,
    /// Largest message that NATS delivers, in bytes. Larger ones are skipped and reported.
    pub payload_bytes: usize,
    /// A batch that holds so many messages or bytes takes no more until it has left.
    pub batch_messages: usize,
    pub batch_bytes: usize,
    /// The same for rows of clients and subscriptions, which take longer than messages.
    pub batch_rows: usize,
    /// Bytes of answers that wait for a commit or to leave; with more, no request is taken.
    pub answers_bytes: usize,
    /// Bytes of deliveries that are handed out before the first of them has left. More wait in the groups.
    pub window_bytes: usize,
    /// Bytes of recent messages kept in memory over all channels.
    pub tail_bytes: usize,
    /// Bytes of messages that were read for groups and wait until they can leave.
    pub paged_bytes: usize,
    /// Messages and bytes that one read may bring.
    pub page_messages: usize,
    pub page_bytes: usize,
    /// Reads under way at once; the others wait in line.
    pub loads: usize,
    /// Messages of a channel that one batch may drop.
    pub trim_step: u64,
    /// Progress of subscriptions waits so long for a batch that goes anyway before it makes one.
    pub progress_delay: Duration,
    /// Pause before a failed read is tried again.
    pub load_retry: Duration,
    /// Pause before messages that are missing, and are not known to be gone, are looked for again.
    pub unseen_retry: Duration,
    /// Longer than any standby keeps a publish, or NATS may take to bring it.
    pub duplicate_window: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: None,
            channels: Some(100),
            connects_per_second: Some(1000),
            in_flight: Some(100_000),
            in_flight_in_all: 1_000_000,
            clients_bytes: 64 << 20,
            subscriptions_bytes: 160 << 20,
            early_acks_in_all: 1_000_000,
            channel: ChannelLimits::default(),
            per_channel: PerChannel::default(),
            payload_bytes: 1 << 20,
            batch_messages: 8192,
            batch_bytes: 8 << 20,
            batch_rows: 2048,
            answers_bytes: 16 << 20,
            window_bytes: 1 << 20,
            tail_bytes: 64 << 20,
            paged_bytes: 64 << 20,
            page_messages: 1024,
            page_bytes: 1 << 20,
            loads: 3,
            trim_step: 5000,
            progress_delay: Duration::from_millis(50),
            load_retry: Duration::from_millis(250),
            unseen_retry: Duration::from_secs(2),
            duplicate_window: Duration::from_secs(62),
        }
    }
}

impl Limits {
    /// Takes over what operators set; bounds of the server's own making stay.
    pub fn adopt(&mut self, configured: &Self) {
        self.clients = configured.clients;
        self.channels = configured.channels;
        self.in_flight = configured.in_flight;
        self.connects_per_second = configured.connects_per_second;
        self.channel = configured.channel;
        self.per_channel = configured.per_channel.clone();
    }

    /// The limits of all channels, then those of the entries, from the widest pattern to the narrowest.
    pub fn configured(&self) -> Vec<(String, ChannelLimits)> {
        let entries = self.per_channel.entries();
        let entries = entries.map(|(channels, limits)| (channels.as_str().to_owned(), limits));
        std::iter::once((">".to_owned(), self.channel))
            .chain(entries)
            .collect()
    }

    /// The limits that hold for one channel.
    pub fn of(&self, channel: &ChannelName) -> ChannelLimits {
        self.per_channel.of(channel).unwrap_or(self.channel)
    }
}
