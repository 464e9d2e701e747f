//! Everything that a new term starts from: the tables' rows, without the messages.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::batch::{ChannelRow, ClientRow, Counters, PageHolders, PositionRow, SubscriptionRow};
use super::channel_limits::Overrides;
use super::gone::GoneRange;
use super::ids::{ChannelId, ChannelName, ClientId, PositionId, Sequence, SubscriptionId};
use super::policy::{Count, Policy};
use super::progress::Pages;
use super::ranges::Ranges;
use super::sql_acks::AckRow;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub counters: Counters,
    pub channels: BTreeMap<ChannelId, ChannelRow>,
    pub clients: BTreeMap<ClientId, ClientRow>,
    /// With what pages say is acked.
    pub positions: BTreeMap<PositionId, PositionRow>,
    /// Only positions that have some are listed. Like holders, they may belong to positions that no longer exist.
    pub pages: BTreeMap<PositionId, Pages>,
    /// By position and page, of queue groups.
    pub holders: BTreeMap<PositionId, BTreeMap<u64, PageHolders>>,
    pub subscriptions: BTreeMap<SubscriptionId, SubscriptionRow>,
    /// Positions that operators have paused. They may be of positions that there are no more, too.
    pub paused: BTreeSet<PositionId>,
    /// For how long positions have been where operators moved them, of those moved lately.
    pub moved: BTreeMap<PositionId, Duration>,
    /// Limits that operators have set for channels, which may not be there.
    pub limits: BTreeMap<ChannelName, Overrides>,
    /// What is noted as gone, by channel and first sequence.
    pub gone: Vec<GoneRange>,
    /// Holes of channels that have as many messages as they count, and so never counted those in the holes.
    pub counted: BTreeMap<ChannelId, Ranges>,
    /// What is acked in SQL and not carried out, in the order of their numbers.
    pub sql_acks: Vec<AckRow>,
    pub policies: Vec<Policy>,
    /// How often messages were delivered, where a policy counts.
    pub counts: BTreeMap<(PositionId, Sequence), Count>,
}
